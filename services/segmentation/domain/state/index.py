"""Finds rows by id: open addressing in an array, a whole batch at a time, about 8 bytes a row."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from services.segmentation.domain.arrays import Bits, Ids, Integers

_FREE = -1
_MIX = np.uint64(0x9E3779B97F4A7C15)
_FULLEST = 0.6


class RowIndex:
    """Row numbers by id. The ids themselves stay in the caller's id column, which is passed in to compare with."""

    def __init__(self) -> None:
        self._slots: NDArray[np.int32] = np.full(1024, _FREE, dtype=np.int32)
        self._taken = 0

    @property
    def size_bytes(self) -> int:
        """What the index occupies."""
        return self._slots.nbytes

    def find(self, wanted: Ids, column: Ids) -> Integers:
        """The row of each wanted id, -1 where there is none."""
        rows = np.full(len(wanted), -1, dtype=np.int64)
        searching = np.arange(len(wanted))
        at = self._start(wanted)
        while len(searching):
            found = self._slots[at]
            taken = found != _FREE
            searching, at, found = searching[taken], at[taken], found[taken]
            same = (column[found] == wanted[searching]).all(axis=1)
            rows[searching[same]] = found[same]
            searching, at = searching[~same], self._next(at[~same])
        return rows

    def insert(self, rows: Integers, column: Ids) -> None:
        """Enter rows whose ids are distinct and not in the index yet."""
        self._make_room(len(rows), column)
        self._place(rows, column)
        self._taken += len(rows)

    def _make_room(self, more: int, column: Ids) -> None:
        needed = int((self._taken + more) / _FULLEST)
        if needed < len(self._slots):
            return
        known = np.flatnonzero(self._slots != _FREE)
        rows = self._slots[known].astype(np.int64)
        self._slots = np.full(1 << needed.bit_length(), _FREE, dtype=np.int32)
        self._place(rows, column)

    def _place(self, rows: Integers, column: Ids) -> None:
        """Put every row into the first free slot of its run; where two want one slot, the one that got it stays and the other goes on."""
        at = self._start(column[rows])
        while len(rows):
            free = self._slots[at] == _FREE
            self._slots[at[free]] = rows[free]
            waiting = self._slots[at] != rows
            rows, at = rows[waiting], self._next(at[waiting])

    def _start(self, ids: Ids) -> Integers:
        mixed: Bits = (ids[:, 0] ^ ids[:, 1]) * _MIX
        return (mixed >> np.uint64(32)).astype(np.int64) & (len(self._slots) - 1)

    def _next(self, at: Integers) -> Integers:
        return (at + 1) & (len(self._slots) - 1)
