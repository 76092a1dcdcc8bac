"""Reading a partition from end to end, outside any group."""

from __future__ import annotations

import asyncio

from shared.streaming.reader import bounds_of_partition, first_of_partition, read_partition
from tests.stream.harness import messages, new_topic, publishing


def test_everything_up_to_the_end_is_read_also_the_rest_of_the_last_batch(broker: str) -> None:
    """The embedded broker's ListOffsets answers with one past the first record of the last batch."""
    topic = new_topic(broker)

    async def scenario() -> None:
        async with publishing(broker) as publisher:
            await publisher.publish(topic, messages(10, partition=3))
            await publisher.publish(topic, messages(10, partition=3, first=10))
        assert await bounds_of_partition(broker, topic, 3) == (0, 20)
        assert await first_of_partition(broker, topic, 3) == 0
        read = [record async for records in read_partition(broker, topic, 3, 0) for record in records]
        assert [record.value for record in read] == [str(number).encode() for number in range(20)]
        rest = [record.offset async for records in read_partition(broker, topic, 3, 15) for record in records]
        assert rest == [15, 16, 17, 18, 19]
        assert await bounds_of_partition(broker, topic, 4) == (0, 0)
        assert [records async for records in read_partition(broker, topic, 4, 0)] == []

    asyncio.run(scenario())
