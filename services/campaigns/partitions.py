"""The ledger's place in customer-events-v1: catches up from identity's timeline when the log is another one than before."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Protocol

from services.campaigns import metrics
from services.campaigns.handlers.loyalty import Posting
from services.campaigns.handlers.reading import read_purchases
from services.campaigns.store import watermarks
from services.campaigns.store.watermarks import Watermark
from shared.contracts.topics import CUSTOMER_EVENTS
from shared.mongo import in_store
from shared.service import OpenedPartition
from shared.streaming.records import ORIGIN_HEADER, Batch, Position, Record

log = logging.getLogger(__name__)


class Timeline(Protocol):
    """What identity has stored for one partition: first up to which origins it is complete, then the events."""

    @property
    def committed(self) -> Iterable[Position]: ...
    def __aiter__(self) -> AsyncIterator[Sequence[Record]]: ...


ReadTimeline = Callable[[int, Sequence[Position]], Awaitable[Timeline]]
"""Reads a partition's events, except those covered by the positions given. Raises Unavailable, also in the middle."""


class LedgerPartitions:
    """Implements Partitions. The watermarks only shorten a catch-up: entries are exact by their keys alone."""

    def __init__(self, posting: Posting, timeline: ReadTimeline) -> None:
        self._posting = posting
        self._timeline = timeline
        self._marks: dict[int, Watermark] = {}
        self._moved: set[int] = set()

    async def open(self, opened: OpenedPartition) -> int | None:
        """Go on where the group was; in a log not seen before, catch up and read it from its beginning."""
        if opened.topic != CUSTOMER_EVENTS.name:
            return None
        mark = await in_store(watermarks.load, opened.partition)
        start = None
        if mark.topic_id != opened.topic_id:
            await self._catch_up(opened, mark)
            start = 0
        self._marks[opened.partition] = mark
        return start

    async def _catch_up(self, opened: OpenedPartition, mark: Watermark) -> None:
        """Enter what the timeline holds beyond the watermark. Old causes post points, and nothing else listens here."""
        log.info("partition %s: the log is another one; catching up from the timeline", opened.partition)
        timeline = await self._timeline(opened.partition, mark.positions())
        async for records in timeline:
            purchases, rejects = read_purchases(records)
            await self._posting.post(purchases)
            metrics.CAUGHT_UP.inc(len(records))
            for reject in rejects:
                log.warning("an event of the timeline cannot be read and earns nothing: %s", reject.reason)
        for position in timeline.committed:
            mark.cover(position)
        mark.topic_id = opened.topic_id
        await in_store(watermarks.save, opened.partition, mark)

    async def close(self, topic: str, partition: int) -> None:
        """Keep how far the partition came."""
        if topic == CUSTOMER_EVENTS.name:
            await self._save(partition)
            self._marks.pop(partition, None)

    def advance(self, batch: Batch) -> None:
        """Everything in the batch is in the ledger."""
        mark = self._marks.setdefault(batch.partition, Watermark(batch.topic_id))
        for position in _highest_origins(batch):
            mark.cover(position)
        self._moved.add(batch.partition)

    async def save(self) -> None:
        """Keep how far the partitions came. Behind the stream: what is lost with a crash is covered again."""
        for partition in list(self._moved):
            await self._save(partition)

    async def _save(self, partition: int) -> None:
        if partition in self._moved:
            await in_store(watermarks.save, partition, self._marks[partition])
            self._moved.discard(partition)


def _highest_origins(batch: Batch) -> list[Position]:
    """The furthest position of each origin partition in the batch."""
    highest: dict[str, int] = {}
    for record in batch.records:
        for name, value in record.headers:
            if name == ORIGIN_HEADER:
                origin, offset, _ = value.decode().rsplit("/", 2)
                highest[origin] = max(highest.get(origin, -1), int(offset))
    split = ((origin.rsplit("/", 1), offset) for origin, offset in highest.items())
    return [Position(topic_id, int(partition), offset) for (topic_id, partition), offset in split]
