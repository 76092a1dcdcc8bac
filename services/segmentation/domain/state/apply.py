"""Folds events into rows. Applying a batch twice is the caller's to prevent (by positions); order and split do not matter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from services.segmentation.domain.arrays import Integers, Mask
from services.segmentation.domain.events import EventBatch, Kind
from services.segmentation.domain.names import NEED
from services.segmentation.domain.state import money
from services.segmentation.domain.state.days import SPAN_DAYS, WORDS, bits_of_days
from services.segmentation.domain.state.rows import BOUGHT, DONE, NEVER, CustomerState
from services.segmentation.domain.state.tallies import Fresh

_MOST_U16 = 2**16 - 1
_MOST_U8 = 2**8 - 1


@dataclass(frozen=True, slots=True)
class Changed:
    """The rows that a batch changed, each once, and the time of the newest event that changed it."""

    rows: Integers
    at_ms: Integers


def apply_events(state: CustomerState, batch: EventBatch) -> Changed:
    """Fold a batch into the state and return the rows it changed.

    The events' order, and how they are split into batches, do not change the result. One exception: a purchase more than 512 days
    before the customer's newest counts as a purchase and its money counts, but its day no longer can; `late_count` says how often.
    """
    rows, places = np.unique(state.find_or_add(batch.ids), return_inverse=True)
    newest = np.full(len(rows), np.iinfo(np.int64).min)
    np.maximum.at(newest, places, batch.at_ms)
    _apply(state, batch, rows, places)
    return Changed(rows, newest)


def _apply(state: CustomerState, batch: EventBatch, rows: Integers, places: Integers) -> None:
    purchases = batch.kind == Kind.PURCHASE
    day, at = batch.day[purchases], places[purchases]
    if len(day) > 1 and _outspans_itself(state, rows, at, day):
        # Days that fall out of the bitmap count only if they were seen while they were in it, as one by one they would be.
        for half in (slice(None, len(batch) // 2), slice(len(batch) // 2, None)):
            _apply(state, batch.part(half), rows, places[half])
        return
    _apply_days(state, rows, at, day)
    _apply_counts(state, batch, rows, places, purchases)
    _apply_money(state, batch, rows, places, purchases)
    _apply_categories(state, batch, rows, places)
    _apply_names(state, batch, rows, places)
    if batch.costs is not None:
        np.add.at(state.have("costs"), rows[places], batch.costs)


def _outspans_itself(state: CustomerState, rows: Integers, at: Integers, day: Integers) -> bool:
    old, new = _last_days(state, rows, at, day)
    accepted_before = (old[at] == NEVER) | (day > old[at] - SPAN_DAYS)
    return bool((accepted_before & (day <= new[at] - SPAN_DAYS)).any())


def _last_days(state: CustomerState, rows: Integers, at: Integers, day: Integers) -> tuple[Integers, Integers]:
    old = state.last_day[rows].astype(np.int64)
    new = old.copy()
    np.maximum.at(new, at, day)
    return old, new


def _apply_days(state: CustomerState, rows: Integers, at: Integers, day: Integers) -> None:
    old, new = _last_days(state, rows, at, day)
    first = state.first_day[rows].astype(np.int64)
    np.minimum.at(first, at, day)
    state.first_day[rows], state.last_day[rows] = first, new
    _forget_days(state, rows, old, new)
    late = day <= new[at] - SPAN_DAYS
    if late.any():
        _add_u16(state.late_count, rows, np.bincount(at[late], minlength=len(rows)))
        at, day = at[~late], day[~late]
    # One key for each distinct (row, day), so that a day is counted once.
    keys = np.unique(at * SPAN_DAYS + day % SPAN_DAYS)
    where, bit = keys // SPAN_DAYS, keys % SPAN_DAYS
    words = rows[where] * WORDS + (bit >> 6)
    bits = np.uint64(1) << (bit & 63).astype(np.uint64)
    flat = state.bitmap.reshape(-1)
    fresh = (flat[words] & bits) == 0
    np.bitwise_or.at(flat, words, bits)
    _add_u16(state.day_count, rows, np.bincount(where[fresh], minlength=len(rows)))


def _forget_days(state: CustomerState, rows: Integers, old: Integers, new: Integers) -> None:
    """Clear the bits of the days that become the newest: they held days 512 and more before."""
    moved = (new > old) & (old != NEVER)
    if moved.any():
        state.bitmap[rows[moved]] &= ~bits_of_days(old[moved] + 1, new[moved] - old[moved])


def _apply_counts(state: CustomerState, batch: EventBatch, rows: Integers, places: Integers, purchases: Mask) -> None:
    def counted(chosen: Mask) -> Integers:
        return np.bincount(places[chosen], minlength=len(rows)).astype(np.int64)

    state.purchase_count[rows] += counted(purchases).astype(np.uint32)
    state.line_count[rows] += _sum(batch.lines[purchases], places[purchases], len(rows)).astype(np.uint32)
    if purchases.all():
        return
    state.refund_count[rows] += counted(batch.kind == Kind.REFUND).astype(np.uint32)
    state.interaction_count[rows] += counted(batch.kind >= Kind.INTERACTION).astype(np.uint32)
    _add_u16(state.redemption_count, rows, counted(batch.kind == Kind.COUPON_REDEMPTION))
    _add_u16(state.complaint_count, rows, counted(batch.kind == Kind.COMPLAINT))


def _apply_money(state: CustomerState, batch: EventBatch, rows: Integers, places: Integers, purchases: Mask) -> None:
    refunds = batch.kind == Kind.REFUND
    state.bought_minor[rows] += _sum(batch.amount_minor[purchases], places[purchases], len(rows))
    moving = purchases
    amount = batch.amount_minor
    if refunds.any():
        state.refunded_minor[rows] += _sum(amount[refunds], places[refunds], len(rows))
        moving, amount = purchases | refunds, np.where(refunds, -amount, amount)
    if moving.any():
        _apply_buckets(state, rows, places[moving], money.bucket_of(batch.day[moving]), amount[moving])


def _apply_buckets(state: CustomerState, rows: Integers, at: Integers, bucket: Integers, amount: Integers) -> None:
    old = state.newest_bucket[rows].astype(np.int64)
    new = old.copy()
    np.maximum.at(new, at, bucket)
    state.newest_bucket[rows] = new
    moved = new > old
    if moved.any():
        stale = money.slots_after(old[moved], new[moved])
        state.bucket_low[rows[moved]] *= ~stale
        state.bucket_high[rows[moved]] *= ~stale
    held = bucket > new[at] - money.BUCKETS
    keys, where = np.unique(at[held] * money.BUCKETS + bucket[held] % money.BUCKETS, return_inverse=True)
    flat = rows[keys // money.BUCKETS] * money.BUCKETS + keys % money.BUCKETS
    low, high = state.bucket_low.reshape(-1), state.bucket_high.reshape(-1)
    low[flat], high[flat] = money.split(money.join(low[flat], high[flat]) + _sum(amount[held], where, len(keys)))


def _apply_categories(state: CustomerState, batch: EventBatch, rows: Integers, places: Integers) -> None:
    bought = batch.categories
    if bought is None or not len(bought.event):
        return
    _learn_names(state, batch, bought.name)
    periods = BOUGHT.period_of(batch.day)[bought.event]
    fresh = state.bought.add(rows[places[bought.event]], bought.name, periods)
    state.need_due[rows[places[bought.event]]] = True
    _apply_breadth(state, rows, places[bought.event], periods, fresh)


def _apply_breadth(state: CustomerState, rows: Integers, at: Integers, periods: Integers, fresh: Fresh) -> None:
    """Count each category once in each period, for as long as the row's own ring reaches."""
    breadth, newest = state.have("breadth"), state.have("breadth_newest")
    touched, where = np.unique(rows[at], return_inverse=True)
    old = newest[touched].astype(np.int64)
    new = old.copy()
    np.maximum.at(new, where, periods)
    moved = new > old
    breadth[touched[moved]] *= ~money.slots_after(old[moved], new[moved])
    newest[touched] = new
    held = fresh.periods > newest[fresh.rows] - BOUGHT.periods
    keys, times = np.unique(fresh.rows[held] * BOUGHT.periods + fresh.periods[held] % BOUGHT.periods, return_counts=True)
    flat = breadth.reshape(-1)
    flat[keys] = np.minimum(flat[keys].astype(np.int64) + times, _MOST_U8)


