"""The rows: one a profile, in columns that grow together."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.segmentation.domain.arrays import Bits, Bytes, Ids, Integers, Mask
from services.segmentation.domain.state import money
from services.segmentation.domain.state.days import WORDS
from services.segmentation.domain.state.index import RowIndex
from services.segmentation.domain.state.merged import Merged
from services.segmentation.domain.state.tallies import Ring, Tallies
from services.segmentation.domain.state.traits import TraitColumn

NEVER = -1
"""In `last_day` and `newest_bucket`: nothing yet."""
NOT_YET = 2**31 - 1
"""In `first_day` and `known_since_day`: nothing yet, so that the smallest day wins."""
_ROOM = 1024


class Column:
    """A column's element type, its width and what a new row has in it."""

    def __init__(self, dtype: Any, width: int = 1, empty: int = 0) -> None:
        self.dtype, self.width, self.empty = np.dtype(dtype), width, empty

    def make(self, length: int) -> NDArray[Any]:
        """An empty column."""
        shape = (length,) if self.width == 1 else (length, self.width)
        return np.full(shape, self.empty, self.dtype) if self.empty else np.zeros(shape, self.dtype)


FACTS: Mapping[str, Column] = MappingProxyType({
    "first_day": Column(np.int32, empty=NOT_YET),
    "last_day": Column(np.int32, empty=NEVER),
    "purchase_count": Column(np.uint32),
    "line_count": Column(np.uint32),
    "refund_count": Column(np.uint32),
    "day_count": Column(np.uint16),
    "late_count": Column(np.uint16),
    "bitmap": Column(np.uint64, WORDS),
    "bought_minor": Column(np.int64),
    "refunded_minor": Column(np.int64),
    "newest_bucket": Column(np.int16, empty=NEVER),
    "bucket_low": Column(np.uint32, money.BUCKETS),
    "bucket_high": Column(np.int16, money.BUCKETS),
    "interaction_count": Column(np.uint32),
    "redemption_count": Column(np.uint16),
    "complaint_count": Column(np.uint16),
    "customer_type": Column(np.uint8),
    "consents": Column(np.uint16),
    "known_since_day": Column(np.int32, empty=NOT_YET),
    "bonds": Column(np.uint8),
    "need": Column(np.uint8),
    "customer_version": Column(np.uint32),
    "membership": Column(np.uint64),
    "change_number": Column(np.uint64),
})  # fmt: skip
"""What a row is: packed, published and recovered."""

BREADTH_PERIODS = money.BUCKETS

OPTIONAL: Mapping[str, Column] = MappingProxyType({
    "costs": Column(np.int64, 4),
    "breadth": Column(np.uint8, BREADTH_PERIODS),
    "breadth_newest": Column(np.int16, empty=NEVER),
})  # fmt: skip
"""Facts that not every deployment has. Nobody pays for them before the first one.

`costs`: revenue of lines that said their cost, that cost, and the same two of lines whose cost a product list said.
`breadth`: in how many categories somebody bought in each of the 4-week periods that end with `breadth_newest`.
"""

BOUGHT = Ring(BREADTH_PERIODS, money.BUCKET_DAYS, np.uint16)
"""Lines by category: 13 periods of four weeks."""
DONE = Ring(52, 7, np.uint8)
"""Interactions by kind, offers by program, needs as stated: 52 weeks."""

MARKS: Mapping[str, Column] = MappingProxyType({
    "told": Column(np.uint16, empty=0xFFFF),
    "unpublished": Column(np.bool_),
    "unstored": Column(np.uint8),
    "need_due": Column(np.bool_, empty=1),
})  # fmt: skip
"""What this worker remembers about telling others and about needs to look at; where it is lost, all of it is done again."""

STORED, WAITING, BEING_STORED = range(3)
"""In `unstored`: what the read model has of a row."""


