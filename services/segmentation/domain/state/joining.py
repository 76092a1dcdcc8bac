"""A customer's row from those of its profiles: what one row would be that had seen all that they have seen."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.segmentation.domain.arrays import Bits, Integers, hex_from_ids, ids_from_hex
from services.segmentation.domain.names import OFFER
from services.segmentation.domain.state import money
from services.segmentation.domain.state.days import SPAN_DAYS, bits_of_days
from services.segmentation.domain.state.merged import Merged
from services.segmentation.domain.state.rows import BREADTH_PERIODS, NEVER, CustomerState

_SUMS = (
    "purchase_count", "line_count", "refund_count", "late_count", "bought_minor", "refunded_minor", "interaction_count",
    "redemption_count", "complaint_count",
)  # fmt: skip


def join(customers: CustomerState, into: Integers, members: CustomerState) -> None:
    """Fold every row of `members` into a row of `customers`, which then holds all that both have seen; each member is in one customer.

    What identity publishes of a customer (type, consents, since when it is known) stays that of `customers`, and so do memberships.
    Exact, but for purchase days that a row has forgotten: on such a day the same customer may have bought by another profile, and it
    then counts twice.
    """
    rows = np.r_[customers.every_row(), into]
    _join_days(customers, members, rows)
    _join_money(customers, members, rows)
    for name in _SUMS:
        summed = np.zeros(customers.count, dtype=np.int64)
        np.add.at(summed, rows, _both(customers, members, name).astype(np.int64))
        column = getattr(customers, name)
        column[: customers.count] = np.minimum(summed, np.iinfo(column.dtype).max)
    np.bitwise_or.at(customers.bonds, into, members.bonds[: members.count])
    customers.names |= members.names
    offers = np.array([code for code, text in customers.names.items() if text.startswith(OFFER)], dtype=np.int64)
    customers.bought.join(members.bought, into)
    customers.done.join(members.done, into, marks=offers)
    if "costs" in members.optional:
        np.add.at(customers.have("costs"), into, members.optional["costs"][: members.count])
    if "breadth" in {*customers.optional, *members.optional}:
        _count_breadth(customers)


def customers_of(every: CustomerState) -> CustomerState:
    """A row for each customer, from all profiles' rows of all partitions."""
    if not every.merged:
        return every
    is_absorbed = every.merged.absorbed(every.every_row())
    customers = every.keep_only(np.flatnonzero(~is_absorbed))
    absorbed = every.merged.absorbed_rows()
    ids = hex_from_ids(every.ids[absorbed])
    into = customers.find(ids_from_hex("".join(every.merged.home(row) or "" for row in absorbed.tolist()).encode()))
    # Two records that do not agree on whose it is were written while it changed.
    agreed = [home >= 0 and profile in customers.merged.others(home) for profile, home in zip(ids, into.tolist(), strict=True)]
    chosen = np.flatnonzero(np.array(agreed, dtype=bool))
    if len(chosen):
        join(customers, into[chosen], every.keep_only(absorbed[chosen]))
    customers.merged = Merged()
    return customers


def _both(customers: CustomerState, members: CustomerState, name: str) -> NDArray[Any]:
    return np.concatenate([getattr(customers, name)[: customers.count], getattr(members, name)[: members.count]])


def _join_days(customers: CustomerState, members: CustomerState, rows: Integers) -> None:
    last = _both(customers, members, "last_day").astype(np.int64)
    bitmap, counts = _both(customers, members, "bitmap"), _both(customers, members, "day_count").astype(np.int64)
    np.minimum.at(customers.first_day, rows, _both(customers, members, "first_day"))
    np.maximum.at(customers.last_day, rows, last.astype(np.int32))
    newest = customers.last_day[rows].astype(np.int64)
    # What only a row that ends earlier still holds is known, too, though the customer's own bitmap cannot hold it.
    older = bitmap & bits_of_days(last - SPAN_DAYS + 1, np.minimum(newest - last, SPAN_DAYS))
    forgotten = counts - np.bitwise_count(bitmap).sum(axis=1, dtype=np.int64)
    joined = np.zeros((customers.count, bitmap.shape[1]), dtype=np.uint64)
    np.bitwise_or.at(joined, rows, bitmap & ~older)
    days = np.bitwise_count(joined).sum(axis=1, dtype=np.int64) + _distinct_days(older, last, rows, customers.count)
    np.add.at(days, rows, forgotten)
    customers.bitmap[: customers.count] = joined
    span = customers.last_day[: customers.count].astype(np.int64) - customers.first_day[: customers.count] + 1
    most = np.where(customers.last_day[: customers.count] == NEVER, 0, span)
    customers.day_count[: customers.count] = np.minimum(np.minimum(days, most), np.iinfo(customers.day_count.dtype).max)


def _distinct_days(bits: Bits, last: Integers, rows: Integers, length: int) -> Integers:
    """By customer: how many different days these bits stand for, of bitmaps that end with `last`."""
    held = np.flatnonzero(bits.any(axis=1))
    places, bit = np.nonzero(np.unpackbits(bits[held].view(np.uint8), axis=1, bitorder="little"))
    which = held[places]
    days = last[which] - (last[which] - bit) % SPAN_DAYS
    distinct = np.unique(np.column_stack([rows[which], days]), axis=0)
    return np.bincount(distinct[:, 0].astype(np.int64), minlength=length)


def _join_money(customers: CustomerState, members: CustomerState, rows: Integers) -> None:
    newest = _both(customers, members, "newest_bucket").astype(np.int64)
    amounts = money.join(_both(customers, members, "bucket_low"), _both(customers, members, "bucket_high"))
    np.maximum.at(customers.newest_bucket, rows, newest.astype(np.int16))
    slots = np.arange(money.BUCKETS)
    buckets = newest[:, None] - (newest[:, None] - slots) % money.BUCKETS
    held = buckets > customers.newest_bucket[rows].astype(np.int64)[:, None] - money.BUCKETS
    summed = np.zeros((customers.count, money.BUCKETS), dtype=np.int64)
    np.add.at(summed, rows, np.where(held, amounts, 0))
    customers.bucket_low[: customers.count], customers.bucket_high[: customers.count] = money.split(summed)


def _count_breadth(customers: CustomerState) -> None:
    """In how many categories each bought in each period: one for each entry that has counted any."""
    bought, count = customers.bought, customers.count
    breadth, newest = customers.have("breadth"), customers.have("breadth_newest")
    entries, places = bought.of_rows(customers.every_row())
    ends, slots = bought.newest[entries].astype(np.int64)[:, None], np.arange(BREADTH_PERIODS)
    periods, counted = ends - (ends - slots) % BREADTH_PERIODS, bought.held[entries] > 0
    newest[:count], breadth[:count] = NEVER, 0
    np.maximum.at(newest, places, np.where(counted, periods, NEVER).max(axis=1, initial=NEVER).astype(newest.dtype))
    row, slot = np.nonzero(counted & (periods > newest[places].astype(np.int64)[:, None] - BREADTH_PERIODS))
    summed = np.zeros((count, BREADTH_PERIODS), dtype=np.int64)
    np.add.at(summed, (places[row], slot), 1)
    breadth[:count] = np.minimum(summed, np.iinfo(breadth.dtype).max)
