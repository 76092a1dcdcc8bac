"""Reads a partition outside any group, from an offset to where it ends now: for state kept in compacted topics."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from shared.contracts.topics import Topic
from shared.streaming.errors import Unavailable
from shared.streaming.records import Record

FETCH_BYTES = 4 << 20
POLL_MS = 500
PATIENCE_POLLS = 20
"""Polls without a record before the partition's end, after which the broker counts as away."""


async def read_partition(bootstrap_servers: str, topic: Topic, partition: int, start: int) -> AsyncIterator[Sequence[Record]]:
    """Every record from `start` (or the first that is still there) to the end at the time of the call. Raises Unavailable."""
    where = TopicPartition(topic.name, partition)
    consumer = _consumer(bootstrap_servers)
    try:
        await consumer.start()
        consumer.assign([where])
        first = (await consumer.beginning_offsets([where]))[where]
        end = await _end(consumer, where, first)
        position = max(start, first)
        consumer.seek(where, position)
        empty = 0
        while position < end:
            records = (await consumer.getmany(where, timeout_ms=POLL_MS)).get(where, [])
            empty = 0 if records else empty + 1
            if empty > PATIENCE_POLLS:
                raise Unavailable(f"broker: {topic.name}/{partition} ends at {end}, but nothing comes after {position}")
            # Compaction and control records leave gaps, which only the consumer's own position shows.
            position = await consumer.position(where)
            if records:
                yield [record for record in records if record.offset < end]
    except KafkaError as error:
        raise Unavailable(f"broker: {error!r}") from error
    finally:
        await consumer.stop()


async def follow_partition(bootstrap_servers: str, topic: Topic, partition: int, start: int) -> AsyncIterator[Sequence[Record]]:
    """Every record from `start` (or the first that is still there) on, as they come, without end. Raises Unavailable."""
    where = TopicPartition(topic.name, partition)
    consumer = _consumer(bootstrap_servers)
    try:
        await consumer.start()
        consumer.assign([where])
        consumer.seek(where, max(start, (await consumer.beginning_offsets([where]))[where]))
        while True:
            records = (await consumer.getmany(where, timeout_ms=POLL_MS)).get(where, [])
            if records:
                yield records
    except KafkaError as error:
        raise Unavailable(f"broker: {error!r}") from error
    finally:
        await consumer.stop()


async def bounds_of_partition(bootstrap_servers: str, topic: Topic, partition: int) -> tuple[int, int]:
    """The first offset that is still there, and where the partition ends now. Raises Unavailable."""
    where = TopicPartition(topic.name, partition)
    consumer = _consumer(bootstrap_servers)
    try:
        await consumer.start()
        consumer.assign([where])
        first: int = (await consumer.beginning_offsets([where]))[where]
        end = await _end(consumer, where, first)
    except KafkaError as error:
        raise Unavailable(f"broker: {error!r}") from error
    finally:
        await consumer.stop()
    return first, end


async def first_of_partition(bootstrap_servers: str, topic: Topic, partition: int) -> int:
    """The first offset that is still there: what lies before it was removed by retention. Raises Unavailable."""
    where = TopicPartition(topic.name, partition)
    consumer = _consumer(bootstrap_servers)
    try:
        await consumer.start()
        first: int = (await consumer.beginning_offsets([where]))[where]
    except KafkaError as error:
        raise Unavailable(f"broker: {error!r}") from error
    finally:
        await consumer.stop()
    return first


async def _end(consumer: Any, where: TopicPartition, first: int) -> int:
    """The high watermark of a fetch: ListOffsets is too low on the embedded broker, one past the *first* record of the last batch."""
    asked: int = (await consumer.end_offsets([where]))[where]
    if asked <= first:
        return asked
    consumer.seek(where, asked - 1)
    for _ in range(PATIENCE_POLLS):
        await consumer.getmany(where, timeout_ms=POLL_MS)
        seen: int | None = consumer.highwater(where)
        if seen is not None:
            return max(asked, seen)
    raise Unavailable(f"broker: {where.topic}/{where.partition} does not say where it ends")


def _consumer(bootstrap_servers: str) -> Any:
    return AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_uncommitted",
        max_partition_fetch_bytes=FETCH_BYTES,
        request_timeout_ms=15_000,
    )
