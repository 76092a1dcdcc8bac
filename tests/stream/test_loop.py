"""Our loop on a real broker: order, commits, outages, poison, gates, seeks, drains."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections import defaultdict
from typing import Any

import pytest

from shared.contracts.topics import DEAD_LETTERS
from shared.kafka_admin import topic_ids
from shared.service import OpenedPartition
from shared.streaming import transport
from shared.streaming.errors import InvalidEvents, Reject, Unavailable
from shared.streaming.loop import StreamLoop
from shared.streaming.metrics import LAG_MESSAGES, LAG_SECONDS
from shared.streaming.progress import Progress
from shared.streaming.records import Batch, Message
from shared.streaming.settling import REPLAY_HEADER
from shared.streaming.watching import Watchdog
from tests.stream.harness import (
    committed,
    ends,
    key_for,
    members,
    messages,
    new_topic,
    parked_by,
    publishing,
    service_of,
    unique,
    until,
    values,
    working,
)


class Collected:
    """A handler that keeps what it got."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []

    async def __call__(self, batch: Batch) -> None:
        self.batches.append(batch)

    def offsets(self) -> dict[int, list[int]]:
        found: defaultdict[int, list[int]] = defaultdict(list)
        for batch in self.batches:
            found[batch.partition].extend(record.offset for record in batch.records)
        return dict(found)

    def count(self) -> int:
        return sum(len(batch.records) for batch in self.batches)


def test_every_event_is_applied_in_order_and_exactly_what_was_applied_is_committed(broker: str) -> None:
    topic, other, group = new_topic(broker), new_topic(broker), unique("order")
    sent, later = messages(20_000), messages(777, first=20_000)
    collected, ticks = Collected(), []

    async def scenario() -> None:
        async with publishing(broker) as publisher:
            await publisher.publish(topic, sent)
            await publisher.publish(other, later)
            service = service_of(group, {topic: collected, other: collected})
            async with working(broker, service, publisher):
                await until(lambda: collected.count() == len(sent) + len(later))
                ticks.append(committed(broker, group, topic))

    asyncio.run(scenario())
    mine = Collected()
    mine.batches = [batch for batch in collected.batches if batch.topic == topic.name]
    assert mine.offsets() == {partition: list(range(end)) for partition, end in ends(topic, sent).items()}
    assert len(mine.batches) < len(sent) / 10, "events arrive in batches"
    assert committed(broker, group, topic) == ends(topic, sent)
    assert committed(broker, group, other) == ends(other, later)
    assert {batch.topic_id for batch in mine.batches} == {topic_ids(broker, [topic])[topic.name]}


class Troubled(Collected):
    """Event 7 is invalid, event 13 is poison, and what the handler needs is away twice."""

    def __init__(self) -> None:
        super().__init__()
        self.outages = 2

    async def __call__(self, batch: Batch) -> None:
        if self.outages:
            self.outages -= 1
            raise Unavailable("the database is away")
        if any(record.value == b"13" for record in batch.records):
            raise ZeroDivisionError("thirteen")
        await super().__call__(batch)
        invalid = [record.offset for record in batch.records if record.value == b"7"]
        if invalid:
            raise InvalidEvents(tuple(Reject(offset, "malformed", "seven") for offset in invalid))


