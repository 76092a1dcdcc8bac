"""How far a partition has read: what lets an event take effect once, however often it is delivered or re-sent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from services.segmentation.decoding import Origin, origin_of
from services.segmentation.domain.arrays import Integers
from shared.streaming.errors import Reject
from shared.streaming.records import ORIGIN_HEADER, Position, Record
from shared.streaming.settling import REPLAY_HEADER

NOTHING = -1


@dataclass(slots=True)
class Positions:
    """Of one partition of customer-events-v1 (and of customers-v1, whose rows it also holds).

    Within a partition, events of one origin log come in the order of that log, and re-emissions repeat a prefix. So the highest origin
    offset seen of each log tells every repeat.
    """

    events_topic_id: str = ""
    applied: int = NOTHING
    """The newest offset of customer-events-v1 that the rows hold, or were right to skip."""
    customers_topic_id: str = ""
    customers_applied: int = NOTHING
    offers_topic_id: str = ""
    offers_applied: int = NOTHING
    """The newest offset of offers-v1 that the rows hold. An older one that comes again would begin a row for who was erased since."""
    vector: dict[bytes, int] = field(default_factory=dict)
    """Highest origin offset by origin log (`topic id/partition`)."""
    parked: set[tuple[bytes, int]] = field(default_factory=set)
    """Origins that were rejected: the only ones that may come again."""
    doubtful: dict[int, int] = field(default_factory=dict)
    """Offset of each reject that may not be in the dead letters yet -> last offset of its batch."""

    def copy(self) -> Positions:
        """One of its own."""
        return replace(self, vector=dict(self.vector), parked=set(self.parked), doubtful=dict(self.doubtful))

    @property
    def resume(self) -> int:
        """Where to read on: before any reject that may not be in the dead letters yet."""
        return min([self.applied + 1, *self.doubtful])

    def take(self, records: Sequence[Record]) -> tuple[Sequence[Record], list[Reject]]:
        """The records that are to be applied now, and those that have no origin. Moves the vector."""
        self._settle_doubts(records[0].offset)
        self.applied = max(self.applied, records[-1].offset)
        return (records, []) if self._all_new(records) else self._take_each(records)

    def _all_new(self, records: Sequence[Record]) -> bool:
        """Does every record have an origin beyond the vector, in order? Then the vector moves; otherwise nothing has happened."""
        origins = _origins_of(records)
        if origins is None:
            return False
        logs, of_log, offsets = origins
        order = np.argsort(of_log, kind="stable")
        first = np.r_[True, np.diff(of_log[order]) > 0]
        before = np.r_[NOTHING, offsets[order][:-1]]
        before[first] = [self.vector.get(log, NOTHING) for log in logs]
        if not (offsets[order] > before).all():
            return False
        last = np.r_[first[1:], True]
        self.vector.update(zip(logs, offsets[order][last].tolist(), strict=True))
        return True

    def _take_each(self, records: Sequence[Record]) -> tuple[list[Record], list[Reject]]:
        fresh: list[Record] = []
        lost: list[Reject] = []
        vector = self.vector
        for record in records:
            origin = origin_of(record)
            if origin is None:
                lost.append(Reject(record.offset, "no-origin", "the header dear-origin is missing or unreadable"))
            elif origin.offset > vector.get(origin.log, NOTHING):
                vector[origin.log] = origin.offset
                fresh.append(record)
            elif self.parked and self._comes_again(record, origin):
                fresh.append(record)
        return fresh, lost

    def new_offers(self, topic_id: str, records: Sequence[Record]) -> Sequence[Record]:
        """Those of these records of offers-v1 that the rows do not hold."""
        if topic_id != self.offers_topic_id:
            self.offers_topic_id, self.offers_applied = topic_id, NOTHING
        return [record for record in records if record.offset > self.offers_applied]

    def resume_offers(self, topic_id: str) -> int | None:
        """Where to read offers-v1 on; None where only the group's own commits tell."""
        return self.offers_applied + 1 if topic_id == self.offers_topic_id and self.offers_applied != NOTHING else None

    def reject(self, rejects: Iterable[Reject], origins: Iterable[Origin], last_offset: int) -> None:
        """These were rejected: they may come again, and must be read again until they are surely parked."""
        self.parked.update((origin.log, origin.offset) for origin in origins)
        self.doubtful.update((reject.offset, last_offset) for reject in rejects)

    def cover(self, committed: Iterable[Position]) -> None:
        """Everything up to these origins has been read from the timeline."""
        for position in committed:
            log = f"{position.topic_id}/{position.partition}".encode()
            self.vector[log] = max(self.vector.get(log, NOTHING), position.offset)

    def origins(self) -> list[Position]:
        """The vector as positions."""
        return [_position(log.decode(), offset) for log, offset in self.vector.items()]

    def skip_to(self, first_offset: int) -> None:
        """What lies before this offset is not in the log any more; the timeline has it."""
        self.applied = max(self.applied, first_offset - 1)
        self.doubtful = {offset: last for offset, last in self.doubtful.items() if offset >= first_offset}

    def start_over(self, events_topic_id: str, customers_topic_id: str) -> None:
        """Name the logs that are there now; offsets of others mean nothing."""
        if self.events_topic_id != events_topic_id:
            self.events_topic_id, self.applied = events_topic_id, NOTHING
            self.doubtful.clear()
        if self.customers_topic_id != customers_topic_id:
            self.customers_topic_id, self.customers_applied = customers_topic_id, NOTHING

    def _comes_again(self, record: Record, origin: Origin) -> bool:
        """A rejected event: redelivered before it was parked, or put back by the operator, which lifts the rejection."""
        known = (origin.log, origin.offset)
        if known not in self.parked:
            return False
        if any(name == REPLAY_HEADER for name, _ in record.headers):
            self.parked.discard(known)
            return True
        return record.offset in self.doubtful

    def _settle_doubts(self, first_offset: int) -> None:
        """A batch that begins after the batch of a reject proves that the reject was parked."""
        if self.doubtful:
            self.doubtful = {offset: last for offset, last in self.doubtful.items() if first_offset <= last}


def _origins_of(records: Sequence[Record]) -> tuple[list[bytes], Integers, Integers] | None:
    """The logs that the records come from; by record which of them, and the offset there. None where a header is not just an origin."""
    headers = [record.headers for record in records]
    if set(map(len, headers)) != {1} or {each[0][0] for each in headers} != {ORIGIN_HEADER}:
        return None
    try:
        parts = [each[0][1].rsplit(b"/", 2) for each in headers]
        offsets = np.array([int(offset) for _, offset, _ in parts], dtype=np.int64)
    except ValueError:
        return None
    places = {log: place for place, log in enumerate(dict.fromkeys([log for log, _, _ in parts]))}
    return list(places), np.array([places[log] for log, _, _ in parts], dtype=np.int64), offsets


def _position(log: str, offset: int) -> Position:
    topic_id, _, partition = log.rpartition("/")
    return Position(topic_id, int(partition), offset)
