"""Rows as bytes for the changelog: a record of fixed size whose first byte names its format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.segmentation.domain.arrays import Bits, Ids, Integers
from services.segmentation.domain.state.rows import FACTS, CustomerState

FORMAT = 1

_WRITER = [("format", "u1"), ("generation", "<i8"), ("applied", "<i8"), ("previous", "<u8"), ("caused_ms", "<i8")]
RECORD = np.dtype(_WRITER + [(name, column.dtype.newbyteorder("<"), (column.width,)) for name, column in FACTS.items()])


class UnknownFormat(Exception):
    """A record was written by a version that this one cannot read."""


@dataclass(frozen=True, slots=True)
class Written:
    """Who wrote rows, and how far that writer had read: a row holds every event of its profile up to `applied`."""

    generation: int
    applied: Integers
    """By row."""


@dataclass(frozen=True, slots=True)
class PackedRows:
    """Rows as read back: `records` has the fields of RECORD."""

    ids: Ids
    records: NDArray[Any]


def pack(state: CustomerState, rows: Integers, written: Written, previous: Bits, caused_ms: Integers) -> list[bytes]:
    """One record for each row. `previous` is the membership before the row's newest change, `caused_ms` that change's cause."""
    records = np.zeros(len(rows), RECORD)
    records["format"], records["generation"], records["applied"] = FORMAT, written.generation, written.applied
    records["previous"], records["caused_ms"] = previous, caused_ms
    for name, column in FACTS.items():
        records[name] = getattr(state, name)[rows].reshape(-1, column.width)
    packed, size = records.tobytes(), RECORD.itemsize
    return [packed[at : at + size] for at in range(0, len(packed), size)]


def unpack(ids: Ids, values: Sequence[bytes]) -> PackedRows:
    """Read records back. Raises UnknownFormat."""
    packed = b"".join(values)
    if len(packed) != len(values) * RECORD.itemsize:
        raise UnknownFormat(f"a record has {RECORD.itemsize} bytes")
    records = np.frombuffer(packed, RECORD)
    if (records["format"] != FORMAT).any():
        raise UnknownFormat(f"records have format {FORMAT}")
    return PackedRows(ids, records)


def restore(state: CustomerState, rows: Integers, records: NDArray[Any]) -> None:
    """Put records back into rows, each row at most once."""
    for name, column in FACTS.items():
        getattr(state, name)[rows] = records[name][:, 0] if column.width == 1 else records[name]
