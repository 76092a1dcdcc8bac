"""Interactions from rows."""

from __future__ import annotations

from shared.contracts.interactions import InteractionRecorded
from stack.importing.drafts import Draft, Named, Unit, cells_of, first_named, row_unit, scalars
from stack.importing.mapping import InteractionsMapping
from stack.importing.rows import Row


def interaction_unit(row: Row, mapping: InteractionsMapping, name: str) -> Unit:
    """Something that a customer did; `name` is the id of rows that have none of their own."""
    return row_unit(row, lambda: _read(row, mapping, name))


def _read(row: Row, mapping: InteractionsMapping, name: str) -> tuple[list[Draft], Named]:
    cells = cells_of(row, mapping)
    at = cells.time(mapping.time, mapping.file.time_zone)
    kind = cells.needed(mapping.kind, "the kind of interaction")
    properties = scalars(cells, mapping.properties, mapping.other_properties, mapping)
    named = first_named(cells, mapping.references)
    data = {"reference": next(iter(named), None), "kind": kind, "properties": properties}
    return [Draft(cells.key(mapping.id) or name, InteractionRecorded.event_type, at, data)], named
