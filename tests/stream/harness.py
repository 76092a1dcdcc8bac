"""Fresh topics and groups on the shared broker, workers of our loop in this process and in others."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from fastapi import APIRouter

from shared.contracts.topics import DEAD_LETTERS, Topic
from shared.kafka_admin import admin, apply_topics, read_topic, topic_ids
from shared.service import Service
from shared.streaming.leaving import Lease
from shared.streaming.loop import StreamLoop
from shared.streaming.partitions import partition_for
from shared.streaming.progress import Progress
from shared.streaming.publisher import KafkaPublisher
from shared.streaming.records import Handler, Message

ROOT = Path(__file__).resolve().parents[2]
SESSION_SECONDS = 6.0


def unique(what: str) -> str:
    """A name that no other test uses."""
    return f"{what}-{uuid.uuid4().hex[:8]}"


def new_topic(broker: str, partitions: int = 8) -> Topic:
    """A topic of its own for one test."""
    topic = Topic(unique("test"), (), key="anything", producers=(), consumers=(), partitions=partitions)
    apply_topics(broker, [topic])
    return topic


def key_for(partition: int, partitions: int = 8) -> bytes:
    """A key that belongs to a partition."""
    return next(key for number in range(10_000) if partition_for(key := str(number).encode(), partitions) == partition)


def messages(count: int, *, partition: int | None = None, first: int = 0) -> list[Message]:
    """Messages whose values are their numbers, in one partition or spread."""
    fixed = None if partition is None else key_for(partition)
    return [Message(fixed or str(number).encode(), str(number).encode()) for number in range(first, first + count)]


@asynccontextmanager
async def publishing(broker: str, lease: Lease | None = None) -> AsyncIterator[KafkaPublisher]:
    """A connected publisher."""
    publisher = KafkaPublisher(broker, lease)
    await publisher.start()
    try:
        yield publisher
    finally:
        await publisher.stop()


def service_of(group: str, listens: Mapping[Topic, Handler], **more: Any) -> Service:
    """A service that only listens."""
    return Service(group, listens, APIRouter(), **more)


def new_loop(broker: str, service: Service, publisher: KafkaPublisher, lease: Lease | None = None, **more: Any) -> StreamLoop:
    """A worker of our loop, not yet started."""
    topics = [*service.listens, DEAD_LETTERS]

    async def ids() -> Mapping[str, str]:
        return await asyncio.to_thread(topic_ids, broker, topics)

    options: dict[str, Any] = {"session_seconds": SESSION_SECONDS, "park_limit": 500, "progress": Progress(), **more}
    return StreamLoop(
        service,
        publish=publisher.publish,
        topic_ids=ids,
        known_ids=topic_ids(broker, topics),
        bootstrap_servers=broker,
        lease=lease or Lease(SESSION_SECONDS),
        **options,
    )


@asynccontextmanager
async def working(broker: str, service: Service, publisher: KafkaPublisher, **more: Any) -> AsyncIterator[StreamLoop]:
    """A worker of our loop that has joined its group; drained at the end."""
    loop = new_loop(broker, service, publisher, **more)
    await loop.start()
    try:
        yield loop
    finally:
        await loop.drain()


async def until(condition: Callable[[], bool], timeout_seconds: float = 20.0) -> None:
    """Return once the condition holds."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.02)


def wait_until(condition: Callable[[], bool], timeout_seconds: float = 30.0) -> None:
    """The same outside an event loop."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def committed(broker: str, group: str, topic: Topic) -> dict[int, int]:
    """Partition -> the offset that the group committed."""
    with admin(broker) as client:
        offsets = client.list_group_offsets({group: None}).get(group, {})
    return {at.partition: found.offset for at, found in offsets.items() if at.topic == topic.name and found.offset >= 0}


async def members(broker: str, group: str) -> int:
    """How many workers the broker counts to a group now."""
    client = AIOKafkaAdminClient(bootstrap_servers=broker)
    await client.start()
    try:
        [answer] = await client.describe_consumer_groups([group])
        [found] = answer.to_object()["groups"]
        return len(found["members"])
    finally:
        await client.close()


def ends(topic: Topic, sent: Sequence[Message]) -> dict[int, int]:
    """Partition -> how many of the messages it got."""
    counts: dict[int, int] = {}
    for message in sent:
        partition = partition_for(message.key, topic.partitions)
        counts[partition] = counts.get(partition, 0) + 1
    return counts


def parked_by(broker: str, group: str) -> list[dict[str, Any]]:
    """The data of what a group parked."""
    found = [json.loads(each.record.value) for each in read_topic(broker, DEAD_LETTERS) if each.record.value]
    return [event["data"] for event in found if event["data"]["group"] == group]


def values(broker: str, topic: Topic) -> list[bytes | None]:
    """The values of everything in a topic."""
    return [each.record.value for each in read_topic(broker, topic)]


class WorkerProcess:
    """A worker in a process of its own (`worker_process.py`), which writes what it did to a file before it returns."""

    def __init__(self, broker: str, group: str, topic: Topic, behaviour: str, effects: Path, **options: Any) -> None:
        self.effects = effects
        self.log = effects.with_suffix(f".{unique('log')}")
        asked = {"broker": broker, "group": group, "topic": topic.name, "behaviour": behaviour, "effects": str(effects), **options}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.stream.worker_process", json.dumps(asked)],
                cwd=ROOT,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )

    def lines(self) -> list[str]:
        """The whole lines that it, and others with the same file, wrote; not one that is being written or was cut off by a kill."""
        written = self.effects.read_text().splitlines() if self.effects.exists() else []
        return [line.removesuffix(";") for line in written if line.endswith(";")]

    def said(self) -> str:
        """Its log."""
        return self.log.read_text()

    def wait(self, timeout_seconds: float = 30.0) -> int:
        """Its exit code."""
        return self.process.wait(timeout_seconds)

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
