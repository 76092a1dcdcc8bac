"""A bus in memory: the same services, the same settling, no broker. For unit tests that run in milliseconds."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shared.contracts.topics import DEAD_LETTERS, TOPICS, Topic
from shared.service import OpenedPartition, Service
from shared.streaming.errors import MessageTooLarge, NotSent, Unavailable
from shared.streaming.parking import Parking, ParkLimit
from shared.streaming.partitions import partition_for
from shared.streaming.progress import Progress
from shared.streaming.records import Batch, Message, StoredRecord
from shared.streaming.settling import Settler

PATIENCE = 1000
"""Waits after which an outage in a test is taken for one that nobody will end."""


@dataclass(slots=True)
class _Log:
    topic_id: str
    partitions: list[list[StoredRecord]]
    first: list[int]
    """By partition: the first offset that retention has left."""


@dataclass(slots=True)
class _Group:
    service: Service
    settler: Settler
    positions: dict[tuple[str, int], int] = field(default_factory=dict)


@dataclass(slots=True)
class _Failure:
    topic: Topic | None
    sent_first: int
    error: Exception


class MemoryBus:
    """Implements `shared.service.Publisher`; topics are logs of partitions, as in Kafka.

    `add` services, `await start()`, publish, and `await settle()`: then every group has read everything, what that caused included.
    """

    def __init__(
        self,
        topics: Iterable[Topic] = TOPICS,
        *,
        park_limit: int = 500,
        batch_records: int = 500,
        now_ms: Callable[[], int] = lambda: int(time.time() * 1000),
    ) -> None:
        self._topics = {topic.name: topic for topic in topics}
        self._numbers = itertools.count(1)
        self._logs = {topic.name: self._new_log(topic) for topic in self._topics.values()}
        self._groups: dict[str, _Group] = {}
        self._failures: list[_Failure] = []
        self._park_limit, self._batch_records, self._now_ms = park_limit, batch_records, now_ms

    def _new_log(self, topic: Topic) -> _Log:
        return _Log(f"{topic.name}-id-{next(self._numbers)}", [[] for _ in range(topic.partitions)], [0] * topic.partitions)

    # As the services' Publisher.

    async def publish(self, topic: Topic, messages: Sequence[Message]) -> None:
        """Append; raises what `fail_publishes` asked for."""
        failure = next((each for each in self._failures if each.topic in (None, topic)), None)
        if failure is None:
            self._append(topic, messages)
            return
        self._failures.remove(failure)
        self._append(topic, messages[: failure.sent_first])
        raise failure.error

    async def append(self, topic: Topic, message: Message) -> None:
        """Append one."""
        await self.publish(topic, [message])

    async def append_all(self, topic: Topic, messages: Sequence[Message]) -> list[NotSent | None]:
        """Append each; what `fail_publishes` asked for befalls one message a time."""
        outcomes: list[NotSent | None] = []
        for message in messages:
            try:
                await self.append(topic, message)
                outcomes.append(None)
            except (Unavailable, MessageTooLarge) as fault:
                outcomes.append(fault)
        return outcomes

    def _append(self, topic: Topic, messages: Sequence[Message]) -> None:
        for message in messages:
            if len(message.key) + len(message.value or b"") > topic.max_message_bytes:
                raise MessageTooLarge(f"a message for {topic.name}")
            log = self._logs[topic.name].partitions[partition_for(message.key, topic.partitions)]
            log.append(StoredRecord(len(log), self._now_ms(), message.key, message.value, tuple(message.headers)))

    # As the broker.

    @property
    def topic_ids(self) -> Mapping[str, str]:
        """Topic name -> topic id."""
        return {name: log.topic_id for name, log in self._logs.items()}

    def records(self, topic: Topic, partition: int | None = None) -> list[StoredRecord]:
        """What was published to a topic, partition by partition."""
        log = self._logs[topic.name]
        partitions = [records[first:] for records, first in zip(log.partitions, log.first, strict=True)]
        return list(itertools.chain.from_iterable(partitions if partition is None else partitions[partition : partition + 1]))

    def events(self, topic: Topic) -> list[Any]:
        """The JSON values of a topic's records, tombstones as None."""
        return [None if record.value is None else json.loads(record.value) for record in self.records(topic)]

    def parked(self) -> list[dict[str, Any]]:
        """The `data` of every parked event."""
        return [event["data"] for event in self.events(DEAD_LETTERS)]

    async def first_of_partition(self, topic: Topic, partition: int) -> int:
        """The first offset that is still there."""
        return self._logs[topic.name].first[partition]

    async def read(self, topic: Topic) -> AsyncIterator[Sequence[StoredRecord]]:
        """Everything that is in a topic now, as `read_topic` tells it."""
        yield self.records(topic)

    def expire(self, topic: Topic) -> None:
        """Retention removes everything that is in the topic now; its id stays."""
        log = self._logs[topic.name]
        log.first = [len(records) for records in log.partitions]

    def fail_publishes(self, times: int = 1, topic: Topic | None = None, *, sent_first: int = 0, error: Exception | None = None) -> None:
        """The next `times` publishes (to `topic`) fail, after having sent `sent_first` of their messages."""
        self._failures += [_Failure(topic, sent_first, error or Unavailable("broker: a test took it away")) for _ in range(times)]

    async def recreate(self, topic: Topic) -> None:
        """The log is lost and made anew, empty and under a new id; readers are told as by a restart of their workers."""
        readers = [group for group in self._groups.values() if topic in group.service.listens]
        for group in readers:
            await self._close(group, topic)
        self._logs[topic.name] = self._new_log(topic)
        for group in readers:
            await self._open(group, topic)

    # As the workers.

    def add(self, service: Service) -> None:
        """A worker of the service's group."""
        parking = Parking(service.name, self.publish, ParkLimit(self._park_limit), service.seal_letters)
        handlers = {topic.name: handler for topic, handler in service.listens.items()}
        settler = Settler(
            group=service.name,
            handlers=handlers,
            parking=parking,
            progress=Progress(),
            lock=asyncio.Lock(),
            on_poison=service.on_poison,
            sleep=_Impatience().sleep,
        )
        self._groups[service.name] = _Group(service, settler)

    async def start(self) -> None:
        """Start every service and open its partitions."""
        for group in self._groups.values():
            await group.service.start(self.topic_ids)
            for topic in group.service.listens:
                await self._open(group, topic)

    async def stop(self) -> None:
        """Close every partition and stop every service."""
        for group in self._groups.values():
            for topic in group.service.listens:
                await self._close(group, topic)
            await group.service.stop()

    async def restart(self) -> None:
        """Stop and start, going on where every group was."""
        committed = {name: dict(group.positions) for name, group in self._groups.items()}
        await self.stop()
        for name, positions in committed.items():
            self._groups[name].positions = positions
        await self.start()

    async def _open(self, group: _Group, topic: Topic) -> None:
        for partition in range(topic.partitions):
            offset = None
            if group.service.partitions is not None:
                offset = await group.service.partitions.open(OpenedPartition(topic.name, self.topic_ids[topic.name], partition))
            at = (topic.name, partition)
            group.positions[at] = group.positions.get(at, 0) if offset is None else offset

    async def _close(self, group: _Group, topic: Topic) -> None:
        for partition in range(topic.partitions):
            group.positions.pop((topic.name, partition), None)
            if group.service.partitions is not None:
                await group.service.partitions.close(topic.name, partition)

    async def settle(self) -> None:
        """Deliver until every group has read everything. Raises Stuck where a worker would leave."""
        moved = True
        while moved:
            moved = False
            for group in self._groups.values():
                for topic in group.service.listens:
                    for partition in range(topic.partitions):
                        moved = await self._deliver(group, topic.name, partition) or moved

    async def _deliver(self, group: _Group, topic: str, partition: int) -> bool:
        log = self._logs[topic]
        # What is not there any more is passed over without a word, as Kafka's clients do.
        position = max(group.positions[topic, partition], log.first[partition])
        records = log.partitions[partition][position : position + self._batch_records]
        if not records:
            return False
        await group.settler.settle(Batch(topic, log.topic_id, partition, records), lambda: True)
        group.positions[topic, partition] = position + len(records)
        return True

    async def tick(self) -> None:
        """Run every timer of every service once."""
        for group in self._groups.values():
            for timer in group.service.timers:
                await timer.run()

    def redeliver(self, topic: Topic, *, group: str | None = None, from_offset: int = 0) -> None:
        """Groups read the topic again from an offset of each partition, as after a crash before a commit."""
        for name, reader in self._groups.items():
            if group in (None, name):
                for at in [at for at in reader.positions if at[0] == topic.name]:
                    reader.positions[at] = min(reader.positions[at], from_offset)


class _Impatience:
    """Waits that take no time, and not for ever."""

    def __init__(self) -> None:
        self._waits: defaultdict[bool, int] = defaultdict(int)

    async def sleep(self, seconds: float) -> None:
        self._waits[seconds > 0] += 1
        if self._waits[True] > PATIENCE:
            raise AssertionError("something stays unavailable, and no test will bring it back")
        await asyncio.sleep(0)
