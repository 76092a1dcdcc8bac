"""What rows say, on its way out: events in the words of the contract, and which rows are taken or refused together."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from services.identity.domain.references import REFERENCE_TYPES, NamesNobody, Naming
from shared.contracts.envelope import derived_id
from stack.importing import values
from stack.importing.fields import Given, NamedBy, References
from stack.importing.mapping import ImportMapping, mapped_columns
from stack.importing.rows import Cells, Row
from stack.importing.verdicts import Bad, Fault, RowReason

NAMING = Naming()
"""Knows placeholders, whatever the shop."""
Named = Mapping[str, str]
"""References, the strongest first as identity asks them, and the columns that they come from."""


@dataclass(frozen=True, slots=True)
class Draft:
    """An event on its way out."""

    id: str
    type: str
    at: datetime
    data: Mapping[str, Any]

    def encoded(self, source: str) -> bytes:
        """As a till would send it."""
        body = {"specversion": "1.0", "id": self.id, "source": source, "type": self.type, "time": self.at.isoformat(), "data": self.data}
        try:
            return msgspec.json.encode(body)
        except OverflowError:
            # Numbers that no event may hold: identity's rules say so.
            return json.dumps(body, ensure_ascii=False).encode()


@dataclass(frozen=True, slots=True)
class Unit:
    """Rows that are taken or refused together: one, or the lines of a receipt. `faults` is by row number."""

    rows: tuple[Row, ...]
    drafts: tuple[Draft, ...] = ()
    faults: Mapping[int, Fault] | None = None
    named: Named = field(default_factory=dict)
    """The references that the drafts name."""


def row_unit(row: Row, read: Callable[[], tuple[Sequence[Draft], Named]]) -> Unit:
    """One row, which `read` reads, and why not where that raises Bad."""
    try:
        drafts, named = read()
    except Bad as bad:
        return refused_unit((row,), bad.fault)
    return Unit((row,), tuple(drafts), named=named)


def refused_unit(rows: Sequence[Row], fault: Fault) -> Unit:
    """Rows that are refused for one reason."""
    return Unit(tuple(rows), faults={row.number: fault for row in rows})


def cells_of(row: Row, mapping: ImportMapping) -> Cells:
    """Raises Bad where the row could not be read, or says what the mapping wants to know of and does not."""
    if row.fault is not None:
        raise Bad(RowReason(row.fault.reason), row.fault.detail, row.fault.column)
    if mapping.file.unknown_columns == "refuse":
        known = set(mapped_columns(mapping)) | {column.partition(".")[0] for column in mapped_columns(mapping)}
        for column, value in row.values.items():
            if column not in known and values.as_text(value, mapping.file) is not None:
                raise Bad(RowReason.UNKNOWN_COLUMN, "the mapping does not name this column", column)
    return Cells(row.values, mapping.file)


def content_name(row: Row, mapping: ImportMapping) -> str:
    """The id of a row that has none: a hash of what it says in the columns that the mapping reads."""
    cells = Cells(row.values, mapping.file)
    said = [(column, _spelt(cells.raw(column))) for column in sorted(mapped_columns(mapping))]
    return derived_id("row", *(part for pair in said for part in pair))


def _spelt(value: object) -> str:
    return value.strip() if isinstance(value, str) else json.dumps(value, default=str, sort_keys=True)


def named_by(cells: Cells, references: References) -> Named:
    """Who the row is about."""
    found: dict[str, str] = {}
    for kind in (*REFERENCE_TYPES, "typed"):
        given = references.get(kind)  # type: ignore[call-overload]
        value = cells.text(given)
        if given is not None and value is not None:
            found.setdefault(value if kind == "typed" else _reference(kind, value, given), given.column or f"references.{kind}")
    return found


def _reference(kind: str, value: str, given: NamedBy) -> str:
    """A placeholder gets no prefix: identity has to know it for one, or all whom nobody knows would be one customer."""
    plain = f"{kind}:{value}"
    if given.prefix is None or NAMING.read(plain) is NamesNobody.PLACEHOLDER:
        return plain
    return f"{kind}:{given.prefix}{value}"


def first_named(cells: Cells, references: References) -> Named:
    """The reference that a purchase or an interaction is counted under, if there is one."""
    return dict(list(named_by(cells, references).items())[:1])


def scalars(cells: Cells, named: Mapping[str, Given], others: bool, mapping: ImportMapping) -> dict[str, Any]:
    """Traits or properties by name; with `others`, also of the columns that the mapping does not name."""
    chosen = dict(named)
    if others:
        taken = set(mapped_columns(mapping))
        chosen |= {column: Given(column=column) for column in cells.values if column not in taken and column not in chosen}
    found = {name: _scalar(cells, given) for name, given in chosen.items()}
    return {name: value for name, value in found.items() if value is not None}


def _scalar(cells: Cells, given: Given) -> str | int | bool | None:
    """As the file has it where the contract knows it; fractions, nested values and times as text."""
    value = cells.raw(given.column) if given.column else given.value
    if isinstance(value, bool | int):
        return value
    if isinstance(value, Mapping | list):
        return json.dumps(value, ensure_ascii=False, default=str)
    return cells.text(given)
