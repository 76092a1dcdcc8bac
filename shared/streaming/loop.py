"""The stream loop: partitions come, are opened, read batch by batch, settled, committed, and let go."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Any

import faust
from aiokafka.errors import KafkaError

from shared.logs import where
from shared.service import OpenedPartition, Service, Timer
from shared.streaming.errors import Stuck, Unavailable
from shared.streaming.leaving import EXIT_LOST, EXIT_STUCK, Lease, leave
from shared.streaming.ledger import Fetched, Ledger, Partition, joined
from shared.streaming.metrics import OPENING, RETRIES, TIMER_SECONDS
from shared.streaming.parking import Parking, ParkLimit
from shared.streaming.progress import Progress
from shared.streaming.records import Publish
from shared.streaming.settling import NotOurs, Settler, failure_of
from shared.streaming.transport import BatchConsumer, BatchTransport, FoldedSchema

log = logging.getLogger(__name__)

COMMIT_SECONDS = 1.0
REBALANCE_SECONDS = 30.0
DRAIN_SECONDS = 20.0
OPEN_AT_ONCE = 4
BUFFERED_BATCHES = 8
TIMER_FAILURES = 10

TopicIds = Callable[[], Awaitable[Mapping[str, str]]]


class StreamLoop:
    """One worker of a service's consumer group. The group's name is the service's."""

    def __init__(
        self,
        service: Service,
        *,
        publish: Publish,
        topic_ids: TopicIds,
        known_ids: Mapping[str, str],
        bootstrap_servers: str,
        progress: Progress,
        lease: Lease,
        session_seconds: float,
        park_limit: int,
    ) -> None:
        self._service = service
        self._topic_ids = topic_ids
        self._progress = progress
        self._lease = lease
        self.ledger = Ledger()
        self._working = asyncio.Lock()
        self._taking = asyncio.Lock()
        self._opening: dict[Partition, asyncio.Task[None]] = {}
        self._opened: set[Partition] = set()
        self._letting_go: set[Partition] = set()
        self._timers: list[asyncio.Task[None]] = []
        self._open_at_once = asyncio.Semaphore(OPEN_AT_ONCE)
        self._known_ids = known_ids
        self.assigned_once = False
        parking = Parking(service.name, publish, ParkLimit(park_limit), service.seal_letters)
        handlers = {topic.name: handler for topic, handler in service.listens.items()}
        self._settler = Settler(
            group=service.name,
            handlers=handlers,
            parking=parking,
            progress=progress,
            lock=self._working,
            on_poison=service.on_poison,
        )
        self.app = _faust_app(service.name, bootstrap_servers, session_seconds)
        self.app.transport = BatchTransport(
            self.app.conf.broker, self.app, ledger=self.ledger, group=self, lease=lease, batch_records=service.batch_records
        )
        topic = self.app.topic(*handlers, schema=FoldedSchema(), allow_empty=True)
        self.app.agent(topic, name=f"{service.name}.stream", concurrency=1)(self._consume)

    @property
    def consumer(self) -> BatchConsumer:
        """Faust's consumer, ours."""
        consumer: BatchConsumer = self.app.consumer
        return consumer

    async def start(self) -> None:
        """Join the group and begin. `Service.start` has run before."""
        self._progress.wait_for("group", "the worker has not joined its group yet")
        await self.app.start()
        self._timers = [asyncio.create_task(self._run_timer(timer)) for timer in self._service.timers]

    async def drain(self) -> None:
        """Finish the batch in hand, commit, close the partitions, leave the group."""
        await self._end_timers()
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                await self.on_revoked(self._opened | set(self._opening))
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                await self.app.stop()

    async def _end_timers(self) -> None:
        """Not in the middle of their work: what a timer has begun to send is sent and written down."""
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS), self._working:
                self._cancel_timers()
        self._cancel_timers()
        await asyncio.gather(*self._timers, return_exceptions=True)

    def _cancel_timers(self) -> None:
        for timer in self._timers:
            timer.cancel()

    async def end_offsets(self) -> dict[Partition, int]:
        """Where the open partitions end now. Raises Unavailable."""
        partitions = [(reading.topic, reading.partition) for reading in self.ledger.readings()]
        if not partitions:
            return {}
        try:
            return await self.consumer.end_offsets(partitions)
        except KafkaError as error:
            raise Unavailable(f"broker: {error!r}") from error

    async def _consume(self, stream: Any) -> None:
        async for event in stream.noack().events():
            began, waiting = monotonic(), [event.value, *taken_from(stream.channel.queue)]
            for fetched in joined(waiting, self._service.batch_records):
                async with self._taking:
                    await self._take(fetched)
            self.consumer.rest_after(monotonic() - began, sum(len(fetched.records) for fetched in waiting))
            event.ack()

    async def _take(self, fetched: Fetched) -> None:
        reading = fetched.reading
        if not self._is_ours(fetched):
            return
        if fetched.follows != reading.settled_to:
            log.warning("%s/%d: what follows %d did not arrive; reading it again", reading.topic, reading.partition, reading.settled_to)
            self.ledger.rewind(reading)
            await self.consumer.read_from(reading.topic, reading.partition, reading.settled_to)
            return
        if fetched.records[0].offset < reading.settled_to:
            log.error("%s/%d went back from %d: the broker lost its end", reading.topic, reading.partition, reading.settled_to)
            await self._wait_for_same_logs()
        try:
            await self._settler.settle(fetched.batch, partial(self._is_ours, fetched))
        except NotOurs:
            return
        except Stuck as stuck:
            leave(EXIT_STUCK, str(stuck))
        self.ledger.settled(fetched)

    def _is_ours(self, fetched: Fetched) -> bool:
        reading = fetched.reading
        return self.ledger.is_current(fetched) and (reading.topic, reading.partition) not in self._letting_go

    async def expect_same_logs(self) -> None:
        """Leave where a topic was recreated since the process started: its service still works with positions of the old one."""
        ids = await self._topic_ids()
        for topic, known in self._known_ids.items():
            if ids.get(topic, known) != known:
                leave(EXIT_LOST, f"{topic} was recreated: its id was {known} and is {ids[topic]}")

    async def on_assigned(self, assigned: set[Partition]) -> None:
        """Open each partition's gate once its state is recovered; returns at once."""
        self._progress.beat()
        self._letting_go -= assigned
        if assigned:
            self._lease.hold()
            self._progress.wait_for("opening", "partitions are being opened")
        self.assigned_once = True
        self._progress.done("group")
        same = asyncio.create_task(self._wait_for_same_logs())
        for partition in sorted(assigned):
            self._opening[partition] = task = asyncio.create_task(self._open(partition, same))
            task.add_done_callback(partial(self._on_opened, partition))
        OPENING.set(len(self._opening))

    async def _wait_for_same_logs(self) -> None:
        while True:
            try:
                await self.expect_same_logs()
            except Unavailable as away:
                log.warning("reading the topics' ids waits: %s", away)
                self._progress.beat()
                await asyncio.sleep(1)
            else:
                return

    async def _open(self, partition: Partition, same: asyncio.Task[None]) -> None:
        await asyncio.shield(same)
        topic, number = partition
        topic_id = self._known_ids[topic]
        async with self._open_at_once:
            self._opened.add(partition)
            offset = await self._recover(OpenedPartition(topic, topic_id, number))
        if offset is None:
            offset = await self.consumer.committed_or_first(topic, number)
        # In this order: what is fetched before the ledger knows the partition would be dropped.
        self.ledger.open(topic, topic_id, number, offset)
        await self.consumer.read_from(topic, number, offset)
        log.debug("reading %s/%d from %d", topic, number, offset)

    async def _recover(self, opened: OpenedPartition) -> int | None:
        while self._service.partitions is not None:
            try:
                return await self._service.partitions.open(opened)
            except Unavailable as away:
                log.warning("opening %s/%d waits: %s", opened.topic, opened.partition, away)
                self._progress.wait_for("opening", str(away))
                await asyncio.sleep(1)
        return None

    def _on_opened(self, partition: Partition, task: asyncio.Task[None]) -> None:
        if self._opening.get(partition) is task:
            del self._opening[partition]
        OPENING.set(len(self._opening))
        self._progress.beat()
        if not self._opening:
            self._progress.done("opening")
            log.info("reading %d partition(s)", len(self._opened))
        if not task.cancelled() and (failure := task.exception()) is not None:
            leave(EXIT_STUCK, f"{partition[0]}/{partition[1]} cannot be opened: {where(failure)}")

    @property
    def is_opening(self) -> bool:
        """Are there partitions whose state is being recovered?"""
        return bool(self._opening)

    async def on_revoked(self, revoked: set[Partition]) -> None:
        """Finish the batch in hand, commit, close. Retries for a partition that goes end at once; its batch is its successor's."""
        self._letting_go |= revoked
        openings = [self._opening.pop(partition) for partition in revoked if partition in self._opening]
        for opening in openings:
            opening.cancel()
        await asyncio.gather(*openings, return_exceptions=True)
        async with self._taking, self._working:
            if revoked:
                await self.consumer.commit_what_is_settled()
            for partition in sorted(revoked & self._opened):
                await self._close(partition)
        self._progress.beat()
        if not self._opened:
            self._lease.release()

    async def _close(self, partition: Partition) -> None:
        self.ledger.close(*partition)
        self._opened.discard(partition)
        if self._service.partitions is not None:
            failure = await failure_of(self._service.partitions.close(*partition))
            if failure is not None:
                log.error("%s/%d was not closed well: %s", *partition, where(failure))

    async def _run_timer(self, timer: Timer) -> None:
        failures = 0
        while failures < TIMER_FAILURES:
            await asyncio.sleep(timer.every_seconds)
            async with self._working:
                with TIMER_SECONDS.time():
                    failure = await failure_of(timer.run())
            if isinstance(failure, Stuck):
                leave(EXIT_STUCK, str(failure))
            if isinstance(failure, Unavailable):
                log.warning("a timer waits: %s", failure)
                failure = None
            failures = failures + 1 if failure is not None else 0
            if failure is not None:
                RETRIES.labels("timer").inc()
                log.error("a timer failed: %s", where(failure))
        leave(EXIT_STUCK, f"a timer failed {failures} times in a row")


