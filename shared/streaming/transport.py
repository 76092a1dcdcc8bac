"""Faust's transport, fed with whole fetched batches, committing only what our ledger says is settled.

Faust keeps group membership and rebalancing. Everything that it uses to decide what is acknowledged is replaced here, because it
acknowledges events that it skips, that failed, and whatever precedes a later acknowledged one.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any, ClassVar, Protocol

import aiokafka
from aiokafka.consumer.fetcher import FetchResult
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import CorruptRecordException, KafkaError
from aiokafka.protocol.group import LeaveGroupRequest
from faust.serializers.schemas import Schema
from faust.transport.consumer import ensure_TP
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from shared.streaming.leaving import Lease, elapsed
from shared.streaming.ledger import Fetched, Ledger, Partition
from shared.streaming.metrics import EXPIRED

log = logging.getLogger(__name__)

FETCH_BYTES_PER_RECORD = 400
"""What a partition's fetch may bring, and so how large a batch may be, follows from how many records it should have; the broker rounds up
to whole batches of its own."""
MAX_FETCH_BYTES = 16 * 1024 * 1024
SHORTEST_WAIT_MS = 40
LONGEST_WAIT_MS = 160
"""How long a fetch that finds nothing waits: twice as long each time. The embedded broker does not wake for new records: it looks again
after half of this."""
SHORTEST_PAUSE_SECONDS = 0.04
LONGEST_PAUSE_SECONDS = 0.25
RESTS = 2
"""After a fetch that brought little nothing is fetched for so many times as long as it took to handle what came before, within bounds:
the slower everything is, the more comes together. A fetch costs broker and worker two milliseconds of processor, whatever it brings."""
MANY_RECORDS = 2000
"""Beside so many, what a fetch and a batch cost by themselves is nothing."""


class Group(Protocol):
    """Who is told about partitions that come and go."""

    async def on_assigned(self, assigned: set[Partition]) -> None: ...
    async def on_revoked(self, revoked: set[Partition]) -> None: ...


@dataclass(slots=True)
class FoldedRecord:
    """Looks like one aiokafka record to Faust; the value is everything that was fetched from a partition."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    timestamp_type: int
    value: Fetched
    key: None = None
    headers: None = None
    checksum: None = None
    serialized_key_size: int = 0
    serialized_value_size: int = 0


@dataclass(frozen=True, slots=True)
class Drained:
    """What the thread took out of aiokafka for one partition, and where the records taken before ended."""

    follows: int
    records: list[Any]


def fold(ledger: Ledger, drained: Mapping[TP, Drained]) -> dict[TP, list[FoldedRecord]]:
    """One record for each open partition; its offset is the last one's."""
    folded: dict[TP, list[FoldedRecord]] = {}
    for tp, each in drained.items():
        value = ledger.fetch(tp.topic, tp.partition, each.follows, each.records)
        if value is not None:
            last = each.records[-1]
            folded[tp] = [FoldedRecord(tp.topic, tp.partition, last.offset, last.timestamp, last.timestamp_type, value)]
    return folded


