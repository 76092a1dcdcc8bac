"""Whether what a unit says can be sent: by the same rules as at the ingest edge, and once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from services.identity.domain.events import SourceEvent, read_event
from services.identity.domain.rejects import Refusal, RejectReason
from shared.clock import Clock
from stack.importing.drafts import Unit
from stack.importing.seen import Seen
from stack.importing.verdicts import Fault, RowReason, RowStatus, RowVerdict


@dataclass(frozen=True, slots=True)
class Outgoing:
    """An event as it is sent."""

    topic: str
    key: bytes
    value: bytes
    at: datetime
    is_anonymous: bool


@dataclass(frozen=True, slots=True)
class Judged:
    """What is to be sent, and the verdicts that are true once it was."""

    outgoing: tuple[Outgoing, ...]
    verdicts: tuple[RowVerdict, ...]


@dataclass(frozen=True, slots=True)
class Judge:
    """Knows the currency, the time, and what earlier rows said."""

    source: str
    currency: str
    wall: Clock
    seen: Seen

    def judge(self, unit: Unit) -> Judged:
        """All of a unit's events or none."""
        if unit.faults is not None:
            return Judged((), tuple(self._refused(unit, unit.faults)))
        raws = [draft.encoded(self.source) for draft in unit.drafts]
        events = [self._read(raw) for raw in raws]
        fault = next((each for each in events if isinstance(each, Fault)), None)
        if fault is not None:
            return Judged((), tuple(self._refused(unit, {row.number: fault for row in unit.rows})))
        read = [(raw, event) for raw, event in zip(raws, events, strict=True) if isinstance(event, SourceEvent)]
        return self._once(unit, read)

    def _read(self, raw: bytes) -> SourceEvent | Fault:
        read = read_event(raw, self.currency)
        if isinstance(read, Refusal):
            return Fault(read.reason.value, read.detail)
        if self.wall.is_ahead(read.at):
            return Fault(RejectReason.AHEAD_OF_CLOCK, f"{read.at.isoformat()} is more than 24 hours ahead")
        return read

    def _once(self, unit: Unit, read: list[tuple[bytes, SourceEvent]]) -> Judged:
        """What an earlier row said already is not sent again, and what contradicts it is not sent at all."""
        number = unit.rows[0].number
        known = [self.seen.first(event.id, event.content_hash, number) for _, event in read]
        contradicted = next((row for (_, event), (content, row) in zip(read, known, strict=True) if content != event.content_hash), None)
        if contradicted is not None:
            fault = Fault(RowReason.DUPLICATE_ID, f"row {contradicted} has the same id and says something else")
            return Judged((), tuple(self._refused(unit, {row.number: fault for row in unit.rows})))
        new = [(raw, event) for (raw, event), (_, row) in zip(read, known, strict=True) if row == number]
        status = RowStatus.ACCEPTED if new else RowStatus.REPEATED
        verdicts = (RowVerdict(row.number, status, read[-1][1].id, row.line) for row in unit.rows)
        return Judged(tuple(_outgoing(raw, event) for raw, event in new), tuple(verdicts))

    def _refused(self, unit: Unit, faults: Mapping[int, Fault]) -> Iterator[RowVerdict]:
        name = unit.drafts[-1].id if unit.drafts else None
        for row in unit.rows:
            yield RowVerdict(row.number, RowStatus.REFUSED, name, row.line, faults[row.number])


def _outgoing(raw: bytes, event: SourceEvent) -> Outgoing:
    key = event.references[0] if event.references else event.id
    return Outgoing(event.topic.name, key.encode(), raw, event.at, not event.references)
