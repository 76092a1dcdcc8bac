"""Opening and closing partitions: from the snapshot and the changelog, or, where logs were lost, from identity's timeline."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.segmentation import metrics
from services.segmentation.changelog import market_from, meta_message
from services.segmentation.copies import Copies
from services.segmentation.decoding import origin_of
from services.segmentation.domain.models.scoring_model import Market
from services.segmentation.domain.state import CustomerState
from services.segmentation.handlers import apply_history
from services.segmentation.owned import EVERY_ROW, Owned
from services.segmentation.positions import NOTHING, Positions
from services.segmentation.recovery import Recovered, Recovery
from services.segmentation.snapshots import Snapshot, SnapshotFiles, take_snapshot
from services.segmentation.trait_columns import fill
from services.segmentation.worker import Worker
from shared.contracts.topics import CUSTOMER_EVENTS, CUSTOMERS, OFFERS, PRIVACY, PROFILE_ROWS, SEGMENTATION_STATE
from shared.letters import ReadLetters
from shared.service import OpenedPartition
from shared.streaming.errors import Unavailable
from shared.streaming.records import Position, Record

log = logging.getLogger(__name__)

CHUNK = 5000


class Timeline(Protocol):
    """Everything that identity has stored for a partition of customer-events-v1 beyond a vector."""

    @property
    def committed(self) -> Sequence[Position]:
        """How far it goes, by origin log."""

    def __aiter__(self) -> AsyncIterator[Sequence[Record]]: ...

    async def close(self) -> None:
        """Let go of it; harmless after its end."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where rows come from when a partition is opened."""

    read_changelog: Callable[[int, int], AsyncIterator[Sequence[Record]]]
    """(partition, first offset) -> record batches up to the present end."""
    changelog_bounds: Callable[[int], Awaitable[tuple[int, int]]]
    """partition -> its first offset, and where it ends now."""
    events_bounds: Callable[[int], Awaitable[tuple[int, int]]]
    """The same of customer-events-v1."""
    customers_bounds: Callable[[int], Awaitable[tuple[int, int]]]
    """The same of customers-v1."""
    read_timeline: Callable[[int, Sequence[Position]], Awaitable[Timeline]]
    """(partition, vector) -> what lies beyond the vector."""
    read_customers: Callable[[int, int], AsyncIterator[Sequence[Record]]]
    """The same of customers-v1: where traits that rules name are taken from."""
    read_copies: Callable[[int, int], AsyncIterator[Sequence[Record]]]
    """The same of profile-rows-v1."""
    read_products: Callable[[int, int], AsyncIterator[Sequence[Record]]]
    """The same of products-v1."""
    follow_products: Callable[[], AsyncIterator[tuple[int, Sequence[Record]]]]
    """Its records as they come, by partition."""
    read_models: Callable[[int, int], AsyncIterator[Sequence[Record]]]
    """The same of scoring-models-v1 as of the changelog."""
    follow_models: Callable[[], AsyncIterator[Sequence[Record]]]
    """Its records as they come."""
    read_letters: ReadLetters
    """Everything in dead-letters-v1."""
    snapshots: SnapshotFiles
    new_generation: Callable[[], int] = lambda: int(time.time() * 1000)
    """Milliseconds of the wall clock: higher than any generation given before."""


