"""How values are spread over many customers: exactly at first, in few bins to be sent to others, and added to what others sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.segmentation.domain.arrays import Floats, Integers

COARSE = 512
"""Into so many steps a spread is thinned, by customers and by money: what one bin hides is less than .2 % of either."""

_ROUNDING = 1e-6
"""Customers: a fifth of 35 is 7, whatever floats say."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Bins in ascending order. A bin holds the values above the one before it, up to and including its own `upto`."""

    upto: Integers
    count: Integers
    """Customers in each bin."""
    total_minor: Integers
    """What they add up to, where that is asked for; less than nothing counts as nothing."""
    hidden_count: float = 0.0
    """Below any value lie at most so many customers more than the bins up to it say; 0 where every bin holds one value only."""
    hidden_total: float = 0.0

    @staticmethod
    def of_ascending(values: Integers) -> Spread:
        """Exactly these values, which are sorted, and what they add up to."""
        start = np.flatnonzero(np.r_[True, values[1:] != values[:-1]]) if len(values) else np.zeros(0, dtype=np.int64)
        count = np.diff(np.r_[start, len(values)])
        return Spread(values[start], count, count * np.maximum(values[start], 0))

    @staticmethod
    def of_counts(counts: Integers) -> Spread:
        """Exactly so many customers with 0, 1, 2 ..., and no money."""
        upto = np.flatnonzero(counts)
        return Spread(upto, counts[upto], np.zeros(len(upto), dtype=np.int64))

    @staticmethod
    def together(parts: Sequence[Spread]) -> Spread:
        """Of all parts' customers. What the parts' bins hide adds up, as their customers do, so its share does not grow."""
        parts = [part for part in parts if len(part.upto)]
        if len(parts) < 2:
            return parts[0] if parts else NO_ONE
        upto, count, total = (np.concatenate([getattr(part, name) for part in parts]) for name in ("upto", "count", "total_minor"))
        # The parts are sorted runs, which a stable sort merges.
        order = np.argsort(upto, kind="stable")
        upto = upto[order]
        start = np.flatnonzero(np.r_[True, upto[1:] != upto[:-1]])
        count, total = (np.add.reduceat(of[order], start) for of in (count, total))
        return Spread(upto[start], count, total, sum(part.hidden_count for part in parts), sum(part.hidden_total for part in parts))

    def thinned(self) -> Spread:
        """In few bins: each ends where another 512th of the customers, or of the money, is reached."""
        if len(self.upto) <= COARSE:
            return self
        kept = np.zeros(len(self.upto), dtype=bool)
        for of in (self.count, self.total_minor):
            step = int(of.sum()) / COARSE
            if step:
                passed = np.floor(np.cumsum(of) / step)
                kept |= np.r_[passed[0] > 0, passed[1:] != passed[:-1]]
        # The last bin ends with the greatest value, whatever rounding says.
        kept[-1] = True
        ends = np.flatnonzero(kept)
        start = np.r_[0, ends[:-1] + 1]
        count, total = np.add.reduceat(self.count, start), np.add.reduceat(self.total_minor, start)
        return Spread(self.upto[ends], count, total, self.hidden_count + self.size / COARSE, self.hidden_total + int(total.sum()) / COARSE)

    @property
    def size(self) -> int:
        """How many customers."""
        return int(self.count.sum())

    def quantiles(self, shares: Sequence[float]) -> Integers:
        """The least value that at least this share of the customers do not exceed; off by less than half of what is hidden."""
        reached = np.cumsum(self.count) + self.hidden_count / 2
        place = np.searchsorted(reached, np.array(shares) * self.size - _ROUNDING)
        return self.upto[np.minimum(place, len(self.upto) - 1)]

    def bringing(self, share: float) -> int:
        """The greatest value such that the customers with at least that much bring at least this share of all money."""
        whole = int(self.total_minor.sum())
        brought = whole - np.r_[0, np.cumsum(self.total_minor)[:-1]] - self.hidden_total / 2
        place = int(np.searchsorted(-brought, -share * whole, side="right")) - 1
        return int(self.upto[max(place, 0)])

    def shares_brought(self, counts: Integers) -> Floats:
        """By number of customers, best first: what share of all money those bring."""
        customers, money = (np.r_[0, np.cumsum(of[::-1])] for of in (self.count, self.total_minor))
        brought: Floats = np.interp(counts, customers, money / max(int(money[-1]), 1))
        return brought


NO_ONE = Spread.of_counts(np.zeros(0, dtype=np.int64))


def sorted_runs(runs: Sequence[Integers]) -> Integers:
    """All values of some sorted runs in ascending order: a merge, at a fraction of what sorting costs."""
    return np.sort(np.concatenate(runs), kind="stable") if runs else NO_ONE.upto
