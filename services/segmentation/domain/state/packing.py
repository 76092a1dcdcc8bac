"""Rows as bytes for the changelog: a record of fixed size whose first byte names its format, and a tail where a row has more."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.segmentation.domain.arrays import Bits, Bytes, Ids, Integers
from services.segmentation.domain.state.merged import Merged
from services.segmentation.domain.state.rows import FACTS, OPTIONAL, CustomerState

FORMAT = 4

_WRITER = [
    ("format", "u1"),
    ("generation", "<i8"),
    ("applied", "<i8"),
    ("previous", "<u8"),
    ("caused_ms", "<i8"),
    ("cause", "u1"),
    ("by_model", "<u8"),
    ("by_rule", "<u8"),
]
RECORD = np.dtype(_WRITER + [(name, column.dtype.newbyteorder("<"), (column.width,)) for name, column in FACTS.items()])

_TAIL = np.dtype([("optional", "u1"), ("bought", "<u2"), ("done", "<u2")])
"""How a tail begins: a bit for each optional column that it has, and how many entries of each tally."""
_ABSORBED, _WITH_OTHERS = 1 << 7, 1 << 6
"""Bits beside those of the optional columns: the tail ends with the id of the customer that the profile is part of, or with how many
other profiles its customer has and their ids."""
_ID_BYTES = 16
_COUNT = struct.Struct("<H")
_OPTIONAL = {
    name: np.dtype([("value", column.dtype.newbyteorder("<"), (column.width,))]) for name, column in OPTIONAL.items()
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Written:
    """Who wrote rows, and how far that writer had read: a row holds every event of its profile up to `applied`."""

    generation: int
    applied: Integers
    """By row."""


def is_readable(value: bytes) -> bool:
    """Was a record written in this version's format? Of others the partition's own record tells that they are missing."""
    return len(value) >= RECORD.itemsize and value[0] == FORMAT


def written_by(value: bytes) -> tuple[int, int]:
    """Of a readable record: the generation of its writer, and the newest offset that the row holds."""
    record = np.frombuffer(value, RECORD, count=1)[0]
    return int(record["generation"]), int(record["applied"])


@dataclass(frozen=True, slots=True)
class PackedRows:
    """Rows as read back: `records` has the fields of RECORD."""

    ids: Ids
    records: NDArray[Any]
    tails: Sequence[bytes]
    """Empty where none of them has more than its record."""

    def chosen(self, places: Integers) -> PackedRows:
        """The rows at these places."""
        tails = [self.tails[place] for place in places.tolist()] if self.tails else ()
        return PackedRows(self.ids[places], self.records[places], tails)


@dataclass(frozen=True, slots=True)
class LastChange:
    """By row: the membership before its newest change; what caused that, when; and the bits that a new model or rule moved instead."""

    previous: Bits
    caused_ms: Integers
    cause: Integers
    by_model: Bits
    by_rule: Bits


def pack(state: CustomerState, rows: Integers, written: Written, change: LastChange) -> list[bytes]:
    """One record for each row."""
    records = np.zeros(len(rows), RECORD)
    records["format"], records["generation"], records["applied"] = FORMAT, written.generation, written.applied
    for part in fields(change):
        records[part.name] = getattr(change, part.name)
    for name, column in FACTS.items():
        records[name] = getattr(state, name)[rows].reshape(-1, column.width)
    packed = _cut(records)
    if not packed or not (state.optional or state.bought.count or state.done.count or state.merged):
        return packed
    return [record + tail for record, tail in zip(packed, _tails(state, rows), strict=True)]


def _tails(state: CustomerState, rows: Integers) -> list[bytes]:
    """What each row has besides its record."""
    names = [name for name in OPTIONAL if name in state.optional]
    bought, done = state.bought.pack(rows), state.done.pack(rows)
    heads = np.zeros(len(rows), _TAIL)
    heads["optional"] = sum(1 << place for place, name in enumerate(OPTIONAL) if name in names)
    heads["bought"], heads["done"] = bought[1], done[1]
    marks, merged = _merged(state.merged, rows)
    heads["optional"] |= marks
    parts = [_cut(heads)]
    for name in names:
        column = np.zeros(len(rows), _OPTIONAL[name])
        column["value"] = state.optional[name][rows].reshape(len(rows), -1)
        parts.append(_cut(column))
    parts += [_cut_by(*each) for each in (bought, done)]
    parts += [merged] if merged else []
    return [b"".join(each) for each in zip(*parts, strict=True)]


def _merged(merged: Merged, rows: Integers) -> tuple[Bytes, list[bytes]]:
    """By row: a bit that says which of both it has, and the profiles that it names; no list where no row has either."""
    marks = merged.absorbed(rows) * np.uint8(_ABSORBED) | merged.with_others(rows) * np.uint8(_WITH_OTHERS)
    if not marks.any():
        return marks, []
    named = [b""] * len(rows)
    for place in np.flatnonzero(marks).tolist():
        row = int(rows[place])
        home, others = merged.home(row), merged.others(row)
        named[place] = bytes.fromhex(home) if home else _COUNT.pack(len(others)) + bytes.fromhex("".join(others))
    return marks, named


def _cut(records: NDArray[Any]) -> list[bytes]:
    packed, size = records.tobytes(), records.dtype.itemsize
    return [packed[at : at + size] for at in range(0, len(packed), size)]


def _cut_by(records: NDArray[Any], counts: Integers) -> list[bytes]:
    """The records as bytes, so many for each place."""
    packed = records.tobytes()
    ends = (np.cumsum(counts) * records.dtype.itemsize).tolist()
    return [packed[start:end] for start, end in pairwise([0, *ends])]


def unpack(ids: Ids, values: Sequence[bytes]) -> PackedRows:
    """Read records back; all have this version's format (`is_readable`)."""
    size = RECORD.itemsize
    if max(map(len, values), default=size) == size:
        return PackedRows(ids, np.frombuffer(b"".join(values), RECORD), ())
    records = np.frombuffer(b"".join([value[:size] for value in values]), RECORD)
    return PackedRows(ids, records, [value[size:] for value in values])


