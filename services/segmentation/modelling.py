"""Keeps the models new: hears of published fits and of others' buyers, and has a fit made when it is time, in a process of its own."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import Any

from services.segmentation import metrics
from services.segmentation.refit import publish_what_was_kept, take_published
from services.segmentation.store import models as store
from services.segmentation.worker import Worker
from shared.mongo import in_store
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


async def look_back() -> store.Kept:
    """What was fitted so far. Raises Unavailable."""
    return await in_store(store.look_back)


class Modelling:
    """A timer, and three tasks beside the stream; none of them ever holds it up."""

    def __init__(
        self,
        worker: Worker,
        follow: Callable[[], AsyncIterator[Sequence[Record]]],
        refit: Callable[[str], Coroutine[Any, Any, tuple[int, str]]] = refit_in_process,
        look_back: Callable[[], Awaitable[store.Kept]] = look_back,
    ) -> None:
        self._worker = worker
        self._follow = follow
        self._refit = refit
        self._look_back = look_back
        self._listening: asyncio.Task[None] | None = None
        self._fitting: asyncio.Task[tuple[int, str]] | None = None
        self._remembering: asyncio.Task[None] | None = None
        self._began = 0.0
        self._rests_until = 0.0
        self._next_at = None if worker.settings.refit_days else worker.clock.now() + timedelta(days=36_500)

    async def tick(self) -> None:
        """Go on listening, put away a refit that ended, begin the next when it is due. Returns at once."""
        if self._listening is None:
            self._listening = asyncio.create_task(self._listen())
        elif self._listening.done():
            self._listening.result()
        self._remember_once()
        if self._fitting is not None:
            if self._fitting.done():
                self._end(self._fitting)
                self._fitting = None
        elif self._is_due():
            self._began = time.monotonic()
            self._next_at = self._worker.now() + timedelta(days=self._worker.settings.refit_days)
            self._fitting = asyncio.create_task(self._refit(self._worker.now().isoformat()))

    async def finish(self) -> None:
        """Stop them; a refit that is broken off is made again by the next owner."""
        tasks = [task for task in (self._listening, self._remembering, self._fitting) if task is not None]
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

    def _remember_once(self) -> None:
        """Whenever the fits become ours to make, and after one that failed: find out how far they are."""
        if FITTING_PARTITION not in self._worker.owned:
            self._forget()
        elif self._remembering is None:
            self._remembering = asyncio.create_task(self._remember())
        elif self._remembering.done():
            self._remembering.result()

    def _forget(self) -> None:
        if self._remembering is not None:
            self._remembering.cancel()
            self._remembering = None

    async def _remember(self) -> None:
        """Publish what a refit that died had kept, and count the time to the next one from the newest there was."""
        worker = self._worker
        while True:
            try:
                kept = await self._look_back()
                await publish_what_was_kept(kept, worker.models, worker.publisher.append)
                break
            except Unavailable as away:
                log.warning("no refit before it is known when the last one was: %s", away)
            await asyncio.sleep(RETRY_SECONDS)
        if kept.newest_at is not None:
            # A replay that begins anew may find fits of its own future.
            due = min(kept.newest_at, worker.now()) + timedelta(days=worker.settings.refit_days)
            self._next_at = due if self._next_at is None else max(self._next_at, due)

    def _is_due(self) -> bool:
        worker = self._worker
        if self._remembering is None or not self._remembering.done() or worker.market.is_small or time.monotonic() < self._rests_until:
            return False
        return self._next_at is None or worker.now() >= self._next_at

    def _end(self, fitting: asyncio.Task[tuple[int, str]]) -> None:
        self._rests_until = time.monotonic() + RESTS * (time.monotonic() - self._began)
        failure = fitting.exception()
        code, said = fitting.result() if failure is None else (-1, repr(failure))
        if code != 0:
            self._forget()
        metrics.REFITS.labels("done" if code == 0 else "failed").inc()
        log.log(logging.INFO if code == 0 else logging.WARNING, "refit: %s", said)
