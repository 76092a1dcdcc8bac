"""What becomes of a batch: applied, or parked event by event, or the process leaves. Nothing else."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from shared.logs import where
from shared.streaming.errors import InvalidEvents, Reject, Stuck, Unavailable
from shared.streaming.metrics import BATCHES, EVENTS, HANDLER_SECONDS, RETRIES
from shared.streaming.parking import OnPoison, Parking, nothing_to_note
from shared.streaming.progress import Progress
from shared.streaming.records import Batch, Handler, Record

log = logging.getLogger(__name__)

REPLAY_HEADER = "dear-replay-group"
"""On a dead letter put back into its topic: the one group that it is meant for."""
REPLAY_OF_HEADER = "dear-replay-of"
"""On a dead letter put back: the position that it was first parked at, however often it is put back (`topic id/partition/offset`)."""
POISON = "poison"
"""The reason of events that a handler fails on while their neighbours pass."""

BATCH_ATTEMPTS = 3
EVENT_ATTEMPTS = 2
FIRST_WAIT_SECONDS = 0.1
LONGEST_WAIT_SECONDS = 5.0


class NotOurs(Exception):
    """The partition went to another worker, or we are leaving: this batch is theirs."""


class Settler:
    """Applies batches through a service's handlers; `lock` keeps handlers and timers from running beside each other."""

    def __init__(
        self,
        *,
        group: str,
        handlers: Mapping[str, Handler],
        parking: Parking,
        progress: Progress,
        lock: asyncio.Lock,
        on_poison: OnPoison = nothing_to_note,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._group = group
        self._handlers = handlers
        self._parking = parking
        self._progress = progress
        self._lock = lock
        self._on_poison = on_poison
        self._sleep = sleep
        self._passed_lately: set[str] = set()

    async def settle(self, batch: Batch, is_ours: Callable[[], bool]) -> None:
        """Returns when every event of the batch was applied or parked. Raises NotOurs and Stuck."""
        mine = replace(batch, records=_ours(self._group, batch.records))
        if mine.records:
            failure = await self._apply(mine, is_ours, BATCH_ATTEMPTS)
            if failure is None:
                self._passed_lately.add(batch.topic)
            else:
                await self._isolate(mine, failure, is_ours)
        self._parking.settled(len(batch.records))
        BATCHES.labels(batch.topic).inc()
        EVENTS.labels(batch.topic).inc(len(batch.records))
        self._progress.beat()

    async def _apply(self, batch: Batch, is_ours: Callable[[], bool], attempts: int) -> Exception | None:
        """Try a few times; the answer is None, or the last failure."""
        failure = None
        for wait_seconds in _waits(attempts):
            await self._sleep(wait_seconds)
            failure = await self._apply_when_available(batch, is_ours)
            if failure is None:
                return None
            RETRIES.labels("failed").inc()
        return failure

    async def _apply_when_available(self, batch: Batch, is_ours: Callable[[], bool]) -> Exception | None:
        """Try as often as something is away; the answer is None, or the failure that was not an outage."""
        for wait_seconds in _waits_for_outage():
            if not is_ours():
                raise NotOurs(f"{batch.topic}/{batch.partition}")
            failure = await failure_of(self._apply_once(batch))
            if not isinstance(failure, Unavailable):
                break
            log.warning("%s/%d waits: %s", batch.topic, batch.partition, failure)
            RETRIES.labels("unavailable").inc()
            self._progress.wait_for("handler", str(failure))
            self._progress.beat()
            await self._sleep(wait_seconds)
        self._progress.done("handler")
        if isinstance(failure, Stuck):
            raise failure
        if failure is not None:
            log.error("%s/%d: the handler failed on %d event(s): %s", batch.topic, batch.partition, len(batch.records), where(failure))
        return failure

    async def _apply_once(self, batch: Batch) -> None:
        try:
            async with self._lock:
                began = time.perf_counter()
                try:
                    await self._handlers[batch.topic](batch)
                finally:
                    HANDLER_SECONDS.labels(batch.topic).observe(time.perf_counter() - began)
        except InvalidEvents as invalid:
            await self._parking.park(batch, invalid.rejects)

    async def _isolate(self, batch: Batch, failure: Exception, is_ours: Callable[[], bool]) -> None:
        """One by one. What fails while its neighbours pass is poison; where nothing passes, it is not the events that are wrong."""
        poison: list[Reject] = []
        for record in batch.records:
            alone = replace(batch, records=[record])
            error = await self._apply(alone, is_ours, EVENT_ATTEMPTS) if len(batch.records) > 1 else failure
            if error is not None:
                poison.append(Reject(record.offset, POISON, f"{type(error).__name__}: {error}"))
        if not poison:
            return
        if len(poison) == len(batch.records) and batch.topic not in self._passed_lately:
            raise Stuck(f"{batch.topic}/{batch.partition}/{poison[0].offset}: nothing passes the handler: {where(failure)}")
        # Only what passes after this speaks for the handler when a batch fails as a whole again.
        self._passed_lately.discard(batch.topic)
        if len(poison) < len(batch.records):
            self._passed_lately.add(batch.topic)
        await self._park_when_available(batch, poison, is_ours)

    async def _park_when_available(self, batch: Batch, poison: list[Reject], is_ours: Callable[[], bool]) -> None:
        for wait_seconds in _waits_for_outage():
            if not is_ours():
                raise NotOurs(f"{batch.topic}/{batch.partition}")
            failure = await failure_of(self._park_poison(batch, poison))
            if failure is None:
                return
            if not isinstance(failure, Unavailable):
                raise Stuck(f"{batch.topic}/{batch.partition}: cannot be parked: {where(failure)}") from failure
            log.warning("parking waits: %s", failure)
            self._progress.beat()
            await self._sleep(wait_seconds)

    async def _park_poison(self, batch: Batch, poison: list[Reject]) -> None:
        """The service knows first: what it has noted stays parked if we die before the letters are out."""
        async with self._lock:
            await self._on_poison(batch, poison)
        await self._parking.park(batch, poison)


async def failure_of(work: Awaitable[None]) -> Exception | None:
    """What handlers and timers raise ends here, and here only."""
    try:
        await work
    except Exception as failure:  # noqa: BLE001 - whatever it is, the stream decides what becomes of the batch
        return failure
    return None


def _ours(group: str, records: Sequence[Record]) -> Sequence[Record]:
    """Without the dead letters that are put back for another group: nearly always all of them, which is cheap to see."""
    names = {name for headers in [record.headers for record in records] for name, _ in headers}
    return [record for record in records if _is_for(group, record)] if REPLAY_HEADER in names else records


def _is_for(group: str, record: Record) -> bool:
    return not record.headers or all(name != REPLAY_HEADER or value == group.encode() for name, value in record.headers)


def _waits_for_outage() -> Iterator[float]:
    wait_seconds = FIRST_WAIT_SECONDS
    while True:
        yield wait_seconds
        wait_seconds = min(2 * wait_seconds, LONGEST_WAIT_SECONDS)


def _waits(attempts: int) -> Iterator[float]:
    yield 0.0
    for attempt in range(attempts - 1):
        yield FIRST_WAIT_SECONDS * 5**attempt