class CustomerState:
    """Rows of one partition. Only integers, minima, maxima and bits, so that neither order nor repetition matters."""

    ids: Ids
    first_day: NDArray[np.int32]
    last_day: NDArray[np.int32]
    purchase_count: NDArray[np.uint32]
    line_count: NDArray[np.uint32]
    refund_count: NDArray[np.uint32]
    day_count: NDArray[np.uint16]
    late_count: NDArray[np.uint16]
    bitmap: Bits
    bought_minor: Integers
    refunded_minor: Integers
    newest_bucket: NDArray[np.int16]
    bucket_low: money.Low
    bucket_high: money.High
    interaction_count: NDArray[np.uint32]
    redemption_count: NDArray[np.uint16]
    complaint_count: NDArray[np.uint16]
    customer_type: Bytes
    consents: NDArray[np.uint16]
    known_since_day: NDArray[np.int32]
    bonds: Bytes
    need: Bytes
    customer_version: NDArray[np.uint32]
    membership: Bits
    change_number: Bits
    told: NDArray[np.uint16]
    unpublished: Mask
    unstored: Bytes
    need_due: Mask

    def __init__(self) -> None:
        self.count = 0
        self.optional: dict[str, NDArray[Any]] = {}
        self.bought, self.done = Tallies(BOUGHT), Tallies(DONE)
        self.names: dict[int, str] = {}
        """What the tallies' names stand for."""
        self.traits: dict[str, TraitColumn] = {}
        """Those that rules name."""
        self.merged = Merged()
        self._index = RowIndex()
        self._grow_to(_ROOM)

    def find(self, ids: Ids) -> Integers:
        """The row of each id, -1 where there is none."""
        return self._index.find(ids, self.ids)

    def find_or_add(self, ids: Ids) -> Integers:
        """The row of each id; ids seen for the first time get the next rows."""
        rows = self.find(ids)
        missing = rows < 0
        if missing.any():
            new, inverse = _distinct(ids[missing])
            rows[missing] = self.add(new)[inverse]
        return rows

    def add(self, new: Ids) -> Integers:
        """The next rows for ids that are distinct and not here yet, in this order."""
        rows = np.arange(self.count, self.count + len(new), dtype=np.int64)
        if self.count + len(new) > len(self.ids):
            self._grow_to(max(self.count + len(new), len(self.ids) * 3 // 2))
        self.ids[rows] = new
        self._index.insert(rows, self.ids)
        self.count += len(new)
        return rows

    def every_row(self) -> Integers:
        """All row numbers."""
        return np.arange(self.count, dtype=np.int64)

    def take_over(self, other: CustomerState) -> None:
        """Add another state's rows, whose ids are not here yet."""
        into = self.add(other.ids[: other.count])
        for name in FACTS:
            getattr(self, name)[into] = getattr(other, name)[: other.count]
        self.take_tail(other, other.every_row(), into)

    def keep_only(self, rows: Integers) -> CustomerState:
        """A state with these rows and no others."""
        kept = CustomerState()
        into = kept.add(self.ids[rows])
        for name in {**FACTS, **MARKS}:
            getattr(kept, name)[into] = getattr(self, name)[rows]
        kept.take_tail(self, rows, into)
        kept.traits = {name: column.of_rows(rows) for name, column in self.traits.items()}
        return kept

    def take_tail(self, other: CustomerState, rows: Integers, into: Integers) -> None:
        """Copy what not every row has from another state's rows."""
        for name, column in other.optional.items():
            self.have(name)[into] = column[rows]
        self.bought.restore(into, *other.bought.pack(rows))
        self.done.restore(into, *other.done.pack(rows))
        self.names |= other.names
        self.merged.take(other.merged, rows, into)

    def have(self, name: str) -> NDArray[Any]:
        """An optional column, made where it is missing."""
        if name not in self.optional:
            self.optional[name] = OPTIONAL[name].make(len(self.ids))
        return self.optional[name]

    @property
    def size_bytes(self) -> int:
        """What all base rows and their index occupy, spare room included."""
        return self.ids.nbytes + self._index.size_bytes + sum(int(getattr(self, name).nbytes) for name in {**FACTS, **MARKS})

    @property
    def optional_bytes(self) -> int:
        """The same of what not every deployment has: costs, categories, interactions by kind."""
        return sum(each.nbytes for each in self.optional.values()) + self.bought.size_bytes + self.done.size_bytes

    @property
    def trait_bytes(self) -> int:
        """The same of traits that rules name."""
        return sum(each.size_bytes for each in self.traits.values())

    def _grow_to(self, length: int) -> None:
        ids = np.zeros((length, 2), np.uint64)
        ids[: self.count] = self.ids[: self.count] if self.count else 0
        self.ids = ids
        for name, column in ({**FACTS, **MARKS}).items():
            grown = column.make(length)
            if self.count:
                grown[: self.count] = getattr(self, name)[: self.count]
            setattr(self, name, grown)
        for name, held in self.optional.items():
            wider = OPTIONAL[name].make(length)
            wider[: self.count] = held[: self.count]
            self.optional[name] = wider


def _distinct(ids: Ids) -> tuple[Ids, Integers]:
    """Each id once, and for each given id its place among them."""
    order = np.lexsort((ids[:, 1], ids[:, 0]))
    ordered = ids[order]
    fresh = np.ones(len(ids), dtype=bool)
    fresh[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    inverse = np.empty(len(ids), dtype=np.int64)
    inverse[order] = np.cumsum(fresh) - 1
    return ordered[fresh], inverse
