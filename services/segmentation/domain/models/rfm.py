"""Recency, frequency, monetary value: quintiles over the buyers of a kind, and the eleven usual cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from services.segmentation.domain.arrays import Integers
from services.segmentation.domain.models.spread import Spread

CELLS = (
    "none", "champions", "loyal", "potential_loyalist", "new", "promising", "needs_attention",
    "about_to_sleep", "at_risk", "cannot_lose", "hibernating", "lost",
)  # fmt: skip
"""By cell number; 0 is for who never bought."""

_GRID = (
    ("lost", "hibernating", "at_risk", "cannot_lose", "cannot_lose"),
    ("hibernating", "about_to_sleep", "at_risk", "at_risk", "at_risk"),
    ("about_to_sleep", "needs_attention", "needs_attention", "loyal", "loyal"),
    ("promising", "potential_loyalist", "potential_loyalist", "loyal", "champions"),
    ("new", "potential_loyalist", "potential_loyalist", "champions", "champions"),
)
"""By recency score (down, 5 = bought last) and the mean of frequency and monetary score (across)."""
_CELL = np.array([[CELLS.index(name) for name in row] for row in _GRID], dtype=np.int64)
_SHARES = (0.2, 0.4, 0.6, 0.8)
LOWEST_RANK_SUM, HIGHEST_RANK_SUM = 3, 15


@dataclass(frozen=True, slots=True)
class Quintiles:
    """The four values that part buyers into five; empty before there are any, which puts everybody in the middle."""

    recency_days: Integers
    frequency: Integers
    spend_minor: Integers

    @staticmethod
    def of(recency_days: Spread, frequency: Spread, spend_minor: Spread) -> Quintiles:
        """Of buyers spread like this; as exact as the spreads are."""
        if not recency_days.size:
            return NO_QUINTILES
        return Quintiles(*(spread.quantiles(_SHARES) for spread in (recency_days, frequency, spend_minor)))

    def cells(self, recency_days: Integers, frequency: Integers, spend_minor: Integers) -> Integers:
        """The cell number of each buyer."""
        recency, both = self._scores(recency_days, frequency, spend_minor)
        found: Integers = _CELL[recency - 1, (both + 1) // 2 - 1]
        return found

    def rank_sums(self, recency_days: Integers, frequency: Integers, spend_minor: Integers) -> Integers:
        """The three scores of each buyer, added: from 3 to 15, the best customers highest."""
        recency, both = self._scores(recency_days, frequency, spend_minor)
        return recency + both

    def _scores(self, recency_days: Integers, frequency: Integers, spend_minor: Integers) -> tuple[Integers, Integers]:
        """The recency score, and the sum of the other two."""
        return 6 - _score(self.recency_days, recency_days), _score(self.frequency, frequency) + _score(self.spend_minor, spend_minor)


NO_QUINTILES = Quintiles(*(np.zeros(0, dtype=np.int64) for _ in range(3)))


def _score(cuts: Integers, values: Integers) -> Integers:
    return np.searchsorted(cuts, values, side="left") + 1 if len(cuts) else np.full(len(values), 3)
