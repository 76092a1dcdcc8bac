"""Rows as bytes for the changelog: a record of fixed size whose first byte names its format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.segmentation.domain.arrays import Bits, Ids, Integers
from services.segmentation.domain.state.rows import FACTS, CustomerState

FORMAT = 3

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


@dataclass(frozen=True, slots=True)
class Written:
    """Who wrote rows, and how far that writer had read: a row holds every event of its profile up to `applied`."""

    generation: int
    applied: Integers
    """By row."""


def is_readable(value: bytes) -> bool:
    """Was a record written in this version's format? Of others the partition's own record tells that they are missing."""
    return len(value) == RECORD.itemsize and value[0] == FORMAT


@dataclass(frozen=True, slots=True)
class PackedRows:
    """Rows as read back: `records` has the fields of RECORD."""

    ids: Ids
    records: NDArray[Any]


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
    packed, size = records.tobytes(), RECORD.itemsize
    return [packed[at : at + size] for at in range(0, len(packed), size)]


def unpack(ids: Ids, values: Sequence[bytes]) -> PackedRows:
    """Read records back; all have this version's format (`is_readable`)."""
    return PackedRows(ids, np.frombuffer(b"".join(values), RECORD))


def restore(state: CustomerState, rows: Integers, records: NDArray[Any]) -> None:
    """Put records back into rows, each row at most once."""
    for name, column in FACTS.items():
        getattr(state, name)[rows] = records[name][:, 0] if column.width == 1 else records[name]
