"""Whether what a unit says can be sent: by the same rules as at the ingest edge, and once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from services.identity.domain.events import SourceEvent, read_event
from services.identity.domain.references import NamesNobody, Naming
from services.identity.domain.rejects import Refusal, RejectReason
from shared.clock import Clock
from stack.importing.drafts import Unit
from stack.importing.seen import Seen
from stack.importing.verdicts import Dropped, Fault, RowReason, RowStatus, RowVerdict


@dataclass(frozen=True, slots=True)
class Outgoing:
    """An event as it is sent."""

    event: SourceEvent
    value: bytes

    @property
    def topic(self) -> str:
        return self.event.topic.name

    @property
    def key(self) -> bytes:
        return (self.event.references[0] if self.event.references else self.event.id).encode()


@dataclass(frozen=True, slots=True)
class Judged:
    """What is to be sent, and the verdicts that are true once it was."""

    outgoing: tuple[Outgoing, ...]
    verdicts: tuple[RowVerdict, ...]


@dataclass(frozen=True, slots=True)
class Judge:
    """Knows the currency, how references are read here, the time, and what earlier rows said."""

    source: str
    currency: str
    naming: Naming
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
        read = read_event(raw, self.currency, naming=self.naming)
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
        dropped = tuple(self._dropped(unit)) if any(event.dropped for _, event in read) else ()
        verdicts = (RowVerdict(row.number, status, read[-1][1].id, row.line, dropped=dropped) for row in unit.rows)
        return Judged(tuple(Outgoing(event, raw) for raw, event in new), tuple(verdicts))

    def _dropped(self, unit: Unit) -> Iterator[Dropped]:
        store = next((found for draft in unit.drafts if (found := _store(draft.data)) is not None), None)
        for reference, column in unit.named.items():
            if isinstance(rule := self.naming.read(reference, store), NamesNobody):
                yield Dropped(column, rule.value)

    def _refused(self, unit: Unit, faults: Mapping[int, Fault]) -> Iterator[RowVerdict]:
        name = unit.drafts[-1].id if unit.drafts else None
        for row in unit.rows:
            yield RowVerdict(row.number, RowStatus.REFUSED, name, row.line, faults[row.number])


def _store(data: Mapping[str, Any]) -> object:
    """Where it was written down, as identity finds it."""
    return data.get("store") or {**data.get("traits", {}), **data.get("properties", {})}.get("store")
