"""Learns the season from last year: what rows say was bought in each window, against what the model expected on the eve of it."""

from __future__ import annotations

import numpy as np

from services.segmentation.domain.arrays import Floats, Integers
from services.segmentation.domain.models.history import DAYS_PER_WEEK
from services.segmentation.domain.models.scoring_model import ScoringModel
from services.segmentation.domain.models.season import NO_SEASON, PERIODS, YEAR_DAYS, Season, index_of, newest_beginning
from services.segmentation.domain.state.days import SPAN_DAYS, bits_of_days, count_days, newest_day
from services.segmentation.domain.state.rows import CustomerState

ENOUGH_DAYS = 396
"""Thirteen months; on top of the horizon, history of less than this says nothing about the same window last year."""
_PERIOD_DAYS = 29
"""At most."""


def learn_season(state: CustomerState, rows: Integers, model: ScoringModel, until: int, horizon_days: int) -> Season:
    """From windows that ended by `until` and began since the period before this day last year; NO_SEASON where history is too short.

    Nothing of what rows know about later days is looked at. Periods that rows cannot tell about have the index 1.
    """
    bought = rows[state.purchase_count[rows] > 0]
    if not len(bought) or until - int(state.first_day[bought].min()) < ENOUGH_DAYS + horizon_days:
        return NO_SEASON
    reach = max(until - YEAR_DAYS - _PERIOD_DAYS, int(state.last_day[bought].max()) - SPAN_DAYS + 1)
    days = [newest_beginning(period, until - horizon_days) for period in range(PERIODS)]
    indexes = [index_of(*compared(state, bought, model, day, horizon_days)) if day >= reach else 1.0 for day in days]
    return Season(tuple(round(index, 6) for index in indexes)) if any(day >= reach for day in days) else NO_SEASON


def compared(state: CustomerState, rows: Integers, model: ScoringModel, day: int, horizon_days: int) -> tuple[float, float]:
    """Purchase days in the window after `day`: how many there were, and how many a steady model expected. Rows have bought."""
    rows = rows[state.first_day[rows] <= day]
    bitmap, last = state.bitmap[rows], state.last_day[rows].astype(np.int64)
    after = np.full(len(rows), day + 1)
    actual = count_days(bitmap, last, after, after + horizon_days).sum()
    days = state.day_count[rows].astype(np.int64) - count_days(bitmap, last, after, last + 1)
    x, waited = np.maximum(days - 1, 0).astype(float), (day - state.first_day[rows]) / DAYS_PER_WEEK
    newest = _newest_before(state, rows, days, day)
    expected = model.purchases.expected_purchases(x, (newest - state.first_day[rows]) / DAYS_PER_WEEK, waited, horizon_days / DAYS_PER_WEEK)
    return float(actual), float(np.nan_to_num(expected).sum())


def _newest_before(state: CustomerState, rows: Integers, days: Integers, day: int) -> Floats:
    """By row: the newest of its `days` purchase days by the end of `day`; a guess where the bitmap has forgotten it."""
    first, last = state.first_day[rows].astype(np.int64), state.last_day[rows].astype(np.int64)
    bitmap = state.bitmap[rows] & ~bits_of_days(np.full(len(rows), day + 1), last - day)
    newest = newest_day(bitmap, np.minimum(last, day)).astype(float)
    # The last of so many days that lie evenly between the first and what the bitmap still holds.
    forgotten = first + np.maximum(last - SPAN_DAYS - first, 0) * (days - 1) / np.maximum(days, 1)
    newest = np.where(newest < 0, forgotten, newest)
    return np.where(days <= 1, first, newest)
