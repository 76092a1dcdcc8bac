"""Who enters and leaves segments, as it happens: server-sent events."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse

from services.segmentation.api.segments import check_known
from services.segmentation.live_changes import BadPosition, Change, Listener, LiveChanges, TooManyListeners, Wanted
from services.segmentation.own_segments import read_segments
from shared.access.gate import needs
from shared.access.scopes import Scope
from shared.mongo import in_store
from shared.problems import Problem
from shared.streaming.errors import Unavailable

log = logging.getLogger(__name__)

RETRY_MILLISECONDS = 2000
"""How long a client waits before it comes again."""

Named = Annotated[list[str], Query(max_length=100)]
After = Annotated[str, Query(description="The id of the newest event that was seen; for clients that cannot send `Last-Event-ID`.")]
LastEventId = Annotated[str, Header(alias="Last-Event-ID", description="The id of the newest event that was seen.")]


class EventStream(StreamingResponse):
    """Server-sent events; nobody on the way may keep or hold them back."""

    media_type = "text/event-stream"

    def __init__(self, content: AsyncIterator[bytes]) -> None:
        super().__init__(content, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})


def add_changes(router: APIRouter, live: LiveChanges) -> None:
    """Live changes."""
    answers: dict[int | str, dict[str, Any]] = {
        200: {"description": "Events without end.", "content": {"text/event-stream": {}}},
        503: {"description": "The broker does not answer, or too many listen already."},
    }

    # FastAPI would ask the class for its status, which it does not have as an argument: there were no description without this one.
    @router.get(
        "/v1/segments/changes", status_code=200, dependencies=[needs(Scope.PROFILES_READ)], response_class=EventStream, responses=answers
    )
    async def changes(segment: Named = [], customer: Named = [], after: After = "", last_event_id: LastEventId = "") -> EventStream:  # noqa: B006
        """Every entry and exit from now on, or after an event that was seen; of these segments and customers, or of all."""
        known = await in_store(read_segments)
        for name in segment:
            check_known(name, known)
        try:
            listener = await live.listen(Wanted(frozenset(segment), frozenset(customer)), last_event_id or after)
        except BadPosition:
            raise Problem(422, "Invalid request", "`Last-Event-ID` and `after` must be the id of an event of this stream.") from None
        except TooManyListeners:
            raise Problem(503, "Too many listeners", "Close a stream, or ask another process.", {"Retry-After": "30"}) from None
        return EventStream(_lines(listener))


async def _lines(listener: Listener) -> AsyncIterator[bytes]:
    yield f"retry: {RETRY_MILLISECONDS}\n".encode() + _moved(listener.position)
    if listener.missed is not None:
        yield b"event: missed\ndata: " + json.dumps({"reason": listener.missed}).encode() + b"\n\n"
    try:
        async with aclosing(listener.told()) as telling:
            async for told in telling:
                yield b"".join(_moved(position) if change is None else _event(change, position) for change, position in told)
    except Unavailable as away:
        # The headers are long gone: who comes again goes on where this ends.
        log.warning("a stream of changes ends: %s", away)


def _moved(position: str) -> bytes:
    """A comment that keeps the connection open, and an id without an event: whoever comes again need not read all of it again."""
    return f": waiting\nid: {position}\n\n".encode()


def _event(change: Change, position: str) -> bytes:
    # JSON has line breaks between its parts only.
    line = change.event.replace(b"\r", b" ").replace(b"\n", b" ")
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (position.encode(), change.event_type.encode(), line)
