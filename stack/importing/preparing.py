"""The mapping that is meant: written or guessed, with what the command was told, checked against the file before a row is read."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any

from shared.clock import Clock
from stack.importing import values
from stack.importing.csv_tables import encoding_of
from stack.importing.fields import Given, by_default
from stack.importing.guessing import Guess, guess_mapping, spelled_out
from stack.importing.json_tables import NdjsonTable
from stack.importing.mapping import (
    CustomersMapping,
    FileLayout,
    ImportMapping,
    MappingError,
    PurchasesMapping,
    check_mapping,
    load_mapping,
    mapped_columns,
)
from stack.importing.options import ImportOptions
from stack.importing.reading import open_table
from stack.importing.tables import Table
from stack.importing.verdicts import Bad


def prepare(options: ImportOptions, currency: str, wall: Clock) -> tuple[ImportMapping, Table]:
    """The mapping and the file that it fits. Raises MappingError."""
    as_of = _as_of(options.as_of, wall) if options.as_of else None
    written, where = _written(options)
    if options.source:
        written = {**written, "source": options.source}
    if as_of is not None:
        written = _with_default_time(written, as_of)
    mapping = check_mapping(written, options.kind, where)
    _check_constants(mapping, as_of, wall)
    if isinstance(mapping, PurchasesMapping) and mapping.currency is None:
        mapping = mapping.model_copy(update={"currency": Given(value=currency)})
    table = open_table(options.file, mapping.file)
    _check_columns(mapping, table, options)
    return mapping, table


def _written(options: ImportOptions) -> tuple[dict[str, Any], str]:
    """As a mapping file says it, and where it says so. Raises MappingError."""
    if options.mapping is not None:
        return load_mapping(options.mapping, options.kind), str(options.mapping)
    open_table(options.file, FileLayout())
    table = open_table(options.file, FileLayout(encoding=encoding_of(options.file)))
    return _guessed(table, options), f"guessed from the columns of {options.file} ({', '.join(map(repr, table.columns()))})"


def _guessed(table: Table, options: ImportOptions) -> dict[str, Any]:
    """What the file suggests; it is said, in the words of a mapping file, before anything is refused. Raises MappingError."""
    guess = guess_mapping(table, options.kind, options.source)
    _say(guess, options)
    if guess.doubt is not None:
        raise MappingError(
            f"{options.file}: {guess.doubt}. Save the lines above as a file, with the right file.decimal and file.thousands in it, "
            "and give it with --mapping; cells that do not fit are then refused one by one."
        )
    return guess.mapping


def _say(guess: Guess, options: ImportOptions) -> None:
    sys.stderr.write(
        "No --mapping: guessed from the columns' names. Save it as a file to change it; "
        f"`dear import example-mapping {options.kind}` shows more:\n"
    )
    for line in spelled_out(guess.mapping):
        sys.stderr.write(f"  {line}\n")
    for note in guess.notes:
        sys.stderr.write(f"note: {note}\n")


def _as_of(text: str, wall: Clock) -> date:
    """A day, or a moment. Raises MappingError."""
    try:
        as_of = date.fromisoformat(text) if len(text) <= len("2026-01-31") else datetime.fromisoformat(text)
    except ValueError:
        raise MappingError(f"--as-of: {text!r} is no day; write it as 2026-01-31 or 2026-01-31T09:30:00+07:00") from None
    if (as_of.date() if isinstance(as_of, datetime) else as_of) > wall.now().date() + timedelta(days=1):
        raise MappingError(f"--as-of: {text} is in the future")
    return as_of


def _with_default_time(written: dict[str, Any], as_of: date) -> dict[str, Any]:
    time = by_default(written.get("time"), as_of)
    if time == written.get("time"):
        sys.stderr.write("note: --as-of is not used: the mapping says what stands in for a time that is missing\n")
    return {**written, "time": time}


def _check_constants(mapping: ImportMapping, as_of: date | None, wall: Clock) -> None:
    """A time that the mapping itself gives is wrong once, not in every row. Raises MappingError."""
    for name, given in _times(mapping).items():
        for said in (given.value, given.default):
            if said is None:
                continue
            try:
                at = values.as_time(said, mapping.file, mapping.file.time_zone)
            except Bad as bad:
                raise MappingError(f"{'--as-of' if said is as_of else name}: {bad.fault.detail}") from bad
            if wall.is_ahead(at):
                raise MappingError(f"{name}: {at.isoformat()} is in the future")


def _times(mapping: ImportMapping) -> Mapping[str, Given]:
    times: dict[str, Given | None] = {"time": mapping.time}
    if isinstance(mapping, CustomersMapping):
        times["registered"] = mapping.registered
        times |= {f"consents.{place}.at": consent.at for place, consent in enumerate(mapping.consents)}
    return {name: given for name, given in times.items() if given is not None}


def _check_columns(mapping: ImportMapping, table: Table, options: ImportOptions) -> None:
    """Every column that the mapping names is there; the ones it does not name are told."""
    columns = table.columns()
    wanted = mapped_columns(mapping)
    missing = [column for column in wanted if column not in columns and column.partition(".")[0] not in columns]
    if missing and not isinstance(table, NdjsonTable):
        raise MappingError(f"{options.file} has no column {', '.join(map(repr, missing))}; it has {', '.join(map(repr, columns))}")
    if missing:
        sys.stderr.write(f"note: the first rows have no {', '.join(map(repr, missing))}\n")
    used = {column.partition(".")[0] for column in wanted} | set(wanted)
    others = [column for column in columns if column not in used]
    takes_all = getattr(mapping, "other_traits", False) or getattr(mapping, "other_properties", False)
    if others and not takes_all and mapping.file.unknown_columns == "ignore":
        sys.stderr.write(f"note: not read: {', '.join(map(repr, others))}\n")
