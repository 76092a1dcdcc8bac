"""Work that takes longer than a timer may hold up the stream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine


class BesideTheStream:
    """Work for a timer that takes longer than a timer may hold up the stream: started by it, awaited by nobody but `stop`."""

    def __init__(self, work: Callable[[], Coroutine[None, None, None]]) -> None:
        self._work = work
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start it, unless the last one still runs. Raises what the last one raised."""
        if self._running is None or self._running.done():
            last, self._running = self._running, asyncio.create_task(self._work())
            if last is not None:
                last.result()

    async def stop(self) -> None:
        """Let it end."""
        if self._running is not None:
            await asyncio.wait([self._running])
