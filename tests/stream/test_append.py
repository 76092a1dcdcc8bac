"""What requests send, on a real broker, also one that goes away in the middle."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.contracts.topics import Topic
from shared.kafka_admin import apply_topics
from shared.streaming import publisher as publishing_module
from shared.streaming.errors import MessageTooLarge, Unavailable
from shared.streaming.publisher import KafkaPublisher
from shared.streaming.reader import read_topic
from shared.streaming.records import Message
from stack import process
from stack.embedded import Broker
from tests.stream.harness import key_for, messages, new_topic, publishing, unique

pytestmark = pytest.mark.anyio


async def values_in(broker: str, topic: Topic) -> list[bytes]:
    return [record.value or b"" async for some in read_topic(broker, topic) for record in some]


async def test_a_batch_goes_to_its_partitions_in_the_order_it_came(broker: str) -> None:
    topic = new_topic(broker)
    async with publishing(broker) as publisher:
        assert await publisher.append_all(topic, [*messages(200), *messages(50, partition=3, first=1000)]) == [None] * 250
        await publisher.append(topic, Message(key_for(3), b"last"))
    found = await values_in(broker, topic)
    assert sorted(found) == sorted([*(b"%d" % number for number in range(200)), *(b"%d" % number for number in range(1000, 1050)), b"last"])
    of_three = [value for value in found if value == b"last" or int(value) >= 1000]
    assert of_three == [*(b"%d" % number for number in range(1000, 1050)), b"last"]


async def test_what_no_topic_takes_is_told_and_its_neighbours_go(broker: str) -> None:
    topic = new_topic(broker)
    async with publishing(broker) as publisher:
        sent = [*messages(3), Message(b"big", b"x" * topic.max_message_bytes), *messages(3, first=3)]
        outcomes = await publisher.append_all(topic, sent)
    assert [type(outcome) for outcome in outcomes] == [type(None)] * 3 + [MessageTooLarge] + [type(None)] * 3
    assert sorted(await values_in(broker, topic)) == [b"%d" % number for number in range(6)]


async def test_a_process_that_is_closed_to_requests_says_so_of_every_message(broker: str) -> None:
    topic = new_topic(broker)
    async with publishing(broker) as publisher:
        await publisher.close_to_requests()
        assert [type(outcome) for outcome in await publisher.append_all(topic, messages(2))] == [Unavailable, Unavailable]
    assert await values_in(broker, topic) == []


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[Broker]:
    """A broker that only this test takes away."""
    broker = Broker(tmp_path, process.free_port())
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


async def test_of_a_broker_that_goes_away_in_the_middle_nothing_is_called_kept_that_is_not(
    own_broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six batches of one partition: the broker stops answering before the third, and comes back when the callers were told."""
    monkeypatch.setattr(publishing_module, "APPEND_SECONDS", 1.0)
    topic = Topic(unique("away"), (), key="anything", producers=(), consumers=())
    apply_topics(own_broker.bootstrap_servers, [topic])
    large = [Message(key_for(0), b"%d " % number + b"x" * 440_000) for number in range(12)]
    async with publishing(own_broker.bootstrap_servers) as publisher:
        assert await publisher.append_all(topic, messages(8)) == [None] * 8
        stop_before(3, publisher, own_broker)
        outcomes = await publisher.append_all(topic, large)
        os.kill(pid_of(own_broker), signal.SIGCONT)
        assert [outcome is None for outcome in outcomes] == [True] * 4 + [False] * 8
        assert {type(outcome) for outcome in outcomes[4:]} == {Unavailable}
        await publisher.append(topic, Message(key_for(0), b"back"))
    kept = [value[:2].strip() for value in await values_in(own_broker.bootstrap_servers, topic) if len(value) > 1000]
    assert kept[:4] == [b"0", b"1", b"2", b"3"]


def stop_before(number: int, publisher: KafkaPublisher, broker: Broker) -> None:
    """The broker does not answer the batch of that number, nor any later one."""
    producer: Any = publisher._shared
    send_batch, sent = producer.send_batch, 0

    async def counting(*args: Any, **kwargs: Any) -> Any:
        nonlocal sent
        sent += 1
        if sent == number:
            os.kill(pid_of(broker), signal.SIGSTOP)
        return await send_batch(*args, **kwargs)

    producer.send_batch = counting


def pid_of(broker: Broker) -> int:
    assert broker.pid is not None
    return broker.pid
