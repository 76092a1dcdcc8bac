"""Counts by row, name and period: what somebody buys and does, as far back as rings of periods reach.

Sparse: a row has an entry for each name that it was ever counted under, and nobody pays for names of others. A ring holds the periods
that end with the entry's newest one; what leaves it is forgotten, whatever the order of arrival.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.segmentation.domain.arrays import Ids, Integers, Mask
from services.segmentation.domain.state.index import RowIndex

_ROOM = 64
_NOBODY = -1
_NEVER = -1
_HEAD = [("name", "<u4"), ("newest", "<i2")]


@dataclass(frozen=True, slots=True)
class Ring:
    """How periods are held: how many, how many days each, and up to which count."""

    periods: int
    period_days: int
    dtype: Any

    @property
    def most(self) -> int:
        """A count stops there."""
        return int(np.iinfo(self.dtype).max)

    @property
    def record(self) -> np.dtype[Any]:
        """An entry as it is packed."""
        return np.dtype([*_HEAD, ("held", np.dtype(self.dtype).newbyteorder("<"), (self.periods,))])

    def period_of(self, day: Integers) -> Integers:
        """The absolute number of a day's period."""
        return day // self.period_days


@dataclass(frozen=True, slots=True)
class Fresh:
    """What an addition counted for the first time: by place the row and the period."""

    rows: Integers
    periods: Integers


