"""The home of kafka-python: topics made and compared with the map, topic ids, offsets, and reading a topic from end to end.

KafkaAdminError
├── BrokerAway       no broker answers there
└── TopicsDiffer     a topic exists with another partition count than the map's
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from kafka.errors import CoordinatorLoadInProgressError, CoordinatorNotAvailableError, KafkaError, NotCoordinatorError

from shared.contracts.topics import TOPICS, Topic
from shared.operator_error import OperatorError
from shared.streaming.records import Headers, StoredRecord

REQUEST_TIMEOUT_MS = 10_000
BOOTSTRAP_TIMEOUT_MS = 3_000
FETCH_WAIT_MS = 25
FOLLOW_PAUSE_SECONDS = 0.1
"""After news of a topic that is followed: what comes meanwhile comes together, and the broker is asked ten times a second at most."""
LINGER_MS = 50
"""How long what is sent waits for company, unless it is flushed: a request costs more than what it carries."""


class KafkaAdminError(OperatorError):
    """Something about the broker or its topics that an operator has to know."""


class BrokerAway(KafkaAdminError):
    """No broker answers there."""


class TopicsDiffer(KafkaAdminError):
    """Topics that cannot be made to agree with the map."""


@dataclass(frozen=True, slots=True)
class TopicVerdict:
    """What `apply_topics` found or did."""

    topic: str
    verdict: Literal["created", "agrees", "changed", "differs"]
    detail: str = ""


@contextmanager
def admin(bootstrap: str) -> Iterator[KafkaAdminClient]:
    """An admin client, closed afterwards. Raises BrokerAway."""
    try:
        client = KafkaAdminClient(
            bootstrap_servers=bootstrap.split(","),
            client_id="dear-admin",
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            bootstrap_timeout_ms=BOOTSTRAP_TIMEOUT_MS,
        )
    except KafkaError as error:
        raise BrokerAway(f"no broker answers at {bootstrap}: {error}") from error
    try:
        yield client
    except KafkaError as error:
        raise KafkaAdminError(f"the broker at {bootstrap} refused: {error}") from error
    finally:
        client.close()


def wait_for_broker(bootstrap: str, timeout_seconds: float = 30.0) -> None:
    """Return once a broker lists its topics. Raises BrokerAway."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            with admin(bootstrap) as client:
                client.list_topics()
                return
        except KafkaAdminError as error:
            if time.monotonic() > deadline:
                raise BrokerAway(f"no broker answered at {bootstrap} within {timeout_seconds:.0f} s: {error}") from error
            time.sleep(0.2)


def describe(bootstrap: str, names: Collection[str] = ()) -> dict[str, dict[str, Any]]:
    """The topics that exist, by name: `topic_id` and `partitions` (their count)."""
    with admin(bootstrap) as client:
        return _describe(client, names)


def _describe(client: KafkaAdminClient, names: Collection[str] = ()) -> dict[str, dict[str, Any]]:
    # All topics are asked for: asking for one by name may create it on a broker that creates topics unasked.
    found = {topic["name"]: topic for topic in client.describe_topics() if topic["error_code"] == 0}
    return {
        name: {"topic_id": str(topic["topic_id"]), "partitions": len(topic["partitions"])}
        for name, topic in sorted(found.items())
        if not names or name in names
    }


def topic_ids(bootstrap: str, topics: Iterable[Topic] = TOPICS) -> dict[str, str]:
    """Topic name -> topic id of the topics that exist. The id changes when a log is lost or recreated."""
    return {name: topic["topic_id"] for name, topic in describe(bootstrap, [topic.name for topic in topics]).items()}


