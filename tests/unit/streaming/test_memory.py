"""The bus in memory behaves as the broker and the loop do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from fastapi import APIRouter

from shared.contracts.topics import CUSTOMER_EVENTS, CUSTOMERS, PURCHASES
from shared.service import OpenedPartition, Service, Timer
from shared.streaming.errors import InvalidEvents, Reject, Stuck, Unavailable
from shared.streaming.memory import MemoryBus
from shared.streaming.partitions import partition_for
from shared.streaming.records import Batch, Message

Scenario = Callable[[MemoryBus], Awaitable[None]]


def message(number: int) -> Message:
    return Message(f"key{number}".encode(), b'{"number":%d}' % number)


class Passing:
    """Passes purchases on to customer events, and remembers what it saw."""

    def __init__(self, bus: MemoryBus) -> None:
        self.bus = bus
        self.seen: list[tuple[str, int, int]] = []
        self.fails: Exception | None = None
        self.ticks = 0

    async def on_purchases(self, batch: Batch) -> None:
        if self.fails is not None:
            raise self.fails
        self.seen += [(batch.topic_id, batch.partition, record.offset) for record in batch.records]
        await self.bus.publish(CUSTOMER_EVENTS, [Message(record.key or b"", record.value) for record in batch.records])

    async def on_tick(self) -> None:
        self.ticks += 1

    def service(self) -> Service:
        return Service("identity", {PURCHASES: self.on_purchases}, APIRouter(), timers=(Timer(1.0, self.on_tick),))


def test_what_is_published_is_delivered_in_order_with_what_it_causes() -> None:
    async def scenario() -> None:
        bus = MemoryBus(batch_records=3)
        first, second = Passing(bus), []

        async def on_customer_events(batch: Batch) -> None:
            second.extend(record.value for record in batch.records)

        bus.add(first.service())
        bus.add(Service("segmentation", {CUSTOMER_EVENTS: on_customer_events}, APIRouter()))
        await bus.start()
        await bus.publish(PURCHASES, [message(number) for number in range(50)])
        await bus.settle()
        assert len(first.seen) == len(second) == 50
        for partition in range(8):
            offsets = [offset for _, at, offset in first.seen if at == partition]
            assert offsets == list(range(len(offsets)))
        assert {partition_for(b"key7")} == {
            partition for partition in range(8) if any(record.key == b"key7" for record in bus.records(PURCHASES, partition))
        }
        assert sorted(event["number"] for event in bus.events(CUSTOMER_EVENTS)) == list(range(50))
        await bus.tick()
        assert first.ticks == 1

    asyncio.run(scenario())


def test_a_failed_publish_is_tried_again_from_its_first_message() -> None:
    async def scenario() -> None:
        bus = MemoryBus()
        passing = Passing(bus)
        bus.add(passing.service())
        await bus.start()
        await bus.publish(PURCHASES, [Message(b"same", str(number).encode()) for number in range(4)])
        bus.fail_publishes(1, CUSTOMER_EVENTS, sent_first=2)
        await bus.settle()
        assert [record.value for record in bus.records(CUSTOMER_EVENTS)] == [b"0", b"1", b"0", b"1", b"2", b"3"]

    asyncio.run(scenario())


def test_redelivery_and_a_new_log() -> None:
    async def scenario() -> None:
        bus = MemoryBus()
        passing = Passing(bus)
        bus.add(passing.service())
        await bus.start()
        await bus.publish(PURCHASES, [message(1), message(2)])
        await bus.settle()
        bus.redeliver(PURCHASES)
        await bus.settle()
        assert len(passing.seen) == 4
        old = bus.topic_ids[PURCHASES.name]
        await bus.recreate(PURCHASES)
        assert bus.records(PURCHASES) == []
        await bus.publish(PURCHASES, [message(3)])
        await bus.settle()
        assert passing.seen[-1][0] == bus.topic_ids[PURCHASES.name] != old
        await bus.restart()
        await bus.settle()
        assert len(passing.seen) == 5

    asyncio.run(scenario())


def test_parking_poison_and_being_stuck_are_those_of_the_loop() -> None:
    async def scenario() -> None:
        bus = MemoryBus()

        async def picky(batch: Batch) -> None:
            bad = [record.offset for record in batch.records if record.value == b"bad"]
            if bad:
                raise InvalidEvents(tuple(Reject(offset, "malformed", "bad") for offset in bad))
            if any(record.value == b"poison" for record in batch.records):
                raise ZeroDivisionError

        bus.add(Service("identity", {PURCHASES: picky}, APIRouter()))
        await bus.start()
        await bus.publish(PURCHASES, [Message(b"k", b"good"), Message(b"k", b"bad")])
        await bus.settle()
        await bus.publish(PURCHASES, [Message(b"k", b"poison"), Message(b"k", b"good")])
        await bus.settle()
        assert sorted((parked["offset"], parked["reason"]) for parked in bus.parked()) == [(1, "malformed"), (2, "poison")]
        await bus.restart()

    asyncio.run(scenario())

    async def broken() -> None:
        bus = MemoryBus()
        passing = Passing(bus)
        passing.fails = RuntimeError("always")
        bus.add(passing.service())
        await bus.start()
        await bus.publish(PURCHASES, [message(1)])
        with pytest.raises(Stuck):
            await bus.settle()
        passing.fails = Unavailable("for ever")
        with pytest.raises(AssertionError):
            await bus.settle()

    asyncio.run(broken())


def test_partitions_are_opened_and_say_where_to_begin() -> None:
    class State:
        def __init__(self) -> None:
            self.opened: list[OpenedPartition] = []
            self.closed: list[tuple[str, int]] = []

        async def open(self, opened: OpenedPartition) -> int | None:
            self.opened.append(opened)
            return 1

        async def close(self, topic: str, partition: int) -> None:
            self.closed.append((topic, partition))

    async def scenario() -> None:
        bus, state, seen = MemoryBus(), State(), []

        async def handle(batch: Batch) -> None:
            seen.extend(record.value for record in batch.records)

        bus.add(Service("segmentation", {CUSTOMERS: handle}, APIRouter(), partitions=state))
        await bus.start()
        assert len(state.opened) == 8
        assert {opened.topic_id for opened in state.opened} == {bus.topic_ids[CUSTOMERS.name]}
        await bus.publish(CUSTOMERS, [Message(b"k", b"0"), Message(b"k", b"1")])
        await bus.settle()
        assert seen == [b"1"]
        await bus.stop()
        assert len(state.closed) == 8

    asyncio.run(scenario())