def test_poison_is_isolated_and_outages_park_nothing(broker: str) -> None:
    topic, group = new_topic(broker), unique("poison")
    handler = Troubled()
    headers = (("trace", b"\x00\xff"),)
    sent = [Message(each.key, each.value, headers) for each in messages(20, partition=3)]
    foreign = Message(key_for(3), b"of another group", ((REPLAY_HEADER, b"somebody-else"),))
    replayed = Message(key_for(3), b"of this group", ((REPLAY_HEADER, group.encode()),))

    async def scenario() -> None:
        async with publishing(broker) as publisher:
            await publisher.publish(topic, [*sent, foreign, replayed])
            async with working(broker, service_of(group, {topic: handler}), publisher) as loop:
                await until(lambda: any(reading.settled_to == 22 for reading in loop.ledger.readings()))

    asyncio.run(scenario())
    applied = {record.value for batch in handler.batches for record in batch.records}
    assert applied == {str(number).encode() for number in range(20) if number != 13} | {b"of this group"}
    parked = {entry["offset"]: entry for entry in parked_by(broker, group)}
    assert sorted(parked) == [7, 13]
    assert parked[7]["reason"] == "malformed"
    assert parked[13]["reason"] == "poison"
    assert parked[13]["detail"] == "ZeroDivisionError: thirteen"
    assert parked[13]["partition"] == 3
    assert parked[13]["topic"] == topic.name
    assert parked[13]["topic_id"] == topic_ids(broker, [topic])[topic.name]
    assert b64decode(parked[13]["key_base64"]) == key_for(3)
    assert b64decode(parked[13]["value_base64"]) == b"13"
    assert [(name, b64decode(value)) for name, value in parked[13]["headers"]] == list(headers)
    assert committed(broker, group, topic) == {3: 22}


class Gate:
    """Partition state that opens when told, and where told."""

    def __init__(self, start_at: dict[int, int]) -> None:
        self._start_at = start_at
        self.may_open = asyncio.Event()
        self.is_open: set[int] = set()
        self.closed: list[int] = []

    async def open(self, opened: OpenedPartition) -> int | None:
        if opened.partition == 1:
            await self.may_open.wait()
        self.is_open.add(opened.partition)
        return self._start_at.get(opened.partition)

    async def close(self, topic: str, partition: int) -> None:
        self.is_open.discard(partition)
        self.closed.append(partition)


def test_no_batch_is_handled_before_its_partition_is_open_and_reading_begins_where_it_says(broker: str) -> None:
    topic, group = new_topic(broker), unique("gate")
    collected = Collected()

    async def scenario() -> None:
        gate = Gate({1: 40, 2: 90})

        async def handle(batch: Batch) -> None:
            assert batch.partition in gate.is_open
            await collected(batch)

        async with publishing(broker) as publisher:
            for partition in (0, 1, 2):
                await publisher.publish(topic, messages(100, partition=partition))
            async with working(broker, service_of(group, {topic: handle}, partitions=gate), publisher) as loop:
                await until(lambda: collected.count() == 110)
                assert sorted(collected.offsets()) == [0, 2]
                await asyncio.sleep(0.5)
                assert 1 not in collected.offsets(), "partition 1 waits behind its gate"
                assert loop.is_opening
                gate.may_open.set()
                await until(lambda: collected.count() == 170)
            assert sorted(gate.closed) == list(range(8))

    asyncio.run(scenario())
    assert collected.offsets() == {0: list(range(100)), 1: list(range(40, 100)), 2: list(range(90, 100))}
    assert committed(broker, group, topic) == {0: 100, 1: 100, 2: 100}