def apply_topics(bootstrap: str, topics: Iterable[Topic] = TOPICS, replication: int = -1) -> list[TopicVerdict]:
    """Create what is missing, bring settings to the map's, and say what became of each topic.

    A different partition count is a verdict `differs`: it would move keys and is never changed here.
    """
    wanted = list(topics)
    with admin(bootstrap) as client:
        existing = _describe(client)
        missing = {
            topic.name: {"num_partitions": topic.partitions, "replication_factor": replication, "configs": topic.settings()}
            for topic in wanted
            if topic.name not in existing
        }
        if missing:
            client.create_topics(missing)
            client.wait_for_topics(list(missing))
        settings = _settings(client, [topic.name for topic in wanted if topic.name in existing])
        return [
            TopicVerdict(topic.name, "created")
            if topic.name in missing
            else _agree(client, topic, existing[topic.name], settings[topic.name])
            for topic in wanted
        ]


def _agree(client: KafkaAdminClient, topic: Topic, found: dict[str, Any], settings: dict[str, str]) -> TopicVerdict:
    if found["partitions"] != topic.partitions:
        return TopicVerdict(
            topic.name,
            "differs",
            f"has {found['partitions']} partitions, the map says {topic.partitions}, and keys would move: "
            "copy it into a topic of the next version, or delete it if its content is not needed, and apply again",
        )
    if not settings:
        return TopicVerdict(topic.name, "agrees", "settings not reported by this broker")
    other = {name: value for name, value in topic.settings().items() if not _same(name, settings.get(name), value)}
    if not other:
        return TopicVerdict(topic.name, "agrees")
    client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic.name, other)])
    changes = ", ".join(f"{name}: {settings.get(name)} -> {value}" for name, value in other.items())
    return TopicVerdict(topic.name, "changed", changes)


def _same(name: str, found: str | None, wanted: str) -> bool:
    if name == "cleanup.policy":
        return set((found or "").split(",")) == set(wanted.split(","))
    return found == wanted


def _settings(client: KafkaAdminClient, names: list[str]) -> dict[str, dict[str, str]]:
    """Settings by topic; empty where the broker does not report them."""
    if not names:
        return {}
    try:
        answer = client.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in names], config_filter="all")
    except KafkaError:
        return {name: {} for name in names}
    found = answer.get("topic", {})
    return {name: {key: entry["value"] for key, entry in found.get(name, {}).items()} for name in names}


def check_topics(verdicts: Iterable[TopicVerdict]) -> None:
    """Raise TopicsDiffer where a verdict needs a person."""
    differing = [f"{verdict.topic} {verdict.detail}" for verdict in verdicts if verdict.verdict == "differs"]
    if differing:
        raise TopicsDiffer("; ".join(differing))


def end_offsets(bootstrap: str, topics: Iterable[Topic] = TOPICS) -> dict[tuple[str, int], int]:
    """(topic, partition) -> the offset that the next record will have."""
    with reader(bootstrap) as consumer:
        partitions = _partitions(consumer, [topic.name for topic in topics])
        return {(at.topic, at.partition): offset for at, offset in _ends(consumer, partitions).items()}


def _ends(consumer: KafkaConsumer, partitions: list[TopicPartition], timeout_seconds: float = 10.0) -> dict[TopicPartition, int]:
    """The end of each partition.

    Tansu answers ListOffsets with one past the *first* record of the last batch; the high watermark of a fetch is right on both brokers.
    """
    reported = _reported_ends(consumer, partitions)
    waiting = {at for at, end in reported.items() if end > 0}
    # Unsubscribed first: what an earlier assignment learned of the end would be taken for news.
    consumer.unsubscribe()
    consumer.assign(list(waiting))
    for at in waiting:
        consumer.seek(at, reported[at] - 1)
    ends = dict.fromkeys(reported, 0)
    deadline = time.monotonic() + timeout_seconds
    while waiting:
        consumer.poll(timeout_ms=100)
        known = {at: consumer.highwater(at) for at in waiting}
        ends.update({at: end for at, end in known.items() if end})
        waiting = {at for at, end in known.items() if not end}
        if waiting and time.monotonic() > deadline:
            raise BrokerAway(f"no answer for the end of {', '.join(f'{at.topic}/{at.partition}' for at in sorted(waiting))}")
    return ends


