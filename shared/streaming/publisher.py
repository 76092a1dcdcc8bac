"""Sending to Kafka: in order and acknowledged for handlers, batched over many callers for HTTP requests."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from functools import partial
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from shared.contracts.topics import Topic
from shared.streaming.errors import MessageTooLarge, NotSent, Unavailable
from shared.streaming.lanes import Lane
from shared.streaming.leaving import Lease
from shared.streaming.metrics import PUBLISHED
from shared.streaming.partitions import partition_for, partitions_for
from shared.streaming.records import Message

BATCH_BYTES = 900_000
"""Below the megabyte that brokers take in one batch."""
RECORD_OVERHEAD_BYTES = 200
PUBLISH_SECONDS = 10.0
APPEND_SECONDS = 5.0
LINGER_SECONDS = 0.002
"""How long the first of a batch waits for company: a batch costs the broker's client as much as a dozen messages."""


class KafkaPublisher:
    """Implements `shared.service.Publisher`.

    Idempotent production stays off: the embedded broker refuses it from this client, and readers expect repeats anyway.
    """

    def __init__(self, bootstrap_servers: str, lease: Lease | None = None) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._lease = lease
        self._ordered: AIOKafkaProducer | None = None
        self._shared: AIOKafkaProducer | None = None
        self._locks: defaultdict[tuple[str, int], asyncio.Lock] = defaultdict(asyncio.Lock)
        self._lanes: dict[tuple[str, int], Lane] = {}
        self._closed_to_requests = False
        self._appending_count = 0
        self._nothing_appending = asyncio.Event()
        self._nothing_appending.set()

    async def start(self) -> None:
        """Connect. Raises Unavailable while the broker is away."""
        # Two producers: requests may be accepted while the group has lost us, handlers may not go on.
        ordered = await _connected(self._producer(PUBLISH_SECONDS, linger_ms=0))
        try:
            self._shared = await _connected(self._producer(APPEND_SECONDS, linger_ms=0))
        except Unavailable:
            await ordered.stop()
            raise
        if self._lease is not None:
            _check_before_each_request(ordered, self._lease)
        self._ordered = ordered

    def _producer(self, seconds: float, linger_ms: int) -> AIOKafkaProducer:
        return AIOKafkaProducer(
            bootstrap_servers=self._bootstrap_servers,
            acks="all",
            linger_ms=linger_ms,
            max_batch_size=BATCH_BYTES,
            max_request_size=8 * BATCH_BYTES,
            request_timeout_ms=int(seconds * 1000),
            retry_backoff_ms=50,
        )

    async def stop(self) -> None:
        """Send what is waiting and disconnect."""
        await asyncio.gather(*(producer.stop() for producer in (self._ordered, self._shared) if producer is not None))

    async def is_reachable(self) -> bool:
        """Does the broker answer now?"""
        return self._shared is not None and bool(await self._shared.client.force_metadata_update())

    async def publish(self, topic: Topic, messages: Sequence[Message]) -> None:
        """Send in order per partition, partitions side by side; returns when all are acknowledged.

        Raises Unavailable, and MessageTooLarge before anything is sent.
        """
        by_partition: defaultdict[int, list[Message]] = defaultdict(list)
        partitions = partitions_for([message.key for message in messages], topic.partitions)
        for message, partition in zip(messages, partitions, strict=True):
            _check_size(topic, message)
            by_partition[partition].append(message)
        sends = [self._send_in_order(topic, partition, each) for partition, each in by_partition.items()]
        outcomes = await asyncio.gather(*sends, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        PUBLISHED.labels(topic.name).inc(len(messages))

    async def _send_in_order(self, topic: Topic, partition: int, messages: list[Message]) -> None:
        producer = _started(self._ordered)
        async with self._locks[topic.name, partition]:
            for batch in _batches(producer, messages):
                await _acknowledged(producer.send_batch(batch, topic.name, partition=partition))

    async def append(self, topic: Topic, message: Message) -> None:
        """Send one message together with other callers' messages. Raises Unavailable and MessageTooLarge."""
        self._check_open_to_requests()
        _check_size(topic, message)
        with self._appending():
            [outcome] = await self._lane(topic, partition_for(message.key, topic.partitions)).put((message,))
        if outcome is not None:
            # A copy: all who waited for this batch are told, and each raise adds to a traceback.
            raise copy(outcome)
        PUBLISHED.labels(topic.name).inc()

    async def append_all(self, topic: Topic, messages: Sequence[Message]) -> list[NotSent | None]:
        """Send messages together with each other and with other callers'; why each was not acknowledged, None where it was."""
        try:
            self._check_open_to_requests()
        except Unavailable as closed:
            return [closed] * len(messages)
        outcomes: list[NotSent | None] = [_too_large(topic, message) for message in messages]
        by_partition: defaultdict[int, list[int]] = defaultdict(list)
        for place, partition in enumerate(partitions_for([message.key for message in messages], topic.partitions)):
            if outcomes[place] is None:
                by_partition[partition].append(place)
        with self._appending():
            sent = [self._lane(topic, partition).put([messages[place] for place in each]) for partition, each in by_partition.items()]
            for places, lane in zip(by_partition.values(), sent, strict=True):
                for place, outcome in zip(places, await lane, strict=True):
                    outcomes[place] = outcome
        PUBLISHED.labels(topic.name).inc(outcomes.count(None))
        return outcomes

    def _check_open_to_requests(self) -> None:
        if self._closed_to_requests:
            raise Unavailable("Dear is being stopped and takes nothing new")

    def _lane(self, topic: Topic, partition: int) -> Lane:
        lane = self._lanes.get((topic.name, partition))
        if lane is None:
            lane = self._lanes[topic.name, partition] = Lane(partial(self._send_what_goes, topic.name, partition), LINGER_SECONDS)
        return lane

    async def _send_what_goes(self, topic: str, partition: int, messages: Sequence[Message]) -> list[NotSent | None]:
        """In order, until the broker is away; what became of each."""
        outcomes: list[NotSent | None] = []
        try:
            producer = _started(self._shared)
            for batch in _batches(producer, messages):
                some = messages[len(outcomes) : len(outcomes) + batch.record_count()]
                try:
                    await _acknowledged(producer.send_batch(batch, topic, partition=partition))
                    outcomes += [None] * len(some)
                except MessageTooLarge as fault:
                    outcomes += [fault] if len(some) == 1 else await self._send_halves(topic, partition, some)
        except Unavailable as away:
            outcomes += [away] * (len(messages) - len(outcomes))
        return outcomes

    async def _send_halves(self, topic: str, partition: int, messages: Sequence[Message]) -> list[NotSent | None]:
        """The broker takes less at once than the map says: what is small still goes."""
        middle = len(messages) // 2
        first = await self._send_what_goes(topic, partition, messages[:middle])
        return first + await self._send_what_goes(topic, partition, messages[middle:])

    @contextmanager
    def _appending(self) -> Iterator[None]:
        self._appending_count += 1
        self._nothing_appending.clear()
        try:
            yield
        finally:
            self._appending_count -= 1
            if not self._appending_count:
                self._nothing_appending.set()

    async def close_to_requests(self) -> None:
        """Refuse every `append` from now on; returns when those that were let in are acknowledged or have failed. `publish` goes on."""
        self._closed_to_requests = True
        await self._nothing_appending.wait()


def _started(producer: AIOKafkaProducer | None) -> AIOKafkaProducer:
    if producer is None:
        raise Unavailable("broker: not connected yet")
    return producer


async def _acknowledged(sending: Awaitable[Awaitable[object]]) -> None:
    try:
        await (await sending)
    except MessageSizeTooLargeError as error:
        raise MessageTooLarge(str(error)) from error
    except KafkaError as error:
        raise Unavailable(f"broker: {error!r}") from error


def _batches(producer: AIOKafkaProducer, messages: Sequence[Message]) -> Iterator[Any]:
    batch = producer.create_batch()
    for message in messages:
        if not _fits(batch, message):
            batch.close()
            yield batch
            batch = producer.create_batch()
            _fits(batch, message)
    batch.close()
    yield batch


def _fits(batch: Any, message: Message) -> bool:
    """Put the message into the batch, if there is room; into an empty one it always goes."""
    return batch.append(timestamp=None, key=message.key, value=message.value, headers=list(message.headers)) is not None


async def _connected(producer: AIOKafkaProducer) -> AIOKafkaProducer:
    try:
        await producer.start()
    except KafkaError as error:
        await producer.stop()
        raise Unavailable(f"broker: {error!r}") from error
    return producer


def _check_size(topic: Topic, message: Message) -> None:
    fault = _too_large(topic, message)
    if fault is not None:
        raise fault


def _too_large(topic: Topic, message: Message) -> MessageTooLarge | None:
    size = len(message.key) + len(message.value or b"") + RECORD_OVERHEAD_BYTES
    for name, value in message.headers:
        size += len(name) + len(value)
    if size <= topic.max_message_bytes:
        return None
    return MessageTooLarge(f"a message of {size} bytes for {topic.name}, which takes {topic.max_message_bytes}")


def _check_before_each_request(producer: AIOKafkaProducer, lease: Lease) -> None:
    """Ask the lease at the last moment: what was waiting in the producer while the process was paused must not go out."""
    sender = producer._sender
    send = sender._send_produce_req

    async def checked(node_id: int, batches: Any) -> None:
        lease.check()
        await send(node_id, batches)

    sender._send_produce_req = checked