class Tallies:
    """Entries of (row, name) with a ring of counts each."""

    keys: Ids
    """Row and name of each entry."""
    newest: NDArray[np.int16]
    held: NDArray[Any]
    later: NDArray[np.int32]
    """The next entry of the same row."""

    def __init__(self, ring: Ring) -> None:
        self.ring = ring
        self.count = 0
        self._index = RowIndex()
        self._first: NDArray[np.int32] = np.full(0, _NOBODY, np.int32)
        self._grow_to(_ROOM)

    @property
    def size_bytes(self) -> int:
        """What it occupies, spare room included; nothing before the first entry."""
        if not self.count:
            return 0
        return self._index.size_bytes + sum(each.nbytes for each in (self.keys, self.newest, self.held, self.later, self._first))

    def add(self, rows: Integers, names: Integers, periods: Integers, most: int | None = None) -> Fresh:
        """Count one for each place; with `most` a period's count stops there, so that a repeat changes nothing."""
        entries, at = self._entries(rows, names)
        self._turn(entries, at, periods)
        held = periods > self.newest[entries][at] - self.ring.periods
        keys, times = np.unique(at[held] * self.ring.periods + periods[held] % self.ring.periods, return_counts=True)
        entry, slot = entries[keys // self.ring.periods], keys % self.ring.periods
        before = self.held[entry, slot].astype(np.int64)
        self.held[entry, slot] = np.minimum(before + times, self.ring.most if most is None else most)
        first = before == 0
        newest = self.newest[entry[first]].astype(np.int64)
        return Fresh(self.keys[entry[first], 0].astype(np.int64), newest - (newest - slot[first]) % self.ring.periods)

    def counts(self, rows: Integers, name: int, first: int, last: int) -> Integers:
        """How much each row was counted under a name in the periods from `first` to `last`."""
        if not self.count:
            return np.zeros(len(rows), dtype=np.int64)
        entries = self._index.find(_keys(rows, np.full(len(rows), name)), self.keys)
        counted = np.zeros(len(rows), dtype=np.int64)
        known = entries >= 0
        counted[known] = self.within(entries[known], first, last)
        return counted

    def within(self, entries: Integers, first: int, last: int) -> Integers:
        """The same of entries."""
        counted: Integers = np.where(self._periods(entries, first, last), self.held[entries], 0).sum(axis=1, dtype=np.int64)
        return counted

    def by_age(self, entries: Integers, current: int) -> Integers:
        """Shape (n, periods): column k is the count of the period `current - k`."""
        wanted = current - np.arange(self.ring.periods)
        newest = self.newest[entries].astype(np.int64)[:, None]
        is_held = (wanted <= newest) & (wanted > newest - self.ring.periods)
        return np.where(is_held, self.held[entries][:, wanted % self.ring.periods], 0)

    def ages(self, entries: Integers, current: int | Integers) -> Integers:
        """Shape (n, periods): how many periods before `current` (one for all, or one for each) the period of each slot lies; later is 0."""
        newest = self.newest[entries].astype(np.int64)[:, None]
        before = (newest - np.arange(self.ring.periods)) % self.ring.periods
        return np.maximum(np.reshape(current, (-1, 1)) - newest + before, 0)

    def of_rows(self, rows: Integers) -> tuple[Integers, Integers]:
        """The entries of these rows, and for each the place of its row; ordered by place, then by name."""
        places, entries = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
        known = np.flatnonzero(rows < len(self._first))
        at, place = self._first[rows[known]].astype(np.int64), known
        while True:
            there = at >= 0
            if not there.any():
                break
            at, place = at[there], place[there]
            places.append(place)
            entries.append(at)
            at = self.later[at].astype(np.int64)
        entry, where = np.concatenate(entries), np.concatenate(places)
        order = np.lexsort((self.keys[entry, 1], where))
        return entry[order], where[order]

    def every_entry(self) -> Integers:
        """All entries."""
        return np.arange(self.count, dtype=np.int64)

    def pack(self, rows: Integers) -> tuple[NDArray[Any], Integers]:
        """The records of these rows' entries, in the order of the rows, and how many each row has."""
        entries, places = self.of_rows(rows)
        records = np.zeros(len(entries), self.ring.record)
        records["name"], records["newest"], records["held"] = self.keys[entries, 1], self.newest[entries], self.held[entries]
        return records, np.bincount(places, minlength=len(rows))

    def restore(self, rows: Integers, records: NDArray[Any], counts: Integers) -> None:
        """Put packed entries in the place of all that these rows have; each row comes once."""
        known, _ = self.of_rows(rows)
        self.held[known], self.newest[known] = 0, _NEVER
        if not len(records):
            return
        entries, at = self._entries(np.repeat(rows, counts), records["name"].astype(np.int64))
        self.newest[entries[at]], self.held[entries[at]] = records["newest"], records["held"]

    def rewound(self, before: Tallies, rows: Integers, into: Integers, period: int) -> None:
        """Put into `before` what these rows were counted up to the end of a period, as far as it is still held."""
        entries, places = self.of_rows(rows)
        last = np.minimum(self.newest[entries].astype(np.int64), period)
        oldest = self.newest[entries].astype(np.int64) - self.ring.periods + 1
        kept = last >= oldest
        entries, places, last = entries[kept], places[kept], last[kept]
        wanted = last[:, None] - np.arange(self.ring.periods)
        inside = wanted > (self.newest[entries].astype(np.int64) - self.ring.periods)[:, None]
        values = np.where(inside, np.take_along_axis(self.held[entries], wanted % self.ring.periods, axis=1), 0)
        there = values.any(axis=1)
        target, at = before._entries(into[places[there]], self.keys[entries[there], 1].astype(np.int64))
        before.newest[target[at]] = last[there]
        held = np.zeros((int(there.sum()), self.ring.periods), self.ring.dtype)
        np.put_along_axis(held, wanted[there] % self.ring.periods, values[there], axis=1)
        before.held[target[at]] = held

    def join(self, other: Tallies, into: Integers, marks: Integers | None = None) -> None:
        """Count what every row of another was counted under for a row of this one too: row n for row `into[n]`.

        Names in `marks` are not counted but marked: twice in one period is once.
        """
        entries = other.every_entry()
        if not len(entries):
            return
        names = other.keys[entries, 1].astype(np.int64)
        own, at = self._entries(into[other.keys[entries, 0].astype(np.int64)], names)
        newest = other.newest[entries].astype(np.int64)
        self._turn(own, at, newest)
        ends = newest[:, None]
        periods = ends - (ends - np.arange(self.ring.periods)) % self.ring.periods
        reached = periods > self.newest[own][at].astype(np.int64)[:, None] - self.ring.periods
        more = np.where(reached, other.held[entries], 0).astype(np.int64)
        held = self.held[own].astype(np.int64)
        marked = np.isin(names, marks) if marks is not None else np.zeros(len(names), dtype=bool)
        np.add.at(held, at[~marked], more[~marked])
        np.maximum.at(held, at[marked], more[marked])
        self.held[own] = np.minimum(held, self.ring.most)

    def columns(self) -> dict[str, NDArray[Any]]:
        """A copy of the entries; `from_columns` reads it back."""
        return {name: getattr(self, name)[: self.count].copy() for name in ("keys", "newest", "held")}

    def take_columns(self, columns: dict[str, NDArray[Any]]) -> None:
        """Take over entries whose rows have none yet."""
        keys = columns["keys"].astype(np.int64)
        entries, at = self._entries(keys[:, 0], keys[:, 1])
        self.newest[entries[at]], self.held[entries[at]] = columns["newest"], columns["held"]

    def _periods(self, entries: Integers, first: int, last: int) -> Mask:
        """Shape (n, periods): which slots hold a period from `first` to `last`."""
        newest = self.newest[entries].astype(np.int64)[:, None]
        period = newest - (newest - np.arange(self.ring.periods)) % self.ring.periods
        inside: Mask = (period >= first) & (period <= last)
        return inside

    def _turn(self, entries: Integers, at: Integers, periods: Integers) -> None:
        """Move the rings to the newest periods, forgetting what falls out."""
        old = self.newest[entries].astype(np.int64)
        new = old.copy()
        np.maximum.at(new, at, periods)
        moved = new > old
        if not moved.any():
            return
        gone = (np.arange(self.ring.periods) - old[moved, None] - 1) % self.ring.periods < (new - old)[moved, None]
        self.held[entries[moved]] *= ~gone
        self.newest[entries[moved]] = new[moved]

    def _entries(self, rows: Integers, names: Integers) -> tuple[Integers, Integers]:
        """The distinct entries of these pairs, made where they are missing, and the place of each pair among them."""
        both, at = np.unique(rows << 32 | names, return_inverse=True)
        keys = _keys(both >> 32, both & 0xFFFFFFFF)
        entries = self._index.find(keys, self.keys)
        missing = entries < 0
        if missing.any():
            entries[missing] = self._make(keys[missing])
        return entries, at

    def _make(self, keys: Ids) -> Integers:
        entries = np.arange(self.count, self.count + len(keys), dtype=np.int64)
        if self.count + len(keys) > len(self.keys):
            self._grow_to(max(self.count + len(keys), len(self.keys) * 3 // 2))
        self.keys[entries] = keys
        self._index.insert(entries, self.keys)
        self.count += len(keys)
        self._chain(entries, keys[:, 0].astype(np.int64))
        return entries

    def _chain(self, entries: Integers, rows: Integers) -> None:
        """Hang the entries, which are ordered by row, before what their rows have."""
        if int(rows[-1]) >= len(self._first):
            grown = np.full(max(int(rows[-1]) + 1, len(self._first) * 3 // 2), _NOBODY, np.int32)
            grown[: len(self._first)] = self._first
            self._first = grown
        last = np.r_[rows[1:] != rows[:-1], True]
        following = np.r_[entries[1:], _NOBODY]
        self.later[entries] = np.where(last, self._first[rows], following)
        first = np.r_[True, rows[1:] != rows[:-1]]
        self._first[rows[first]] = entries[first]

    def _grow_to(self, length: int) -> None:
        made: dict[str, NDArray[Any]] = {
            "keys": np.zeros((length, 2), np.uint64),
            "newest": np.full(length, _NEVER, np.int16),
            "held": np.zeros((length, self.ring.periods), self.ring.dtype),
            "later": np.full(length, _NOBODY, np.int32),
        }
        for name, grown in made.items():
            if self.count:
                grown[: self.count] = getattr(self, name)[: self.count]
            setattr(self, name, grown)


def _keys(rows: Integers, names: Integers) -> Ids:
    return np.column_stack([rows, names]).astype(np.uint64)