def group_lag(bootstrap: str, group: str, topics: Iterable[Topic]) -> int:
    """How many records the group has not committed yet, over all partitions of the topics."""
    with lag_watch(bootstrap, {group: tuple(topics)}) as watch:
        return watch.look().lags[group]


@dataclass(frozen=True, slots=True)
class Standing:
    """How far each group is behind its topics, in records, and how many records these topics have taken so far."""

    lags: dict[str, int]
    records: int


class LagWatch:
    """Measures again and again how far groups are behind, over one connection."""

    def __init__(self, consumer: KafkaConsumer, client: KafkaAdminClient, groups: Mapping[str, Sequence[Topic]]) -> None:
        self._consumer, self._client, self._groups = consumer, client, groups

    def look(self) -> Standing:
        """Groups are looked at in the order in which they were given.

        A group's ends are read after the lag of those before it, so zeros all along mean that what was sent before the call has passed.
        """
        lags: dict[str, int] = {}
        ends: dict[TopicPartition, int] = {}
        for group, topics in self._groups.items():
            committed = _committed(self._client, group)
            found = _ends(self._consumer, _partitions(self._consumer, [topic.name for topic in topics]))
            lags[group] = sum(max(0, end - committed.get((at.topic, at.partition), 0)) for at, end in found.items())
            ends.update(found)
        return Standing(lags, sum(ends.values()))


