"""A batch of the stream as events: what is valid, and what is to be parked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.identity import metrics
from services.identity.domain.cloudevents import from_kafka
from services.identity.domain.duplicates import Arrival
from services.identity.domain.events import SourceEvent, read_event
from services.identity.domain.rejects import Refusal, Refused, RejectReason
from services.identity.store.timeline import origin_of
from shared.clock import Clock
from shared.contracts.topics import TOPICS, Topic
from shared.streaming.errors import Reject
from shared.streaming.records import Batch, Record

_TOPICS = {topic.name: topic for topic in TOPICS}


@dataclass(frozen=True, slots=True)
class Incoming:
    """One valid event and where it came from."""

    event: SourceEvent
    offset: int
    appended_ms: int
    origin: str

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


def read_batch(batch: Batch, currency: str, clocks: Sequence[Clock]) -> Intake:
    """Read every record; events that are ahead of one of the clocks are not believed. Valid events move the clocks."""
    incoming: list[Incoming] = []
    rejects: list[Reject] = []
    topic = _TOPICS[batch.topic]
    for record in batch.records:
        read = _believed(_read(record, currency, topic), clocks)
        if isinstance(read, Refusal):
            rejects.append(Reject(record.offset, read.reason.value, read.detail))
            metrics.REJECTED.labels(read.reason.value, "stream").inc()
        else:
            incoming.append(_incoming(batch, record, read))
    metrics.RECEIVED.labels(batch.topic).inc(len(batch.records))
    return Intake(incoming, tuple(rejects))


def _read(record: Record, currency: str, topic: Topic) -> SourceEvent | Refusal:
    value = record.value
    if record.headers:
        try:
            value = from_kafka(record.headers, value or b"") or value
        except Refused as refused:
            return refused.refusal
    return read_event(value, currency, topic)


def _believed(read: SourceEvent | Refusal, clocks: Sequence[Clock]) -> SourceEvent | Refusal:
    if isinstance(read, SourceEvent):
        for clock in clocks:
            if clock.is_ahead(read.at):
                return Refusal(RejectReason.AHEAD_OF_CLOCK, f"time: {read.at.isoformat()} is too far ahead of {clock.now().isoformat()}")
        for clock in clocks:
            clock.observe(read.at)
    return read


def _incoming(batch: Batch, record: Record, event: SourceEvent) -> Incoming:
    return Incoming(event, record.offset, record.timestamp, origin_of(batch.topic_id, batch.partition, record.offset))
