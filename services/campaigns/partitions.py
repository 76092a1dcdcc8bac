"""The ledger's place in customer-events-v1: catches up from identity's timeline where the log does not follow on what was read."""

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
FirstOffset = Callable[[int], Awaitable[int]]
"""The first offset that retention has left in a partition of customer-events-v1. Raises Unavailable."""


class LedgerPartitions:
    """Implements Partitions. The watermarks only shorten a catch-up: entries are exact by their keys alone."""

    def __init__(self, posting: Posting, timeline: ReadTimeline, first_offset: FirstOffset) -> None:
        self._posting = posting
        self._first_offset = first_offset
        self._timeline = timeline
        self._marks: dict[int, Watermark] = {}
        self._moved: set[int] = set()

    async def open(self, opened: OpenedPartition) -> int | None:
        """Go on where the group was.

        In a log not seen before, and where retention removed what was not read, catch up and read the log from its beginning:
        Kafka's clients pass over such a gap without a word.
        """
        if opened.topic != CUSTOMER_EVENTS.name:
            return None
        mark = await in_store(watermarks.load, opened.partition)
        start = None
        # Asked for before the timeline is: what is removed meanwhile was in the timeline long before.
        first = await self._first_offset(opened.partition)
        if mark.topic_id != opened.topic_id or mark.next_offset < first:
            await self._catch_up(opened, mark)
            start = mark.next_offset = first
            await in_store(watermarks.save, opened.partition, mark)
        self._marks[opened.partition] = mark
        return start

    async def _catch_up(self, opened: OpenedPartition, mark: Watermark) -> None:
        """Enter what the timeline holds beyond the watermark. Old causes post points, and nothing else listens here."""
        why = "offsets before its beginning were not read" if mark.topic_id == opened.topic_id else "it is another log"
        log.info("partition %s of %s: %s; catching up from the timeline", opened.partition, opened.topic, why)
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
        mark.next_offset = max(mark.next_offset, batch.records[-1].offset + 1)
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