def pause_after(seconds: float, record_count: int) -> float:
    """How long nothing is fetched where so many records took so long: longer than that for few, not at all where many wait."""
    return min(max(RESTS * seconds, SHORTEST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS) if record_count < MANY_RECORDS else 0.0


class FoldedSchema(Schema):
    """Nothing to decode: the value is handed on as it is."""

    def compile(self, app: Any, **_: Any) -> Callable[..., Awaitable[Any]]:
        async def decode(message: Any, *, propagate: bool = False) -> Any:
            return app.create_event(None, message.value, None, message)

        return decode


class PausedRebalanceListener(driver.ConsumerRebalanceListener):
    """Nothing of a partition is fetched before its gate is open."""

    async def on_partitions_assigned(self, assigned: Any) -> None:
        self._thread._ensure_consumer().pause(*assigned)
        await super().on_partitions_assigned(assigned)


class BatchConsumerThread(driver.AIOKafkaConsumerThread):
    """The thread with aiokafka's consumer in it."""

    logger = logging.getLogger("faust.dear")

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        conf, batch_records = self.app.conf, transport.batch_records
        return aiokafka.AIOKafkaConsumer(
            client_id=conf.broker_client_id,
            group_id=conf.id,
            bootstrap_servers=driver.server_list(transport.url, transport.default_port),
            # Range: partition q of every topic goes to the same worker, so state that several topics share lies together.
            partition_assignment_strategy=[RangePartitionAssignor],
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_poll_records=batch_records,
            max_poll_interval_ms=int(conf.broker_max_poll_interval * 1000),
            max_partition_fetch_bytes=batch_records * FETCH_BYTES_PER_RECORD,
            fetch_max_bytes=MAX_FETCH_BYTES,
            fetch_max_wait_ms=LONGEST_WAIT_MS,
            request_timeout_ms=int(conf.broker_request_timeout * 1000),
            session_timeout_ms=int(conf.broker_session_timeout * 1000),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000),
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1000),
            retry_backoff_ms=100,
        )

    async def on_start(self) -> None:
        self._drained_to: dict[aiokafka.TopicPartition, int] = {}
        self.pause_seconds = SHORTEST_PAUSE_SECONDS
        await super().on_start()
        transport: BatchTransport = self.transport
        consumer = self._ensure_consumer()
        consumer._fetcher._records = WholeFetches(consumer._fetcher._records)
        self._fetch_in_moderation(consumer._fetcher)
        coordinator = consumer._coordinator
        _renew_with_each_heartbeat(coordinator, transport.lease)
        _leave_from_generation_zero_too(coordinator)

    async def _fetch_records(self, consumer: Any, active_partitions: Any, timeout: float | None = None, **_: Any) -> dict[TP, Drained]:  # noqa: ASYNC109 - Faust's
        drained: dict[TP, Drained] = {}
        for tp, records in (await super()._fetch_records(consumer, active_partitions, timeout, None)).items():
            drained[ensure_TP(tp)] = Drained(self._drained_to.get(tp, records[0].offset), records)
            self._drained_to[tp] = records[-1].offset + 1
        return drained

    def _fetch_in_moderation(self, fetcher: Any) -> None:
        """What comes soon after something else comes with what follows it; where nothing comes, it is asked for ever more seldom."""
        fetch = fetcher._proc_fetch_request
        not_before: dict[Any, float] = {}

        @functools.wraps(fetch)
        async def fetching(assignment: Any, node: Any, request: Any) -> bool:
            try:
                await asyncio.sleep(not_before.get(node, 0.0) - monotonic())
            except asyncio.CancelledError:
                # As fetching itself does: whoever cancels it waits for it.
                return False
            has_news: bool = await fetch(assignment, node, request)
            not_before[node] = monotonic() + self.pause_seconds if has_news else 0.0
            fetcher._fetch_max_wait_ms = SHORTEST_WAIT_MS if has_news else min(2 * fetcher._fetch_max_wait_ms, LONGEST_WAIT_MS)
            return has_news

        fetcher._proc_fetch_request = fetching

    def look_again(self) -> None:
        """A partition may be read again whose records may have come long ago: whoever waits for records in this thread shall see them.

        May be called from any thread.
        """
        self.thread_loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        fetcher = self._ensure_consumer()._fetcher
        for waiter in fetcher._fetch_waiters:
            fetcher._notify(waiter)

    async def committed_or_first(self, topic: str, partition: int) -> int:
        """Where the group would go on reading."""
        offset: int = await self.call_thread(self._committed_or_first, aiokafka.TopicPartition(topic, partition))
        return offset

    async def _committed_or_first(self, tp: aiokafka.TopicPartition) -> int:
        consumer = self._ensure_consumer()
        committed: int | None = await consumer.committed(tp)
        first: int = (await consumer.beginning_offsets([tp]))[tp]
        if committed is None:
            return first
        if committed < first:
            # aiokafka would read on from there, too, and not tell.
            log.error(
                "%s/%d: offsets %d to %d were removed by retention before they were read", tp.topic, tp.partition, committed, first - 1
            )
            EXPIRED.labels(tp.topic).inc(first - committed)
        return max(committed, first)

    async def read_from(self, topic: str, partition: int, offset: int) -> None:
        """Fetch from `offset` on. Does nothing where the partition is not ours any more."""
        await self.call_thread(self._read_from, aiokafka.TopicPartition(topic, partition), offset)

    async def _read_from(self, tp: aiokafka.TopicPartition, offset: int) -> None:
        consumer = self._ensure_consumer()
        if tp in consumer.assignment():
            self._drained_to[tp] = offset
            consumer.seek(tp, offset)
            consumer.resume(tp)

    async def end_offsets(self, partitions: list[Partition]) -> dict[Partition, int]:
        """The ends of partitions, as the broker says and as fetching has seen: the embedded broker's answer may be too low."""
        found: dict[Partition, int] = await self.call_thread(self._end_offsets, [aiokafka.TopicPartition(*each) for each in partitions])
        return found

    async def _end_offsets(self, partitions: list[aiokafka.TopicPartition]) -> dict[Partition, int]:
        consumer = self._ensure_consumer()
        asked = await consumer.end_offsets(partitions)
        ours = consumer.assignment()
        return {(tp.topic, tp.partition): max(end, consumer.highwater(tp) or 0) for tp, end in asked.items() if tp in ours}


class WholeFetches(OrderedDict[TP, Any]):
    """aiokafka's buffer, where what was fetched hands over its records as they are and together.

    aiokafka would copy each into an object of its own. All that a partition's fetch brought is one batch, so that what a batch costs beside
    its records, and its wait for the broker, are not paid for a rest of a few; `FETCH_BYTES_PER_RECORD` bounds it.
    """

    def __setitem__(self, tp: TP, result: Any) -> None:
        if isinstance(result, FetchResult):
            result.getall = functools.partial(_take_all, result)
        super().__setitem__(tp, result)