def restore(state: CustomerState, rows: Integers, packed: PackedRows) -> None:
    """Put records back into rows, each row at most once. What a row had besides is replaced by what its record has."""
    records = packed.records
    for name, column in FACTS.items():
        getattr(state, name)[rows] = records[name][:, 0] if column.width == 1 else records[name]
    if packed.tails or state.optional or state.bought.count or state.done.count or state.merged:
        _restore_tails(state, rows, packed.tails or [b""] * len(rows))


def _restore_tails(state: CustomerState, rows: Integers, tails: Sequence[bytes]) -> None:
    empty = bytes(_TAIL.itemsize)
    tails = [tail or empty for tail in tails]
    heads = np.frombuffer(b"".join([tail[: _TAIL.itemsize] for tail in tails]), _TAIL)
    at = np.full(len(tails), _TAIL.itemsize)
    for bit, (name, column) in enumerate(OPTIONAL.items()):
        has = np.flatnonzero(heads["optional"] >> bit & 1)
        if not len(has) and name not in state.optional:
            continue
        held = state.have(name)
        held[rows] = column.empty
        values = _take(tails, at, has, np.full(len(has), _OPTIONAL[name].itemsize))
        held[rows[has]] = np.frombuffer(values, _OPTIONAL[name])["value"].reshape(len(has), *held.shape[1:])
    every = np.arange(len(tails))
    for name, tally in (("bought", state.bought), ("done", state.done)):
        counts = heads[name].astype(np.int64)
        values = _take(tails, at, every, counts * tally.ring.record.itemsize)
        tally.restore(rows, np.frombuffer(values, tally.ring.record), counts)
    if state.merged:
        state.merged.forget(rows)
    for place in np.flatnonzero(heads["optional"] & np.uint8(_ABSORBED | _WITH_OTHERS)).tolist():
        is_absorbed = bool(heads["optional"][place] & _ABSORBED)
        _restore_merged(state.merged, int(rows[place]), is_absorbed, tails[place][int(at[place]) :])


def _restore_merged(merged: Merged, row: int, is_absorbed: bool, ids: bytes) -> None:
    if is_absorbed:
        merged.put(row, home=ids[:_ID_BYTES].hex())
        return
    (count,) = _COUNT.unpack_from(ids)
    starts = range(_COUNT.size, _COUNT.size + count * _ID_BYTES, _ID_BYTES)
    merged.put(row, others=tuple(ids[start : start + _ID_BYTES].hex() for start in starts))


def _take(tails: Sequence[bytes], at: Integers, places: Integers, sizes: Integers) -> bytes:
    """The next bytes of some tails, one after the other; `at` moves on."""
    spans = zip(places.tolist(), at[places].tolist(), sizes.tolist(), strict=True)
    taken = b"".join([tails[place][start : start + size] for place, start, size in spans])
    at[places] += sizes
    return taken
