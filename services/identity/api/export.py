"""Everything that identity knows, as streams of lines, for copying into a data warehouse."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from pydantic import AwareDatetime, BaseModel

from services.identity.api.customers import view
from services.identity.domain.customers import microseconds
from services.identity.merging import customers_among
from services.identity.store import customers, positions, timeline
from services.identity.store.positions import Log
from shared.access.gate import needs
from shared.access.scopes import Scope
from shared.mongo import PAGE_ROWS, in_store
from shared.row_stream import row_stream

router = APIRouter(prefix="/export", tags=["export"], dependencies=[needs(Scope.PROFILES_READ)])


class EventsWanted(BaseModel):
    """Nothing given means all. `after`: only what the logs brought later; `since`: only what happened then or later."""

    after: list[tuple[str, int, int]] = []
    since: AwareDatetime | None = None


@router.get("/customers")
async def every_customer() -> StreamingResponse:
    """Every customer as it is now."""
    return row_stream(_customers)


def _customers() -> Iterator[list[dict[str, Any]]]:
    for page in customers.every(PAGE_ROWS):
        yield [view(state) for state in customers_among(page)]


@router.post("/events")
async def every_event(wanted: EventsWanted) -> StreamingResponse:
    """Every event of the timeline, in no order; the head says up to which positions the answer is complete.

    Given these as `after` the next answer has exactly the events that this one has not.
    """
    committed = await in_store(positions.committed)
    after = {(topic_id, partition): offset for topic_id, partition, offset in wanted.after}
    since = None if wanted.since is None else microseconds(wanted.since)
    head = {"positions": [[*log, offset] for log, offset in sorted(committed.items())]}
    return row_stream(lambda: _events(after, committed, since), head)


def _events(after: dict[Log, int], upto: dict[Log, int], since: int | None) -> Iterator[list[dict[str, Any]]]:
    for page in timeline.every(after, upto, since):
        yield [{"profile_id": each["profile"], "event": msgspec.Raw(bytes(each["event"]))} for each in page]
