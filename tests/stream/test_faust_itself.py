"""What plain Faust does with events that were not handled. When one of these fails, Faust has changed: read docs/stream-loop.md again."""

from __future__ import annotations

import asyncio
from typing import Any

import faust

from shared.contracts.topics import Topic
from tests.stream.harness import committed, key_for, messages, new_topic, publishing, unique, until


async def _run_plain_faust(broker: str, failing: Topic, skipping: Topic) -> tuple[str, list[bytes]]:
    """An agent that raises on event 1, and an agent that never acknowledges event 1; both run until their last event."""
    group = unique("plain")
    app = faust.App(group, broker=f"kafka://{broker}", web_enabled=False, store="memory://", topic_disable_leader=True)
    app.conf.broker_session_timeout, app.conf.broker_heartbeat_interval, app.conf.broker_commit_interval = 6.0, 1.5, 0.5
    app._create_directories = lambda: None  # type: ignore[method-assign]
    seen: list[bytes] = []

    @app.agent(app.topic(failing.name, value_type=bytes, value_serializer="raw"))
    async def fails_once(stream: Any) -> None:
        async for value in stream:
            seen.append(value)
            if value == b"1":
                raise RuntimeError("this event was not handled")

    @app.agent(app.topic(skipping.name, value_type=bytes, value_serializer="raw"))
    async def forgets_one(stream: Any) -> None:
        async for event in stream.noack().events():
            seen.append(event.value)
            if event.value != b"11":
                event.ack()

    await app.start()
    await until(lambda: {b"2", b"12"} <= set(seen))
    await _until_committed(broker, group, failing, skipping)
    await app.stop()
    return group, seen


async def _until_committed(broker: str, group: str, *topics: Topic) -> None:
    for _ in range(200):
        if all([await asyncio.to_thread(committed, broker, group, topic) == {0: 3} for topic in topics]):
            return
        await asyncio.sleep(0.1)


def test_plain_faust_loses_events(broker: str) -> None:
    """One start for both facts: joining a group takes seconds."""
    failing, skipping = new_topic(broker, 1), new_topic(broker, 1)

    async def scenario() -> tuple[str, list[bytes]]:
        async with publishing(broker) as publisher:
            await publisher.publish(failing, messages(3))
            await publisher.publish(skipping, messages(3, first=10))
        return await _run_plain_faust(broker, failing, skipping)

    group, seen = asyncio.run(scenario())
    assert seen.count(b"1") == 1, "the event whose handling raised is not delivered again"
    assert committed(broker, group, failing) == {0: 3}, "an exception acknowledges the event"
    assert committed(broker, group, skipping) == {0: 3}, "acknowledging a later event commits past an earlier one that was not"


def test_our_loop_delivers_them_again(broker: str) -> None:
    topic = new_topic(broker)
    group = unique("ours")
    seen: list[bytes | None] = []

    async def fails_at_first(batch: Any) -> None:
        seen.extend(record.value for record in batch.records)
        if len(seen) == 3:
            raise RuntimeError("this batch was not handled")

    async def scenario() -> None:
        from tests.stream.harness import service_of, working

        async with publishing(broker) as publisher:
            await publisher.publish(topic, messages(3, partition=2))
            assert key_for(2)
            async with working(broker, service_of(group, {topic: fails_at_first}), publisher):
                await until(lambda: len(seen) == 6)

    asyncio.run(scenario())
    assert seen == [b"0", b"1", b"2"] * 2
    assert committed(broker, group, topic) == {2: 3}
