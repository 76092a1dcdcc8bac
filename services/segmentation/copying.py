"""Copies rows to disk now and then, one partition at a time, without holding up the stream."""

from __future__ import annotations

import asyncio
import logging
import time

from services.segmentation.partitions import SegmentationPartitions
from services.segmentation.worker import Worker
from shared.streaming.errors import Unavailable

log = logging.getLogger(__name__)


class Copying:
    """A timer with one partition in hand: ask where its changelog ends, at the next tick copy the rows, write them beside the stream."""

    def __init__(self, worker: Worker, partitions: SegmentationPartitions) -> None:
        self._worker = worker
        self._partitions = partitions
        self._copied_at: dict[int, float] = {}
        self._asking: tuple[int, asyncio.Task[int]] | None = None
        self._writing: asyncio.Task[None] | None = None

    async def tick(self) -> None:
        """One step. Returns at once; only the copy itself (some milliseconds) is done here."""
        if self._writing is not None and not self._writing.done():
            return
        if self._asking is None:
            self._ask_next()
        elif self._asking[1].done():
            number, asked = self._asking
            self._asking = None
            self._copy(number, asked)

    async def finish(self) -> None:
        """Wait for the copy under way."""
        if self._asking is not None:
            self._asking[1].cancel()
            await asyncio.gather(self._asking[1], return_exceptions=True)
        if self._writing is not None:
            await self._writing

    def _ask_next(self) -> None:
        now, pause = time.monotonic(), self._worker.settings.snapshot_seconds
        due = [number for number in self._worker.owned if now - self._copied_at.setdefault(number, now) >= pause]
        if due:
            oldest = min(due, key=lambda number: self._copied_at[number])
            self._asking = (oldest, asyncio.create_task(self._partitions.changelog_end(oldest)))

    def _copy(self, number: int, asked: asyncio.Task[int]) -> None:
        owned = self._worker.owned.get(number)
        failure = asked.exception()
        if failure is not None:
            if not isinstance(failure, Unavailable):
                raise failure
            log.warning("the copy of partition %d waits: %s", number, failure)
            return
        snapshot = self._partitions.copy(owned, asked.result()) if owned is not None else None
        if snapshot is not None:
            self._copied_at[number] = time.monotonic()
            self._writing = asyncio.create_task(self._partitions.write_snapshot(number, snapshot))
