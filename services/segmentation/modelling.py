"""Keeps the models new: hears of published fits and of others' buyers, and has a fit made when it is time, in a process of its own."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import Any

from services.segmentation import metrics
from services.segmentation.refit import take_published
from services.segmentation.worker import Worker
from shared.streaming.errors import Unavailable
from shared.streaming.records import Record

log = logging.getLogger(__name__)

FITTING_PARTITION = 0
"""Whoever owns it has the fits made, for all: they are of all customers."""
RESTS = 20.0
"""After a refit this many times as long passes before the next, however fast a replay runs."""
RETRY_SECONDS = 5.0


async def refit_in_process(now: str, environment: Mapping[str, str] = MappingProxyType({})) -> tuple[int, str]:
    """Run `services.segmentation.refit`; its exit code and the last line that it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.segmentation.refit", "--now", now,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env={**os.environ, **environment},
    )  # fmt: skip
    try:
        said, _ = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    lines = said.decode(errors="replace").strip().splitlines()
    return process.returncode or 0, lines[-1] if lines else ""


class Modelling:
    """A timer, and two tasks beside the stream; neither of them ever holds it up."""

    def __init__(
        self,
        worker: Worker,
        follow: Callable[[], AsyncIterator[Sequence[Record]]],
        refit: Callable[[str], Coroutine[Any, Any, tuple[int, str]]] = refit_in_process,
    ) -> None:
        self._worker = worker
        self._follow = follow
        self._refit = refit
        self._listening: asyncio.Task[None] | None = None
        self._fitting: asyncio.Task[tuple[int, str]] | None = None
        self._began = 0.0
        self._rests_until = 0.0
        self._next_at = None if worker.settings.refit_days else worker.clock.now() + timedelta(days=36_500)

    async def tick(self) -> None:
        """Go on listening, put away a refit that ended, begin the next when it is due. Returns at once."""
        if self._listening is None:
            self._listening = asyncio.create_task(self._listen())
        elif self._listening.done():
            self._listening.result()
        if self._fitting is not None:
            if self._fitting.done():
                self._end(self._fitting)
                self._fitting = None
        elif self._is_due():
            self._began = time.monotonic()
            self._next_at = self._worker.now() + timedelta(days=self._worker.settings.refit_days)
            self._fitting = asyncio.create_task(self._refit(self._worker.now().isoformat()))

    async def finish(self) -> None:
        """Stop both; a refit that is broken off is made again by the next owner."""
        tasks = [task for task in (self._listening, self._fitting) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _listen(self) -> None:
        while True:
            try:
                async for records in self._follow():
                    take_published(records, self._worker.models)
                    self._worker.markets.hear(records)
            except Unavailable as away:
                log.warning("new scoring models and other workers' buyers are not heard of: %s", away)
            await asyncio.sleep(RETRY_SECONDS)

    def _is_due(self) -> bool:
        worker = self._worker
        if FITTING_PARTITION not in worker.owned or worker.market.is_small or time.monotonic() < self._rests_until:
            return False
        return self._next_at is None or worker.now() >= self._next_at

    def _end(self, fitting: asyncio.Task[tuple[int, str]]) -> None:
        self._rests_until = time.monotonic() + RESTS * (time.monotonic() - self._began)
        failure = fitting.exception()
        code, said = fitting.result() if failure is None else (-1, repr(failure))
        metrics.REFITS.labels("done" if code == 0 else "failed").inc()
        log.log(logging.INFO if code == 0 else logging.WARNING, "refit: %s", said)