def _apply_names(state: CustomerState, batch: EventBatch, rows: Integers, places: Integers) -> None:
    if batch.bonds is not None:
        bonds = batch.bonds.astype(np.uint8)
        # A score need not move with a new bond or a stated need; others are told all the same.
        state.unpublished[rows[places[(bonds & ~state.bonds[rows[places]]) != 0]]] = True
        np.bitwise_or.at(state.bonds, rows[places], bonds)
    if batch.name is None:
        return
    named = np.flatnonzero(batch.name)
    if len(named):
        _learn_names(state, batch, batch.name[named])
        state.done.add(rows[places[named]], batch.name[named], DONE.period_of(batch.day[named]))
        needs = [code for code in np.unique(batch.name[named]).tolist() if batch.texts[code].startswith(NEED)]
        if needs:
            state.unpublished[rows[places[np.isin(batch.name, needs)]]] = True


def _learn_names(state: CustomerState, batch: EventBatch, codes: Integers) -> None:
    for code in np.unique(codes).tolist():
        if code not in state.names:
            state.names[code] = batch.texts[code]


def _sum(values: Integers, places: Integers, length: int) -> Integers:
    """Exact sums by place; `bincount` with weights would go through floats."""
    sums = np.zeros(length, dtype=np.int64)
    np.add.at(sums, places, values)
    return sums


def _add_u16(column: np.ndarray[tuple[int], np.dtype[np.uint16]], rows: Integers, more: Integers) -> None:
    column[rows] = np.minimum(column[rows].astype(np.int64) + more, _MOST_U16)