def _take_all(result: Any, _: int | None = None) -> list[Any]:
    """What `FetchResult.getall` does, for batches of format 2 outside transactions."""
    if not result.check_assignment(result._topic_partition) or not result.has_more():
        return []
    partition = result._partition_records
    taken: list[Any] = []
    while partition._records.has_next():
        batch = partition._records.next_batch()
        if partition._check_crcs and not batch.validate_crc():
            raise CorruptRecordException(f"invalid CRC in {result._topic_partition}")
        if not batch.is_control_batch:
            taken += _from(list(batch), partition.next_fetch_offset)
        partition.next_fetch_offset = batch.next_offset
    result._update_position()
    result._partition_records = None
    return taken


def _from(records: list[Any], offset: int) -> list[Any]:
    """A fetch from the middle of a batch brings all of it."""
    return records if records and records[0].offset >= offset else [record for record in records if record.offset >= offset]


def _renew_with_each_heartbeat(coordinator: Any, lease: Lease) -> None:
    beat = coordinator._do_heartbeat

    @functools.wraps(beat)
    async def renewing() -> bool:
        asked_at = elapsed()
        success: bool = await beat()
        if success:
            lease.renew(asked_at)
        return success

    coordinator._do_heartbeat = renewing


def _leave_from_generation_zero_too(coordinator: Any) -> None:
    """The embedded broker counts generations from 0; aiokafka takes 0 for none and would stay a member until its session ends."""
    leave_group = coordinator._maybe_leave_group

    async def leaving() -> None:
        if coordinator.generation == 0:
            with suppress(KafkaError):
                await coordinator._send_req(LeaveGroupRequest(coordinator.group_id, coordinator.member_id))
        await leave_group()

    coordinator._maybe_leave_group = leaving


class BatchConsumer(driver.Consumer):
    """Faust's consumer, folding what is fetched and committing what the ledger says."""

    logger = logging.getLogger("faust.dear")
    RebalanceListener: ClassVar[type] = PausedRebalanceListener

    def _new_consumer_thread(self) -> BatchConsumerThread:
        return BatchConsumerThread(self, loop=self.loop, beacon=self.beacon)

    @property
    def _ledger(self) -> Ledger:
        ledger: Ledger = self.transport.ledger
        return ledger

    @property
    def _group(self) -> Group:
        group: Group = self.transport.group
        return group

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> dict[TP, list[FoldedRecord]]:  # noqa: ASYNC109 - Faust's
        return fold(self._ledger, await super()._getmany(active_partitions, timeout))

    def rest_after(self, seconds: float, record_count: int) -> None:
        """Have a pause after the next fetch that brings something: so many records took so long."""
        self._thread.pause_seconds = pause_after(seconds, record_count)

    def on_buffer_drop(self, tp: TP) -> None:
        """Faust's, which lets a partition be read again whose queue was full, but does not wake the thread that waits for records."""
        super().on_buffer_drop(tp)
        self._thread.look_again()

    async def committed_or_first(self, topic: str, partition: int) -> int:
        """See the thread's."""
        offset: int = await self._thread.committed_or_first(topic, partition)
        return offset

    async def read_from(self, topic: str, partition: int, offset: int) -> None:
        """See the thread's; Faust's own idea of what was read is forgotten with it."""
        self._read_offset[TP(topic, partition)] = None
        await self._thread.read_from(topic, partition, offset)

    async def end_offsets(self, partitions: list[Partition]) -> dict[Partition, int]:
        """See the thread's."""
        found: dict[Partition, int] = await self._thread.end_offsets(partitions)
        return found

    async def perform_seek(self) -> None:
        """Faust seeks to the committed offsets on its own account; every partition is sought when its gate opens instead."""

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Offsets between batches need no bookkeeping."""

    def ack(self, message: Any) -> bool:
        """Faust's acknowledgements decide nothing: it gives them for skipped messages too."""
        message.acked = True
        self._unacked_messages.discard(message)
        return True

    async def force_commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Commit what the ledger says is settled, whatever Faust believes."""
        offsets = {TP(each.topic, each.partition): each.settled_to for each in self._ledger.readings()}
        news = {tp: offset for tp, offset in offsets.items() if offset > 0 and offset != self._committed_offset[tp]}
        if not news or not await self._commit(news):
            return False
        self._committed_offset.update(news)
        return True

    async def commit_what_is_settled(self) -> None:
        """Commit now. Faust's `commit` does nothing but wait where another one is under way, which may know less."""
        await self.maybe_wait_for_commit_to_finish()
        await self.force_commit()

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        await self._group.on_revoked({(tp.topic, tp.partition) for tp in revoked})
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        await super().on_partitions_assigned(assigned, generation_id)
        await self._group.on_assigned({(tp.topic, tp.partition) for tp in assigned})


class BatchTransport(driver.Transport):
    """Names the consumer, and carries what it needs to know."""

    Consumer: ClassVar[type] = BatchConsumer

    def __init__(self, *args: Any, ledger: Ledger, group: Group, lease: Lease, batch_records: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ledger, self.group, self.lease, self.batch_records = ledger, group, lease, batch_records
