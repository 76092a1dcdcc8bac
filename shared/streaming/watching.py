"""Watching the loop: its lag in messages and seconds, and whether it moves at all."""

from __future__ import annotations

import asyncio
import logging
import threading
import time

from shared.streaming.errors import Unavailable
from shared.streaming.leaving import EXIT_STUCK, leave
from shared.streaming.ledger import Partition, Reading
from shared.streaming.loop import StreamLoop
from shared.streaming.metrics import LAG_MESSAGES, LAG_SECONDS
from shared.streaming.progress import Progress

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
LOOK_TIMEOUT_SECONDS = 10.0
CHECK_LOGS_SECONDS = 5.0


class Lag:
    """How far each open partition is behind its end. Idle partitions are 0 behind, in messages and in seconds."""

    def __init__(self) -> None:
        self._noticed_at: dict[Partition, float] = {}
        self._shown: set[Partition] = set()

    def look(self, readings: list[Reading], ends: dict[Partition, int], now: float) -> int:
        """Update the gauges (`now` in seconds since the epoch); returns how many messages are unsettled over all."""
        behind = 0
        for reading in readings:
            partition = (reading.topic, reading.partition)
            messages = max(0, ends.get(partition, 0) - reading.settled_to)
            behind += messages
            LAG_MESSAGES.labels(*partition).set(messages)
            LAG_SECONDS.labels(*partition).set(self._seconds(partition, reading, messages, now))
        self._forget({(reading.topic, reading.partition) for reading in readings})
        return behind

    def _seconds(self, partition: Partition, reading: Reading, messages: int, now: float) -> float:
        """Since the oldest unsettled record was written, where it was fetched; else since we noticed that there is one."""
        if not messages:
            self._noticed_at.pop(partition, None)
            return 0.0
        noticed_at = self._noticed_at.setdefault(partition, now)
        return max(0.0, now - (reading.waiting[0][1] / 1000 if reading.waiting else noticed_at))

    def _forget(self, open_now: set[Partition]) -> None:
        for partition in self._shown - open_now:
            LAG_MESSAGES.remove(*partition)
            LAG_SECONDS.remove(*partition)
            self._noticed_at.pop(partition, None)
        self._shown = open_now


class Watchdog:
    """Ends a worker that stands still while there is something to do: its process would otherwise live on and own its partitions.

    The judge is a thread, so that an event loop that hangs is noticed too.
    """

    def __init__(self, loop: StreamLoop, progress: Progress, stall_seconds: float) -> None:
        self._loop = loop
        self._progress = progress
        self._stall_seconds = stall_seconds
        self._lag = Lag()
        self._looked_at = time.monotonic()
        self._stopped = threading.Event()

    async def watch(self) -> None:
        """Look every two seconds, until cancelled."""
        threading.Thread(target=self._judge, name="watchdog", daemon=True).start()
        next_check = time.monotonic() + CHECK_LOGS_SECONDS
        try:
            while True:
                await asyncio.sleep(LOOK_SECONDS)
                await self._look()
                if time.monotonic() > next_check:
                    await self._check_logs()
                    next_check = time.monotonic() + CHECK_LOGS_SECONDS
        finally:
            self._stopped.set()

    async def _look(self) -> None:
        self._looked_at = time.monotonic()
        if self._loop.app.crashed:
            leave(EXIT_STUCK, f"the consumer crashed: {self._loop.app.crash_reason!r}")
        readings = self._loop.ledger.readings()
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_SECONDS):
                ends = await self._loop.end_offsets()
        except (Unavailable, TimeoutError) as away:
            log.warning("the ends of the partitions are not known: %r", away)
            self._progress.beat()
            return
        if self._lag.look(readings, ends, time.time()) == 0 or self._loop.is_opening:
            self._progress.beat()

    async def _check_logs(self) -> None:
        try:
            await self._loop.expect_same_logs()
        except Unavailable as away:
            log.warning("the topics' ids are not known: %s", away)

    def _judge(self) -> None:
        while not self._stopped.wait(1.0):
            silent = self._progress.silent_seconds()
            if silent > self._stall_seconds:
                leave(EXIT_STUCK, f"nothing was settled for {silent:.0f} s while there was something to settle")
            unseen = time.monotonic() - self._looked_at
            if unseen > self._stall_seconds:
                leave(EXIT_STUCK, f"the event loop did not run for {unseen:.0f} s")
