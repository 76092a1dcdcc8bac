"""A worker in a process of its own, for tests that kill, stop or strangle it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from shared.contracts.topics import Topic
from shared.logs import set_up_logs
from shared.streaming.errors import InvalidEvents, Reject
from shared.streaming.leaving import Lease
from shared.streaming.progress import Progress
from shared.streaming.publisher import KafkaPublisher
from shared.streaming.records import Batch, Message
from shared.streaming.watching import Watchdog
from tests.stream.harness import new_loop, service_of


class Behaviour:
    """What the handler of a test does with a batch."""

    def __init__(self, asked: dict[str, Any], publisher: KafkaPublisher) -> None:
        self._asked, self._publisher = asked, publisher
        self._file = os.open(asked["effects"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def _write(self, lines: list[str]) -> None:
        # The semicolon says that a line is whole: a reader may be in the middle of it, and so may a kill.
        os.write(self._file, "".join(["\n", *(f"{line};\n" for line in lines)]).encode())
        os.fsync(self._file)

    async def records_effects(self, batch: Batch) -> None:
        """Writes each event and syncs before it returns."""
        self._write([f"{batch.partition} {record.offset} {(record.value or b'').decode()} {os.getpid()}" for record in batch.records])
        await asyncio.sleep(self._asked.get("seconds", 0))

    async def publishes_slowly(self, batch: Batch) -> None:
        """Says that it began, waits, and only then publishes."""
        self._write([f"began {os.getpid()}"])
        await asyncio.sleep(self._asked["seconds"])
        target = Topic(self._asked["target"], (), key="anything", producers=(), consumers=())
        await self._publisher.publish(target, [Message(b"by", str(os.getpid()).encode())])
        self._write([f"published {os.getpid()}"])

    async def fails_on_everything(self, batch: Batch) -> None:
        """Nothing passes."""
        self._write(["tried"])
        raise RuntimeError("the handler is broken")

    async def rejects_everything(self, batch: Batch) -> None:
        """Nothing is valid."""
        raise InvalidEvents(tuple(Reject(record.offset, "malformed", "no test can read it") for record in batch.records))

    async def never_returns(self, batch: Batch) -> None:
        """Hangs."""
        self._write(["hangs"])
        await asyncio.Event().wait()

    async def blocks_the_event_loop(self, batch: Batch) -> None:
        """Hangs, and everything with it."""
        self._write(["blocks"])
        time.sleep(3600)


async def main(asked: dict[str, Any]) -> None:
    lease, progress = Lease(6.0), Progress()
    publisher = KafkaPublisher(asked["broker"], lease)
    await publisher.start()
    topic = Topic(asked["topic"], (), key="anything", producers=(), consumers=())
    handler = getattr(Behaviour(asked, publisher), asked["behaviour"])
    service = service_of(asked["group"], {topic: handler})
    loop = new_loop(asked["broker"], service, publisher, lease, progress=progress, park_limit=asked.get("park_limit", 500))
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await loop.start()
    watching = asyncio.create_task(Watchdog(loop, progress, asked.get("stall_seconds", 60)).watch())
    await stop.wait()
    watching.cancel()
    await loop.drain()
    await publisher.stop()


if __name__ == "__main__":
    set_up_logs("worker")
    asked = json.loads(sys.argv[1])
    Path(asked["effects"]).parent.mkdir(parents=True, exist_ok=True)
    asyncio.run(main(asked))
