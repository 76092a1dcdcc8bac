"""Rows as they were on an earlier day, as far as they still tell: what back-tests and the learning of signs look at."""

from __future__ import annotations

import numpy as np

from services.segmentation.domain.arrays import Integers
from services.segmentation.domain.state import money
from services.segmentation.domain.state.days import bits_of_days, count_days, newest_day
from services.segmentation.domain.state.rows import CustomerState


def last_day_of_bucket(day: int) -> int:
    """The last day of the newest 4-week bucket that had ended by `day`: rows can be rewound to such days only."""
    return (day + 1) // money.BUCKET_DAYS * money.BUCKET_DAYS - 1


def rewound(state: CustomerState, rows: Integers, day: int) -> tuple[CustomerState, Integers]:
    """Those of the rows that had bought by the end of `day`, as they were then, and by row of that its number in `state`.

    `day` ends a 4-week bucket. First day, purchase days and total spend are exact; a year's spend lacks buckets that newer ones have
    overwritten; purchases count once a day. Left out is who was last seen before all that the bitmap still holds. Categories and
    what is counted by name are as far back as their rings reach; what has no date (totals of refunds and interactions, costs) is as if it
    had not happened. Raises ValueError for another day.
    """
    if (day + 1) % money.BUCKET_DAYS:
        raise ValueError(f"day {day} does not end a {money.BUCKET_DAYS}-day bucket")
    rows = rows[(state.purchase_count[rows] > 0) & (state.first_day[rows] <= day)]
    last = state.last_day[rows].astype(np.int64)
    bitmap = state.bitmap[rows] & ~bits_of_days(np.full(len(rows), day + 1), last - day)
    after = count_days(state.bitmap[rows], last, np.full(len(rows), day + 1), last + 1)
    days = state.day_count[rows].astype(np.int64) - after
    newest = newest_day(bitmap, np.minimum(last, day))
    newest[days == 1] = state.first_day[rows][days == 1]
    kept = newest >= 0
    rows, bitmap, days, newest = rows[kept], bitmap[kept], days[kept], newest[kept]
    before = CustomerState()
    into = before.find_or_add(state.ids[rows])
    before.first_day[into], before.last_day[into] = state.first_day[rows], newest
    before.bitmap[into], before.day_count[into], before.purchase_count[into] = bitmap, days, days
    before.customer_type[into], before.known_since_day[into] = state.customer_type[rows], state.known_since_day[rows]
    _rewind_money(state, rows, before, into, day)
    state.bought.rewound(before.bought, rows, into, day // state.bought.ring.period_days)
    state.done.rewound(before.done, rows, into, day // state.done.ring.period_days)
    _rewind_breadth(state, rows, before, into, day)
    before.names |= state.names
    # New rows come in the order of their ids, whatever the order of those that they come from.
    return before, rows[np.argsort(into)]


def _rewind_breadth(state: CustomerState, rows: Integers, before: CustomerState, into: Integers, day: int) -> None:
    if "breadth" not in state.optional:
        return
    newest = state.optional["breadth_newest"][rows].astype(np.int64)
    last = np.minimum(newest, day // money.BUCKET_DAYS)
    before.have("breadth_newest")[into] = last
    before.have("breadth")[into] = state.optional["breadth"][rows] * ~money.slots_after(last, newest)


def _rewind_money(state: CustomerState, rows: Integers, before: CustomerState, into: Integers, day: int) -> None:
    bucket = int(day) // money.BUCKET_DAYS
    newest = state.newest_bucket[rows].astype(np.int64)
    amounts = money.by_age(money.join(state.bucket_low[rows], state.bucket_high[rows]), newest, np.maximum(newest, bucket))
    ages = np.maximum(newest, bucket)[:, None] - np.arange(money.BUCKETS)
    spent_after = np.where(ages > bucket, amounts, 0).sum(axis=1)
    before.bought_minor[into] = state.bought_minor[rows] - state.refunded_minor[rows] - spent_after
    kept = np.where(ages <= bucket, amounts, 0)
    slots = np.zeros_like(kept)
    np.put_along_axis(slots, ages % money.BUCKETS, kept, axis=1)
    touched = np.where(kept != 0, ages, 0).max(axis=1)
    before.newest_bucket[into] = np.maximum(money.bucket_of(before.last_day[into].astype(np.int64)), touched)
    before.bucket_low[into], before.bucket_high[into] = money.split(slots)