def test_what_faust_drops_between_fetching_and_handling_is_read_again(broker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    topic, group = new_topic(broker), unique("dropped")
    collected, dropped = Collected(), []
    fold = transport.fold

    def losing(ledger: Any, drained: Any) -> Any:
        folded = fold(ledger, drained)
        if folded and not dropped:
            dropped.append(folded)
            return {}
        return folded

    monkeypatch.setattr(transport, "fold", losing)

    async def scenario() -> None:
        async with publishing(broker) as publisher, working(broker, service_of(group, {topic: collected}), publisher) as loop:
            await until(lambda: not loop.is_opening)
            await publisher.publish(topic, messages(10, partition=5))
            await until(lambda: bool(dropped))
            await publisher.publish(topic, messages(10, partition=5, first=10))
            await until(lambda: collected.count() == 20)

    asyncio.run(scenario())
    assert dropped
    assert collected.offsets() == {5: list(range(20))}


def test_a_drain_finishes_the_batch_in_hand_and_the_next_worker_goes_on_exactly_there(broker: str) -> None:
    topic, group = new_topic(broker), unique("drain")
    finished: list[Batch] = []
    collected = Collected()

    async def scenario() -> None:
        began, go_on = asyncio.Event(), asyncio.Event()

        async def held(batch: Batch) -> None:
            began.set()
            await go_on.wait()
            finished.append(batch)

        async def release(loop: StreamLoop, go_on: asyncio.Event) -> None:
            """The handler goes on only when the drain has begun and waits for it."""
            await until(lambda: bool(loop._letting_go), 60)
            go_on.set()

        async with publishing(broker) as publisher:
            await publisher.publish(topic, messages(10, partition=0))
            async with working(broker, service_of(group, {topic: held}), publisher) as loop:
                await asyncio.wait_for(began.wait(), 60)
                assert await members(broker, group) == 1
                await publisher.publish(topic, messages(10, partition=0, first=10))
                releasing = asyncio.create_task(release(loop, go_on))
            await releasing
            assert [len(batch.records) for batch in finished] == [10]
            assert committed(broker, group, topic) == {0: 10}
            assert await members(broker, group) == 0, "who drained has left its group, and nobody waits for its session"
            async with working(broker, service_of(group, {topic: collected}), publisher):
                await until(lambda: collected.count() == 10, 60)

    asyncio.run(scenario())
    assert collected.offsets() == {0: list(range(10, 20))}


def test_lag_is_shown_in_messages_and_seconds_and_is_nothing_on_idle_partitions(broker: str) -> None:
    topic, group = new_topic(broker), unique("lag")
    shown: dict[str, tuple[float, float]] = {}

    async def scenario() -> None:
        go_on = asyncio.Event()

        async def waits(batch: Batch) -> None:
            await go_on.wait()

        def lag(partition: int) -> tuple[float, float]:
            labels = (topic.name, str(partition))
            return LAG_MESSAGES.labels(*labels)._value.get(), LAG_SECONDS.labels(*labels)._value.get()

        async with publishing(broker) as publisher:
            progress = Progress()
            await publisher.publish(topic, messages(25, partition=4))
            async with working(broker, service_of(group, {topic: waits}), publisher, progress=progress) as loop:
                watching = asyncio.create_task(Watchdog(loop, progress, 60).watch())
                await until(lambda: lag(4)[0] == 25 and lag(4)[1] > 2, 60)
                shown["busy"], shown["idle"] = lag(4), lag(1)
                go_on.set()
                await until(lambda: lag(4) == (0, 0), 60)
                shown["after"] = lag(4)
                watching.cancel()

    asyncio.run(scenario())
    assert shown["busy"][1] > 2, "the oldest record was written before the group was joined"
    assert shown["idle"] == (0, 0)
    assert shown["after"] == (0, 0)


def test_a_publisher_sends_nothing_to_a_partition_before_what_precedes_it_is_acknowledged(
    broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = new_topic(broker)
    big = [Message(key_for(6), f"{number:06d}".encode() + b"." * 100_000) for number in range(30)]

    async def scenario() -> None:
        async with publishing(broker) as publisher:
            producer: Any = publisher._ordered
            send_batch, sent = producer.send_batch, []

            async def failing(batch: Any, name: str, *, partition: int) -> Any:
                sent.append(batch)
                if len(sent) == 2:
                    from aiokafka.errors import RequestTimedOutError

                    raise RequestTimedOutError
                return await send_batch(batch, name, partition=partition)

            monkeypatch.setattr(producer, "send_batch", failing)
            with pytest.raises(Unavailable):
                await publisher.publish(topic, big)
            assert len(sent) == 2
            first = [(value or b"")[:6] for value in values(broker, topic)]
            await publisher.publish(topic, big)
            both = [(value or b"")[:6] for value in values(broker, topic)]
            numbers = [message.value[:6] for message in big if message.value]
            assert 0 < len(first) < 30
            assert first == numbers[: len(first)]
            assert both == first + numbers, "a repeat begins again at the first message, and leaves no gap"

    asyncio.run(scenario())
    assert DEAD_LETTERS.max_message_bytes > topic.max_message_bytes