class SegmentationPartitions:
    """Rows belong to a partition number: customer-events-v1 and customers-v1 with the same number share them."""

    def __init__(self, worker: Worker, sources: Sources, settle_read_model: Callable[[], Awaitable[None]] | None = None) -> None:
        self._worker = worker
        self._sources = sources
        self._settle_read_model = settle_read_model
        self._topic_ids: dict[str, str] = {}
        self._users: defaultdict[int, set[str]] = defaultdict(set)
        self._opening: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def start(self, topic_ids: Mapping[str, str]) -> None:
        """Learn which logs are there; a worker leaves when one of them is made anew."""
        self._topic_ids.update(topic_ids)

    async def open(self, opened: OpenedPartition) -> int | None:
        """Recover the rows, unless the other topic's partition did; the answer is where they ended. Raises Unavailable."""
        number = opened.partition
        async with self._opening[number]:
            owned = self._worker.owned.get(number)
            if owned is None:
                owned = self._worker.owned[number] = await self._recover(number)
            self._users[number].add(opened.topic)
        positions = owned.positions
        if opened.topic == PRIVACY.name:
            # What is read of it again changes nothing, so the group's own commits are enough.
            return None
        if opened.topic == PROFILE_ROWS.name:
            return owned.copies.position
        if opened.topic == OFFERS.name:
            return positions.resume_offers(opened.topic_id)
        return positions.resume if opened.topic == CUSTOMER_EVENTS.name else positions.customers_applied + 1

    async def close(self, topic: str, partition: int) -> None:
        """Let the rows go when the last of their topics goes; what cannot be written now is recovered by the next owner."""
        users = self._users[partition]
        users.discard(topic)
        if users or partition not in self._worker.owned:
            return
        owned = self._worker.owned.pop(partition)
        if self._settle_read_model is not None:
            await self._settle_read_model()
        if owned.applying:
            return
        try:
            await self._worker.write(owned)
            await self._write_meta(owned)
            await self.keep_snapshot(owned)
        except Unavailable as away:
            log.warning("partition %d is left without a last snapshot: %s", partition, away)

    async def keep_snapshot(self, owned: Owned) -> None:
        """Copy the rows to disk."""
        # The end is asked for first: all that the copy has was written before or is read again, which changes nothing.
        end = await self.changelog_end(owned.number)
        snapshot = self.copy(owned, end)
        if snapshot is not None:
            await self.write_snapshot(owned.number, snapshot)

    async def changelog_end(self, partition: int) -> int:
        """Where the changelog of a partition ends now. Raises Unavailable."""
        return (await self._sources.changelog_bounds(partition))[1]

    def copy(self, owned: Owned, changelog_end: int) -> Snapshot | None:
        """The rows as they are; None while something waits to be written, because a copy must never know more than the changelog."""
        if owned.has_unsaid() or owned.applying or owned.ahead:
            return None
        return take_snapshot(owned.state, owned.meta(self._worker.market), self._topic_ids[SEGMENTATION_STATE.name], changelog_end)

    async def write_snapshot(self, partition: int, snapshot: Snapshot) -> None:
        """Put it on disk; a disk that cannot take it costs time at the next start and nothing else."""
        with metrics.SNAPSHOT_SECONDS.time():
            try:
                await asyncio.to_thread(self._sources.snapshots.write, partition, snapshot)
            except OSError as error:
                log.warning("the snapshot of partition %d could not be written: %s", partition, error)

    async def _recover(self, number: int) -> Owned:
        began = time.perf_counter()
        copies = await self._read_copies(number)
        recovered, snapshot = await self._read(number)
        if recovered is not None and not recovered.meta.catching_up:
            owned = self._take_over(number, recovered)
            owned.copies = copies
            way = "changelog"
            if self._is_of_these_logs(owned) and await self._follows_on(owned):
                await self._announce(owned, recovered)
            else:
                way = "timeline"
                await self._catch_up(owned)
        else:
            way = "timeline"
            owned = self._start_from(number, recovered, snapshot)
            owned.copies = copies
            await self._catch_up(owned)
        await fill(owned.state, number, self._worker.wanted_traits(), self._sources.read_customers)
        owned.owe_copies()
        await self._worker.write(owned)
        seconds = time.perf_counter() - began
        metrics.RECOVERY_SECONDS.labels(way).observe(seconds)
        log.info("partition %d: %d rows from the %s in %.2f s", number, owned.state.count, way, seconds)
        return owned

    async def _read(self, number: int) -> tuple[Recovered | None, Snapshot | None]:
        """What the changelog says, with the help of a snapshot of the same log; and a snapshot of a log that was lost."""
        snapshot = await asyncio.to_thread(self._sources.snapshots.read, number)
        same_log = snapshot is not None and snapshot.changelog_id == self._topic_ids[SEGMENTATION_STATE.name]
        recovery = Recovery(snapshot if same_log else None)
        start = snapshot.changelog_end if snapshot is not None and same_log else 0
        async for records in self._sources.read_changelog(number, start):
            recovery.read(records)
        return recovery.result(), None if same_log else snapshot

    async def _read_copies(self, number: int) -> Copies:
        """What others' partitions have of this one's customers: before anybody is judged."""
        copies, losers = Copies(), []
        async for records in self._sources.read_copies(number, 0):
            losers += copies.take(records).losers
        if losers:
            await self._worker.publisher.publish(PROFILE_ROWS, losers)
        return copies

    def _take_over(self, number: int, recovered: Recovered) -> Owned:
        meta = recovered.meta
        self._remember_market(market_from(meta.market))
        owned = Owned(
            number,
            recovered.state,
            meta.positions(),
            generation=self._next_generation(meta.generation),
            floor=meta.floor,
            change_number=max(meta.change_number, int(recovered.state.change_number.max(initial=0))),
            published=meta.published,
            silent_rounds=meta.silent_rounds,
            silent_customers_until=meta.silent_customers_until,
            news=recovered.news,
            ahead=recovered.ahead,
            judged_by=meta.judged_by,
            named=len(recovered.state.names),
        )
        owned.take_up(self._worker.judged_by)
        owned.mark_untold(recovered.fresh)
        return owned

    def _start_from(self, number: int, recovered: Recovered | None, snapshot: Snapshot | None) -> Owned:
        """After a broken-off rebuild from nothing; after a lost changelog from the copy, which is consistent in itself."""
        if recovered is not None:
            return self._from_nothing(number, recovered.meta.generation)
        if snapshot is not None and not snapshot.meta.catching_up:
            meta = snapshot.meta
            self._remember_market(market_from(meta.market))
            generation = self._next_generation(meta.generation)
            return Owned(number, snapshot.state(), meta.positions(), generation, change_number=meta.change_number)
        return self._from_nothing(number, 0)

    def _from_nothing(self, number: int, last_generation: int) -> Owned:
        return Owned(number, CustomerState(), Positions(), self._next_generation(last_generation))

    async def _announce(self, owned: Owned, recovered: Recovered) -> None:
        """Take the partition over: from now on what an earlier owner still writes loses. Then say what may not have been said."""
        owned.touch(recovered.losers)
        await self._worker.write(owned)

    async def _catch_up(self, owned: Owned) -> None:
        """Complete the rows from the timeline, silently, and write all of them to the changelog.

        Until the last record says that it is whole, a crash makes the next owner begin from nothing: identity has to answer first.
        """
        if owned.ahead or owned.applying:
            # Rows that know more than the vector would count events twice, because the timeline knows only origins.
            owned = self._forget(owned)
        owned.floor = owned.generation = self._next_generation(owned.generation)
        owned.positions.start_over(self._topic_ids[CUSTOMER_EVENTS.name], self._topic_ids[CUSTOMERS.name])
        timeline = await self._sources.read_timeline(owned.number, owned.positions.origins())
        try:
            await self._write_meta(owned, catching_up=True)
            await self._read_history(owned, timeline)
        finally:
            await timeline.close()
        await self._silence_customers(owned)
        await self._settle_history(owned)
        await self._write_meta(owned)
        owned.written()

    async def _silence_customers(self, owned: Owned) -> None:
        """Who is in customers-v1 by now is history too: asked late, because identity may still have been filling a new log."""
        _, end = await self._sources.customers_bounds(owned.number)
        owned.silent_customers_until = end if end > owned.positions.customers_applied + 1 else 0

    async def _read_history(self, owned: Owned, timeline: Timeline) -> None:
        owned.applying = True
        async for records in timeline:
            apply_history(owned, [record for record in records if origin_of(record) is not None], self._worker)
            await asyncio.sleep(0)
        owned.positions.cover(timeline.committed)
        owned.applying = False

    async def _write_meta(self, owned: Owned, catching_up: bool = False) -> None:
        message = meta_message(owned.number, owned.meta(self._worker.market, catching_up))
        await self._worker.publisher.publish(SEGMENTATION_STATE, [message])

    async def _settle_history(self, owned: Owned) -> None:
        """Memberships as of now, and every row into the changelog."""
        await fill(owned.state, owned.number, self._worker.wanted_traits(), self._sources.read_customers)
        if not self._worker.market.buyers:
            self._worker.judge_by(self._worker.look_at_market(owned))
        owned.judged_by, owned.turned = self._worker.judged_by, EVERY_ROW
        rows = owned.state.every_row()
        if len(rows) or owned.silent_customers_until:
            # Numbers above any that were given before, also by a worker whose log is lost: the same id must never mean another change.
            owned.change_number = max(owned.change_number, owned.generation)
            owned.silent_rounds = 2
        owned.news.clear()
        owned.published = owned.change_number
        await self._worker.publisher.publish(SEGMENTATION_STATE, owned.name_messages())
        for start in range(0, len(rows), CHUNK):
            chunk = rows[start : start + CHUNK]
            owned.settle_silently(chunk, self._worker.judgement())
            await self._worker.publisher.publish(SEGMENTATION_STATE, owned.row_messages(chunk))

    def _forget(self, owned: Owned) -> Owned:
        owned.state, owned.positions, owned.ahead, owned.applying = CustomerState(), Positions(), {}, False
        return owned

    def _remember_market(self, market: Market) -> None:
        if not self._worker.market.buyers:
            self._worker.judge_by(market)

    def _is_of_these_logs(self, owned: Owned) -> bool:
        """Another log of customers-v1 needs no rebuild: identity publishes every customer again, and versions tell repeats."""
        if owned.positions.events_topic_id != self._topic_ids[CUSTOMER_EVENTS.name]:
            return False
        if owned.positions.customers_topic_id != self._topic_ids[CUSTOMERS.name]:
            owned.positions.customers_topic_id = self._topic_ids[CUSTOMERS.name]
            owned.positions.customers_applied = NOTHING
            owned.silent_customers_until = 0
        return True

    async def _follows_on(self, owned: Owned) -> bool:
        """Is everything that we have not read still in the log? After more than its retention it is only in the timeline."""
        first, _ = await self._sources.events_bounds(owned.number)
        if owned.positions.resume >= first:
            return True
        owned.positions.skip_to(first)
        return False

    def _next_generation(self, last: int) -> int:
        return max(last + 1, self._sources.new_generation())
