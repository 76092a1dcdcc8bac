"""What customers buy, by category: lines that count the less the longer ago they are. Computed from the tallies when it is asked for."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from services.segmentation.domain.arrays import Floats, Integers
from services.segmentation.domain.state.rows import BOUGHT, CustomerState

HALF_LIFE_DAYS = 180
"""Long enough that a season's pause forgets no need, short enough that last year's baby food counts a quarter of this month's."""

_BY_AGE: Floats = 0.5 ** (np.arange(1 << 11) * BOUGHT.period_days / HALF_LIFE_DAYS)
"""What a line counts for that was bought so many periods ago; the last one stands for all beyond it."""


def affinities(state: CustomerState, rows: Integers, codes: Integers, period: int) -> csr_array:
    """Shape (rows, codes): decayed lines of each row in each category, as of a 4-week period. What is later than that counts in full.

    Codes are ascending; categories that are not among them are left out. The same until a row buys, or the period is over.
    """
    entries, places = state.bought.of_rows(rows)
    names = state.bought.keys[entries, 1].astype(np.int64)
    columns = np.minimum(np.searchsorted(codes, names), max(len(codes) - 1, 0))
    wanted = np.flatnonzero(codes[columns] == names) if len(codes) else np.zeros(0, dtype=np.int64)
    weights = decayed(state, entries[wanted], period)
    return csr_array((weights, (places[wanted], columns[wanted])), shape=(len(rows), len(codes)))


def decayed(state: CustomerState, entries: Integers, period: int | Integers) -> Floats:
    """What entries of `state.bought` weigh as of a period (one for all, or one for each)."""
    ages = np.minimum(state.bought.ages(entries, period), len(_BY_AGE) - 1)
    weights: Floats = (state.bought.held[entries] * _BY_AGE[ages]).sum(axis=1)
    return weights


def commonest(state: CustomerState, most: int) -> Integers:
    """The codes of the categories that most rows have bought within the rings' reach, ascending; of equals the lower code."""
    tally = state.bought
    held = tally.held[: tally.count].any(axis=1)
    codes, customers = np.unique(tally.keys[: tally.count, 1][held].astype(np.int64), return_counts=True)
    named = np.array([code in state.names for code in codes.tolist()], dtype=bool)
    order = np.lexsort((codes, -customers, ~named))[: min(most, int(named.sum()))]
    return np.sort(codes[order])