def taken_from(queue: Any) -> Iterator[Fetched]:
    """What waits in a queue of Faust's, which is told that it is empty: all partitions may be read again."""
    while not queue.empty():
        yield queue.get_nowait().value
    queue.maybe_endorse_pressure_drop()


class BatchApp(faust.App):
    """A Faust app without tables."""

    logger = logging.getLogger("faust.dear")

    def _create_directories(self) -> None:
        """There is nothing to keep in them."""


def _faust_app(group: str, bootstrap_servers: str, session_seconds: float) -> BatchApp:
    app = BatchApp(
        group,
        broker=[f"kafka://{server.strip()}" for server in bootstrap_servers.split(",")],
        store="memory://",
        # Faust's web server listens everywhere without authentication; FastAPI serves instead.
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        stream_wait_empty=False,
        stream_buffer_maxsize=BUFFERED_BATCHES,
        broker_commit_interval=COMMIT_SECONDS,
        broker_session_timeout=session_seconds,
        broker_heartbeat_interval=session_seconds / 4,
        broker_rebalance_timeout=REBALANCE_SECONDS,
        broker_request_timeout=max(REBALANCE_SECONDS + 10, session_seconds),
        broker_max_poll_interval=3600.0,
        # Our watchdog judges; Faust's own would log about partitions that wait behind their gates.
        broker_commit_livelock_soft_timeout=1e9,
        stream_processing_timeout=1e9,
    )
    app.boot_strategy.enable_kafka_producer = False
    return app
