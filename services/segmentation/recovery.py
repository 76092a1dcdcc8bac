"""Puts a partition together again from its changelog: of each row the record of the latest writer that read farthest, not the last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from services.segmentation.causes import Cause, Change
from services.segmentation.changelog import META_PREFIX, NAMES_PREFIX, PartitionMeta, read_meta, read_names
from services.segmentation.domain.arrays import Bits, Bytes, Integers, Mask, ids_from_hex
from services.segmentation.domain.state import FORMAT, CustomerState, LastChange, PackedRows, is_readable, restore, unpack
from services.segmentation.positions import NOTHING
from services.segmentation.snapshots import Snapshot
from shared.streaming.records import Record


@dataclass(slots=True)
class Recovered:
    """What the changelog says."""

    state: CustomerState
    meta: PartitionMeta
    applied: Integers
    """By row: the offset that it holds."""
    losers: Integers
    """Rows whose last record in the log is not the winner: compaction would keep the wrong one."""
    news: dict[int, Change]
    """Changes that may not have been published."""
    fresh: Integers
    """Rows that were written after the snapshot."""

    @property
    def ahead(self) -> dict[int, int]:
        """Rows that hold more than the partition's own record says."""
        rows = np.flatnonzero(self.applied > self.meta.applied)
        return dict(zip(rows.tolist(), self.applied[rows].tolist(), strict=True))


class Recovery:
    """Reads records in the order of the log; `result` is the state."""

    def __init__(self, snapshot: Snapshot | None = None) -> None:
        self.state = snapshot.state() if snapshot else CustomerState()
        self.meta: PartitionMeta | None = snapshot.meta if snapshot else None
        self._room = 0
        self._make_room()
        count = self.state.count
        if snapshot is not None:
            self._generation[:count], self._applied[:count] = snapshot.meta.generation, snapshot.meta.applied
            # A snapshot is taken when all is told, whatever number its record says was published last.
            self._previous[:count] = self.state.membership[:count]

    def read(self, records: Sequence[Record]) -> None:
        """Take in the next records."""
        keys: list[bytes] = []
        values: list[bytes] = []
        for record in records:
            key, value = record.key, record.value
            if key is None:
                continue
            if value is None:
                self._take_in(keys, values)
                keys, values = [], []
                self._erase(key)
            elif key.startswith(META_PREFIX):
                self._read_meta(read_meta(value))
            elif key.startswith(NAMES_PREFIX):
                self.state.names |= read_names(value)
            elif is_readable(value):
                keys.append(key)
                values.append(value)
        self._take_in(keys, values)

    def _take_in(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        if keys:
            packed = unpack(ids_from_hex(b"".join(keys)), values)
            self._read_rows(self.state.find_or_add(packed.ids), packed)

    def _erase(self, key: bytes) -> None:
        """A profile was erased: its row is older than every rebuild, unless it is written again."""
        row = self.state.find(ids_from_hex(key))
        self._generation[row[row >= 0]] = NOTHING

    def result(self) -> Recovered | None:
        """The state, or None where no partition record of this format was found: then nothing in the log can be trusted to be whole."""
        meta = self.meta
        if meta is None or meta.format != FORMAT:
            return None
        count = self.state.count
        valid: Mask = self._generation[:count] >= meta.floor
        if not valid.all():
            self._keep_only(np.flatnonzero(valid))
            count = self.state.count
        numbers = self.state.change_number[:count]
        unpublished = np.flatnonzero((numbers > meta.published) & (self._previous[:count] != self.state.membership[:count]))
        news = {
            row: Change(previous, caused_ms, Cause(cause), *by_new)
            for row, previous, caused_ms, cause, *by_new in zip(
                unpublished.tolist(), *(getattr(self, f"_{name}")[unpublished].tolist() for name in _CHANGE), strict=True
            )
        }
        return Recovered(
            self.state,
            meta,
            self._applied[:count].copy(),
            np.flatnonzero(self._lost[:count]),
            news,
            np.flatnonzero(self._fresh[:count]),
        )

    def _read_meta(self, meta: PartitionMeta) -> None:
        if self.meta is None or (meta.generation, meta.revision) >= (self.meta.generation, self.meta.revision):
            self.meta = meta

    def _read_rows(self, rows: Integers, packed: PackedRows) -> None:
        self._make_room()
        records = packed.records
        number = records["change_number"][:, 0]
        order = np.lexsort((np.arange(len(rows)), number, records["applied"], records["generation"], rows))
        best = order[np.r_[rows[order][1:] != rows[order][:-1], True]]
        last = _last_of_each(rows)
        at = rows[best]
        # Lexicographic: generation, then position, then change number; a tie goes to the later record.
        kept_first, kept_then = self._generation[at], self._applied[at]
        first, then = records["generation"][best], records["applied"][best]
        wins = (first > kept_first) | (
            (first == kept_first) & ((then > kept_then) | ((then == kept_then) & (number[best] >= self.state.change_number[at])))
        )
        self._lost[at] = ~wins | (last[at] != best)
        self._fresh[at] = True
        taken, winners = at[wins], records[best[wins]]
        restore(self.state, taken, packed.chosen(best[wins]))
        self._generation[taken], self._applied[taken] = winners["generation"], winners["applied"]
        for name in _CHANGE:
            getattr(self, f"_{name}")[taken] = winners[name]

    def _make_room(self) -> None:
        if self.state.count <= self._room and self._room:
            return
        more = max(self.state.count * 3 // 2, 1024)
        old = self._room
        for name, dtype, empty in _COLUMNS:
            grown = np.full(more, empty, dtype)
            if old:
                grown[:old] = getattr(self, name)
            setattr(self, name, grown)
        self._room = more

    def _keep_only(self, rows: Integers) -> None:
        """Forget rows from before the rebuild."""
        self.state = self.state.keep_only(rows)
        for name, _, _ in _COLUMNS:
            column = getattr(self, name)
            column[: len(rows)] = column[rows]

    _generation: Integers
    _applied: Integers
    _previous: NDArray[np.uint64]
    _caused_ms: Integers
    _cause: Bytes
    _by_model: Bits
    _by_rule: Bits
    _lost: Mask
    _fresh: Mask


_CHANGE = tuple(column.name for column in fields(LastChange))
_COLUMNS = (
    ("_generation", np.int64, NOTHING),
    ("_applied", np.int64, NOTHING),
    ("_previous", np.uint64, 0),
    ("_caused_ms", np.int64, 0),
    ("_cause", np.uint8, 0),
    ("_by_model", np.uint64, 0),
    ("_by_rule", np.uint64, 0),
    ("_lost", np.bool_, False),
    ("_fresh", np.bool_, False),
)


def _last_of_each(rows: Integers) -> Integers:
    """By row: the place of its last record."""
    last = np.full(int(rows.max()) + 1, NOTHING, dtype=np.int64)
    np.maximum.at(last, rows, np.arange(len(rows)))
    return last