def _group_offsets(client: KafkaAdminClient, group: str, timeout_seconds: float = 5.0) -> dict[TopicPartition, Any]:
    """Waits while the broker is still making the topic that it keeps groups in, or moving a group."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            found: dict[TopicPartition, Any] = client.list_group_offsets({group: None}).get(group, {})
        except (CoordinatorNotAvailableError, NotCoordinatorError, CoordinatorLoadInProgressError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return found


@contextmanager
def lag_watch(bootstrap: str, groups: Mapping[str, Sequence[Topic]]) -> Iterator[LagWatch]:
    """A watch, closed afterwards. Raises BrokerAway, KafkaAdminError."""
    with admin(bootstrap) as client, reader(bootstrap) as consumer:
        yield LagWatch(consumer, client, groups)


def _committed(client: KafkaAdminClient, group: str) -> dict[tuple[str, int], int]:
    offsets = _group_offsets(client, group)
    return {(at.topic, at.partition): max(0, found.offset) for at, found in offsets.items()}


def _reported_ends(consumer: KafkaConsumer, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
    try:
        found: dict[TopicPartition, int] = consumer.end_offsets(partitions) if partitions else {}
    except KeyError as error:
        # kafka-python 3.0.12 stumbles over a partition that the broker did not answer for in time.
        raise BrokerAway(f"no answer for the end of {error}") from error
    except KafkaError as error:
        raise BrokerAway(f"no answer for ends: {error}") from error
    return found


@contextmanager
def reader(bootstrap: str) -> Iterator[KafkaConsumer]:
    """A consumer without a group, closed afterwards. Raises BrokerAway."""
    try:
        consumer = KafkaConsumer(
            bootstrap_servers=bootstrap.split(","),
            client_id="dear-reader",
            bootstrap_timeout_ms=BOOTSTRAP_TIMEOUT_MS,
            # Tansu answers a connection's requests in order: whatever is asked next waits behind a fetch that finds nothing.
            fetch_max_wait_ms=FETCH_WAIT_MS,
            group_id=None,
            enable_auto_commit=False,
        )
    except KafkaError as error:
        raise BrokerAway(f"no broker answers at {bootstrap}: {error}") from error
    try:
        yield consumer
    finally:
        consumer.close()


def _partitions(consumer: KafkaConsumer, names: Iterable[str]) -> list[TopicPartition]:
    return [TopicPartition(name, number) for name in names for number in sorted(consumer.partitions_for_topic(name) or ())]


@dataclass(frozen=True, slots=True)
class TopicRecord:
    """A record and where it lies."""

    partition: int
    record: StoredRecord


def follow_topic(
    bootstrap: str, topic: Topic, until: Callable[[], bool], ready: Callable[[], None] = lambda: None
) -> Iterator[TopicRecord]:
    """What is written to the topic from now on, until `until` says so; `ready` is called once nothing can be missed any more."""
    with reader(bootstrap) as consumer:
        partitions = _partitions(consumer, [topic.name])
        ends = _ends(consumer, partitions)
        consumer.unsubscribe()
        consumer.assign(partitions)
        for at, end in ends.items():
            consumer.seek(at, end)
        ready()
        while not until():
            news = consumer.poll(timeout_ms=100)
            for at, records in news.items():
                for found in records:
                    stored = StoredRecord(found.offset, found.timestamp, found.key, found.value, tuple(found.headers))
                    yield TopicRecord(at.partition, stored)
            if news:
                time.sleep(FOLLOW_PAUSE_SECONDS)


def read_topic(bootstrap: str, topic: Topic, idle_seconds: float = 10.0) -> Iterator[TopicRecord]:
    """Every record that the topic holds now, partition by partition as fetched."""
    with reader(bootstrap) as consumer:
        partitions = _partitions(consumer, [topic.name])
        ends = {at: end for at, end in _ends(consumer, partitions).items() if end > 0}
        consumer.assign(list(ends))
        if ends:
            consumer.seek_to_beginning(*ends)
        deadline = time.monotonic() + idle_seconds
        while any(consumer.position(at) < end for at, end in ends.items()) and time.monotonic() < deadline:
            for at, records in consumer.poll(timeout_ms=500).items():
                deadline = time.monotonic() + idle_seconds
                for found in records:
                    if found.offset < ends[at]:
                        stored = StoredRecord(found.offset, found.timestamp, found.key, found.value, tuple(found.headers))
                        yield TopicRecord(at.partition, stored)


class Sender:
    """Sends records to any topic; `flush` returns when the broker acknowledged all of them. For operators, tools and the demo's tills."""

    def __init__(self, bootstrap: str, linger_ms: int = LINGER_MS) -> None:
        try:
            # Idempotent: a retry after a lost answer must not put one sale into the log twice, or in another order.
            self._producer = KafkaProducer(
                bootstrap_servers=bootstrap.split(","),
                client_id="dear-sender",
                acks="all",
                linger_ms=linger_ms,
                batch_size=256 * 1024,
                enable_idempotence=True,
                max_block_ms=REQUEST_TIMEOUT_MS,
                bootstrap_timeout_ms=BOOTSTRAP_TIMEOUT_MS,
            )
        except KafkaError as error:
            raise BrokerAway(f"no broker answers at {bootstrap}: {error}") from error
        self._failures: list[str] = []

    def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        *,
        headers: Headers = (),
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> None:
        """Queue one record; the key decides the partition unless one is named. Raises BrokerAway where the broker does not take any."""
        try:
            future = self._producer.send(topic, key=key, value=value, headers=list(headers), partition=partition, timestamp_ms=timestamp_ms)
        except KafkaError as error:
            raise BrokerAway(f"{topic} takes no records: {error}") from error
        future.add_errback(lambda error: self._failures.append(f"{topic}: {error}"))

    def flush(self, timeout_seconds: float = 30.0) -> None:
        """Return when everything sent so far was acknowledged. Raises BrokerAway."""
        try:
            self._producer.flush(timeout=timeout_seconds)
        except KafkaError as error:
            raise BrokerAway(f"records were not acknowledged: {error}") from error
        if self._failures:
            failures, self._failures = self._failures, []
            raise BrokerAway(f"{len(failures)} record(s) were not acknowledged: {failures[0]}")

    def close(self) -> None:
        """Send what is queued and leave."""
        self._producer.close(timeout=10)


@contextmanager
def sender(bootstrap: str) -> Iterator[Sender]:
    """A sender, flushed and closed afterwards."""
    opened = Sender(bootstrap)
    try:
        yield opened
        opened.flush()
    finally:
        opened.close()
