"""A batch of the stream as events: what is valid, what is to be parked, and which dead letters came back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from services.identity import metrics
from services.identity.domain.cloudevents import from_kafka
from services.identity.domain.duplicates import Arrival
from services.identity.domain.events import NAMING, SourceEvent, read_event
from services.identity.domain.references import Naming
from services.identity.domain.rejects import Refusal, Refused, RejectReason
from services.identity.store.outcomes import Parked
from services.identity.store.timeline import origin_of
from shared.clock import Clock
from shared.contracts.topics import TOPICS, Topic
from shared.streaming.errors import Reject
from shared.streaming.records import Batch, Record
from shared.streaming.settling import REPLAY_OF_HEADER

_TOPICS = {topic.name: topic for topic in TOPICS}


class Incoming(msgspec.Struct, frozen=True, gc=False):
    """One valid event and where it came from."""

    event: SourceEvent
    offset: int
    appended_ms: int
    origin: str
    parked_at: str | None = None
    """The position that it was parked at, of a dead letter that was put back."""

    @property
    def key(self) -> str:
        return self.event.key

    @property
    def content_hash(self) -> bytes:
        return self.event.content_hash


@dataclass(frozen=True, slots=True)
class Settled:
    """An event after the timeline answered: its profile, and what became of it."""

    incoming: Incoming
    profile: str | None
    arrival: Arrival
    origin: str
    """Where it entered the system: of what was accepted before, the position that it was accepted from."""

    @property
    def counts(self) -> bool:
        """Does it take effect, now or again?"""
        return self.arrival in (Arrival.FIRST, Arrival.REDELIVERED)

    @property
    def outcome(self) -> str:
        if not self.counts:
            return self.arrival.value
        return "accepted" if self.profile is not None else "anonymous"


@dataclass(frozen=True, slots=True)
class Intake:
    """What one batch brought."""

    incoming: Sequence[Incoming]
    rejects: tuple[Reject, ...]
    put_back: Mapping[int, str]
    """Offsets of dead letters that were put back -> the positions that they were parked at."""
    late: tuple[Incoming, ...] = ()
    """What somebody did who was erased since: not taken in."""


def read_batch(batch: Batch, currency: str, clocks: Sequence[Clock], parked: Mapping[int, Parked], naming: Naming = NAMING) -> Intake:
    """Read every record; events that are ahead of one of the clocks are not believed. Valid events move the clocks.

    What is `parked` already, by its offset, is not judged again: the clocks have moved on since, and one event has one outcome.
    """
    incoming: list[Incoming] = []
    rejects: list[Reject] = []
    topic = _TOPICS[batch.topic]
    came_back = put_back(batch.records)
    for record in batch.records:
        if (before := parked.get(record.offset)) is not None:
            rejects.append(Reject(record.offset, before.reason, before.detail))
            continue
        read = _believed(_read(record, currency, topic, naming), clocks)
        if isinstance(read, Refusal):
            rejects.append(Reject(record.offset, read.reason.value, read.detail))
            metrics.REJECTED.labels(read.reason.value, "stream").inc()
        else:
            incoming.append(_incoming(batch, record, read, came_back.get(record.offset)))
            for rule in read.dropped:
                metrics.REFERENCES_DROPPED.labels(rule.value).inc()
    metrics.RECEIVED.labels(batch.topic).inc(len(batch.records))
    return Intake(incoming, tuple(rejects), came_back)


def put_back(records: Sequence[Record]) -> dict[int, str]:
    """Offsets of the dead letters among them -> the positions that they were parked at."""
    return {
        record.offset: value.decode(errors="replace") for record in records for name, value in record.headers if name == REPLAY_OF_HEADER
    }


def _read(record: Record, currency: str, topic: Topic, naming: Naming) -> SourceEvent | Refusal:
    value = record.value
    if record.headers:
        try:
            value = from_kafka(record.headers, value or b"") or value
        except Refused as refused:
            return refused.refusal
    return read_event(value, currency, topic, naming)


def _believed(read: SourceEvent | Refusal, clocks: Sequence[Clock]) -> SourceEvent | Refusal:
    if isinstance(read, SourceEvent):
        for clock in clocks:
            if clock.is_ahead(read.at):
                return Refusal(RejectReason.AHEAD_OF_CLOCK, f"time: {read.at.isoformat()} is too far ahead of {clock.now().isoformat()}")
        for clock in clocks:
            clock.observe(read.at)
    return read


def _incoming(batch: Batch, record: Record, event: SourceEvent, parked_at: str | None) -> Incoming:
    return Incoming(event, record.offset, record.timestamp, origin_of(batch.topic_id, batch.partition, record.offset), parked_at)
