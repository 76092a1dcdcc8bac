"""The timeline as a stream of lines, for services that lost their log or their state."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Annotated

import msgspec
from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from services.identity.store import positions, timeline
from services.identity.store.positions import Log
from services.identity.store.timeline import Told
from shared.access.gate import needs
from shared.access.scopes import Scope
from shared.contracts.topics import PARTITION_COUNT
from shared.mongo import in_store

router = APIRouter(tags=["timeline"], dependencies=[needs(Scope.INTERNAL)])
_encode = msgspec.json.Encoder().encode


class TimelineRequest(BaseModel):
    """A partition of customer-events-v1, and the origins up to which the reader has its events."""

    partition: Annotated[int, Field(ge=0, lt=PARTITION_COUNT)]
    after: list[tuple[str, int, int]] = []


@router.post("/timeline/read")
async def read(asked: TimelineRequest) -> StreamingResponse:
    """First how far the timeline is complete, then every event that the reader lacks up to there, then how many these were.

    The events of each origin log come in its order. Where the last line is missing, the answer is not whole.
    """
    committed = await in_store(positions.committed)
    after = {(topic_id, partition): offset for topic_id, partition, offset in asked.after}
    return StreamingResponse(_lines(asked.partition, committed, after), media_type="application/x-ndjson")


async def _lines(target: int, committed: Mapping[Log, int], after: Mapping[Log, int]) -> AsyncIterator[bytes]:
    yield _encode({"committed": [[*log, offset] for log, offset in sorted(committed.items())]}) + b"\n"
    count = 0
    for log, upto in sorted(committed.items()):
        if after.get(log, -1) >= upto:
            # Most logs of a long life are lost ones that every reader has read to their ends.
            continue
        pages = timeline.told(str(target), *log, after.get(log, -1), upto)
        while (page := await in_store(next, pages, None)) is not None:
            yield b"".join(_line(log, told) for told in page)
            count += len(page)
    yield _encode({"end": count}) + b"\n"


def _line(log: Log, told: Told) -> bytes:
    origin = _encode([*log, told.offset, told.appended_ms])
    return b'{"key":"%b","origin":%b,"value":%b}\n' % ((told.profile or "").encode(), origin, told.event)
