"""The least HTTP client that can ask over a kept connection: what it costs is not measured with what it asks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence


class Connection:
    """One connection, one question at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, port: int) -> Connection:
        """Connect to this machine."""
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def ask(self, request: bytes) -> int:
        """Send a whole request; returns the status of its answer once the body is there, too."""
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].partition(b"\r")[0]
        await self._reader.readexactly(int(length))
        return int(head[9:12])

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


def get(path: str) -> bytes:
    """A question."""
    return f"GET {path} HTTP/1.1\r\nHost: identity\r\n\r\n".encode()


async def at_a_rate(port: int, requests: Sequence[bytes], rate: float, connections: int) -> list[float]:
    """Ask at a steady rate; seconds from when each was due to its answer, waiting for a free connection included."""
    free: asyncio.Queue[Connection] = asyncio.Queue()
    for _ in range(connections):
        free.put_nowait(await Connection.open(port))
    took: list[float] = []

    async def one(request: bytes, due: float) -> None:
        connection = await free.get()
        _check(await connection.ask(request))
        free.put_nowait(connection)
        took.append(time.perf_counter() - due)

    began = time.perf_counter() + 0.1
    tasks = []
    for number, request in enumerate(requests):
        due = began + number / rate
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        tasks.append(asyncio.create_task(one(request, due)))
    await asyncio.gather(*tasks)
    return took


def _check(status: int) -> None:
    if not 200 <= status < 300:
        raise SystemExit(f"identity answered {status}")
