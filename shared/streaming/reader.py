"""Reads partitions outside any group, from an offset to where they end now: for state kept in compacted topics."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing
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


async def read_partition(bootstrap_servers: str, topic: Topic, partition: int, start: int) -> AsyncGenerator[Sequence[Record], None]:
    """Every record from `start` (or the first that is still there) to the end at the time of the call. Raises Unavailable."""
    async with aclosing(_read(bootstrap_servers, topic, {partition: start})) as records:
        async for some in records:
            yield some


async def read_topic(bootstrap_servers: str, topic: Topic) -> AsyncGenerator[Sequence[Record], None]:
    """Every record of every partition, each partition's in order, as of the time of the call. Raises Unavailable."""
    async with aclosing(_read(bootstrap_servers, topic, dict.fromkeys(range(topic.partitions), 0))) as records:
        async for some in records:
            yield some


async def _read(bootstrap_servers: str, topic: Topic, starts: Mapping[int, int]) -> AsyncGenerator[Sequence[Record], None]:
    consumer = _consumer(bootstrap_servers)
    try:
        await consumer.start()
        bounds = await _bounds(consumer, [TopicPartition(topic.name, partition) for partition in starts])
        left = {where: end for where, (first, end) in bounds.items() if max(starts[where.partition], first) < end}
        for where in left:
            consumer.seek(where, max(starts[where.partition], bounds[where][0]))
        empty = 0
        while left:
            found = await consumer.getmany(*left, timeout_ms=POLL_MS)
            empty = 0 if any(found.values()) else empty + 1
            if empty > PATIENCE_POLLS:
                where, end = next(iter(left.items()))
                raise Unavailable(f"broker: {topic.name}/{where.partition} ends at {end}, but nothing more comes")
            for where, end in list(left.items()):
                # Compaction and control records leave gaps, which only the consumer's own position shows.
                if await consumer.position(where) >= end:
                    del left[where]
                if records := found.get(where):
                    yield [record for record in records if record.offset < end]
    except KafkaError as error:
        raise Unavailable(f"broker: {error!r}") from error
    finally:
        await consumer.stop()


async def follow_partition(bootstrap_servers: str, topic: Topic, partition: int, start: int) -> AsyncIterator[Sequence[Record]]:
    """Every record from `start` (or the first that is still there) on, as they come, without end. Raises Unavailable."""
    async with aclosing(follow_partitions(bootstrap_servers, topic, {partition: start})) as followed:
        async for _, records in followed:
            yield records


async def follow_partitions(
    bootstrap_servers: str, topic: Topic, starts: Mapping[int, int]
) -> AsyncGenerator[tuple[int, Sequence[Record]], None]:
    """The same of several partitions through one connection; each answer is of one partition, which is named. Raises Unavailable."""
    where = [TopicPartition(topic.name, partition) for partition in starts]
    consumer = _consumer(bootstrap_servers)
    try:
        await consumer.start()
        first = await consumer.beginning_offsets(where)
        consumer.assign(where)
        for each in where:
            consumer.seek(each, max(starts[each.partition], first[each]))
        while True:
            for each, records in (await consumer.getmany(timeout_ms=POLL_MS)).items():
                if records:
                    yield each.partition, records
    except KafkaError as error:
        raise Unavailable(f"broker: {error!r}") from error
    finally:
        await consumer.stop()


async def bounds_of_partition(bootstrap_servers: str, topic: Topic, partition: int) -> tuple[int, int]:
    """The first offset that is still there, and where the partition ends now. Raises Unavailable."""
    return (await _bounds_at(bootstrap_servers, topic, [partition]))[partition]


async def bounds_of_topic(bootstrap_servers: str, topic: Topic) -> dict[int, tuple[int, int]]:
    """The same of every partition. Raises Unavailable."""
    return await _bounds_at(bootstrap_servers, topic, range(topic.partitions))


async def _bounds_at(bootstrap_servers: str, topic: Topic, partitions: Iterable[int]) -> dict[int, tuple[int, int]]:
    consumer = _consumer(bootstrap_servers)
    try:
        await consumer.start()
        bounds = await _bounds(consumer, [TopicPartition(topic.name, partition) for partition in partitions])
    except KafkaError as error:
        raise Unavailable(f"broker: {error!r}") from error
    finally:
        await consumer.stop()
    return {where.partition: found for where, found in bounds.items()}


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


async def _bounds(consumer: Any, wanted: Sequence[TopicPartition]) -> dict[TopicPartition, tuple[int, int]]:
    """Firsts and ends; afterwards the partitions that hold something are assigned.

    The end is the high watermark of a fetch: ListOffsets is too low on the embedded broker, one past the *first* record of the last batch.
    """
    # Before anything is assigned: a fetch that waits for news would hold these questions up.
    first, asked = await consumer.beginning_offsets(wanted), await consumer.end_offsets(wanted)
    filled = [where for where in wanted if asked[where] > first[where]]
    consumer.assign(filled)
    for where in filled:
        consumer.seek(where, asked[where] - 1)
    ends: dict[TopicPartition, int] = dict(asked)
    waiting = set(filled)
    for _ in range(PATIENCE_POLLS):
        if not waiting:
            return {where: (first[where], ends[where]) for where in wanted}
        await consumer.getmany(*waiting, timeout_ms=POLL_MS)
        for where in filled:
            if (seen := consumer.highwater(where)) is not None:
                ends[where] = max(asked[where], seen)
                waiting.discard(where)
    silent = next(iter(waiting))
    raise Unavailable(f"broker: {silent.topic}/{silent.partition} does not say where it ends")


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
