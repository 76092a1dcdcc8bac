"""Rows: what order, split and repetition must not change, and what each event does."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.segmentation.domain.arrays import hex_from_ids, ids_from_hex
from services.segmentation.domain.events import Kind
from services.segmentation.domain.state import CustomerState, LastChange, Written, apply_events, money, pack, restore, unpack
from services.segmentation.domain.state.days import SPAN_DAYS, bits_of_days, count_days
from services.segmentation.domain.state.rows import BOUGHT, DONE
from tests.unit.segmentation.histories import FIRST_DAY, Event, an_id, applied, as_batch, event, events, rows_by_id

WITHIN = SPAN_DAYS
BEYOND = 3 * SPAN_DAYS


@given(events(WITHIN), st.randoms(use_true_random=False))
def test_the_order_of_events_does_not_matter(history: list[Event], chance: object) -> None:
    shuffled = history.copy()
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    assert rows_by_id(applied(history)) == rows_by_id(applied(shuffled))


@given(events(BEYOND), st.integers(0, 60), st.integers(0, 60))
def test_the_split_into_batches_does_not_matter_not_even_over_three_bitmaps(history: list[Event], one: int, other: int) -> None:
    first, second = sorted((one, other))
    alone = applied(*([each] for each in history))
    assert rows_by_id(applied(history)) == rows_by_id(alone)
    assert rows_by_id(applied(history[:first], history[first:second], history[second:])) == rows_by_id(alone)


@given(events(WITHIN))
def test_rows_say_what_a_plain_count_says(history: list[Event]) -> None:
    rows = rows_by_id(applied(history))
    for customer, row in rows.items():
        own = [each for each in history if each[0] == customer]
        bought = [each for each in own if each[1] == Kind.PURCHASE]
        refunds = [each for each in own if each[1] == Kind.REFUND]
        days = {each[2] // 86_400_000 for each in bought}
        assert row["purchase_count"] == len(bought)
        assert row["line_count"] == sum(each[4] for each in bought)
        assert row["day_count"] == len(days)
        assert row["refund_count"] == len(refunds)
        assert row["bought_minor"] == sum(each[3] for each in bought)
        assert row["refunded_minor"] == sum(each[3] for each in refunds)
        assert row["interaction_count"] == sum(each[1] >= Kind.INTERACTION for each in own)
        assert row["redemption_count"] == sum(each[1] == Kind.COUPON_REDEMPTION for each in own)
        assert row["complaint_count"] == sum(each[1] == Kind.COMPLAINT for each in own)
        assert (row["first_day"], row["last_day"]) == ((min(days), max(days)) if days else (2**31 - 1, -1))
        assert _days(row) == days
        assert row["late_count"] == 0
    assert sorted(rows) == sorted({each[0] for each in history})


@given(events(BEYOND))
def test_money_by_bucket_is_what_the_newest_year_brought(history: list[Event]) -> None:
    state = applied(history)
    for row, (customer, _) in enumerate(sorted(rows_by_id(state).items(), key=lambda each: _row_of(state, each[0]))):
        moved = [each for each in history if each[0] == customer and each[1] in (Kind.PURCHASE, Kind.REFUND)]
        newest = max((each[2] // 86_400_000 // 28 for each in moved), default=0)
        expected = [0] * money.BUCKETS
        for each in moved:
            age = newest - each[2] // 86_400_000 // 28
            if age < money.BUCKETS:
                expected[age] += each[3] if each[1] == Kind.PURCHASE else -each[3]
        held = money.join(state.bucket_low[[row]], state.bucket_high[[row]])
        assert money.by_age(held, state.newest_bucket[[row]].astype(np.int64), np.array([newest]))[0].tolist() == expected


def test_a_refund_changes_money_and_never_counts() -> None:
    before = rows_by_id(applied([event(1, FIRST_DAY)]))[an_id(1)]
    after = rows_by_id(applied([event(1, FIRST_DAY), event(1, FIRST_DAY + 40, Kind.REFUND, amount=300)]))[an_id(1)]
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"refund_count", "refunded_minor", "newest_bucket", "bucket_low", "bucket_high"}
    assert after["refunded_minor"] == 300


def test_a_refund_that_arrives_before_its_purchase_ends_in_the_same_state() -> None:
    purchase, refund = event(1, FIRST_DAY), event(1, FIRST_DAY + 3, Kind.REFUND)
    assert rows_by_id(applied([refund], [purchase])) == rows_by_id(applied([purchase], [refund]))


def test_a_purchase_from_before_the_bitmap_counts_and_is_marked() -> None:
    row = rows_by_id(applied([event(1, FIRST_DAY + SPAN_DAYS)], [event(1, FIRST_DAY, amount=77)]))[an_id(1)]
    assert (row["purchase_count"], row["day_count"], row["late_count"]) == (2, 1, 1)
    assert (row["first_day"], row["bought_minor"]) == (FIRST_DAY, 1077)


def test_days_that_fell_out_of_the_bitmap_stay_counted() -> None:
    row = rows_by_id(applied([event(1, FIRST_DAY)], [event(1, FIRST_DAY + SPAN_DAYS)]))[an_id(1)]
    assert (row["day_count"], row["late_count"]) == (2, 0)
    assert _days(row) == {FIRST_DAY + SPAN_DAYS}


def test_an_amount_beyond_six_bytes_stops_in_its_bucket_and_not_in_the_total() -> None:
    state = applied([event(1, FIRST_DAY, amount=10**15)])
    assert state.bought_minor[0] == 10**15
    assert money.join(state.bucket_low[0], state.bucket_high[0]).max() == 2**47 - 1


@given(st.integers(0, 5000), st.integers(-5, 600))
def test_the_bits_of_a_range_are_its_days(first: int, length: int) -> None:
    bits = bits_of_days(np.array([first]), np.array([length]))[0].tolist()
    expected = {day % SPAN_DAYS for day in range(first, first + min(length, SPAN_DAYS))}
    assert {place for place in range(SPAN_DAYS) if bits[place >> 6] >> (place & 63) & 1} == expected


@given(st.sets(st.integers(FIRST_DAY, FIRST_DAY + WITHIN - 1), min_size=1), st.integers(-600, 600), st.integers(0, 700))
def test_days_are_counted_within_a_window(days: set[int], start: int, length: int) -> None:
    state = applied([event(1, day) for day in days])
    first = FIRST_DAY + start
    counted = count_days(state.bitmap[[0]], state.last_day[[0]].astype(np.int64), np.array([first]), np.array([first + length]))
    assert counted[0] == sum(first <= day < first + length for day in days)


@given(events(BEYOND))
def test_a_packed_row_is_read_back_as_it_was(history: list[Event]) -> None:
    state = applied(history)
    rows = state.every_row()
    packed = pack(state, rows, Written(7, np.full(len(rows), 99)), LastChange(state.membership[rows], *np.zeros((4, len(rows)), np.int64)))
    back = CustomerState()
    back.names |= state.names
    held = unpack(ids_from_hex("".join(hex_from_ids(state.ids[rows])).encode()), packed)
    restore(back, back.find_or_add(held.ids), held)
    assert rows_by_id(back) == rows_by_id(state)
    assert held.records["generation"].tolist() == [7] * len(rows)
    assert held.records["applied"].tolist() == [99] * len(rows)


def test_an_index_finds_every_id_among_many_and_no_other() -> None:
    chance = np.random.default_rng(5)
    ids = chance.integers(0, 2**64, size=(20_000, 2), dtype=np.uint64)
    ids[10_000:, 0] = ids[:10_000, 1]
    ids[10_000:, 1] = ids[:10_000, 0]  # The same mixed start for pairs: they collide.
    state = CustomerState()
    rows = np.concatenate([state.find_or_add(part) for part in np.array_split(np.repeat(ids, 2, axis=0), 17)])
    assert state.count == len(ids)
    assert (state.ids[rows] == np.repeat(ids, 2, axis=0)).all()
    assert (state.find(ids + np.uint64(1)) == -1).all()


def test_a_batch_reports_each_changed_row_once_with_its_newest_cause() -> None:
    state = applied([event(3, FIRST_DAY)])
    changed = apply_events(state, as_batch([event(2, FIRST_DAY + 1), event(1, FIRST_DAY), event(2, FIRST_DAY, ms=5)]))
    assert changed.rows.tolist() == sorted(set(changed.rows.tolist()))
    newest = dict(zip(changed.rows.tolist(), changed.at_ms.tolist(), strict=True))
    assert newest[_row_of(state, an_id(2))] == (FIRST_DAY + 1) * 86_400_000


def _days(row: dict[str, list[int]]) -> set[int]:
    last = row["last_day"]
    return {day for day in range(last - SPAN_DAYS + 1, last + 1) if row["bitmap"][day % SPAN_DAYS >> 6] >> (day % 64) & 1}  # type: ignore[operator]


def _row_of(state: CustomerState, customer: bytes) -> int:
    return int(state.find(np.frombuffer(customer, ">u8").astype(np.uint64).reshape(1, 2))[0])


@given(events(BEYOND))
def test_tallies_say_what_a_plain_count_says(history: list[Event]) -> None:
    state = applied(history)
    for customer in {each[0] for each in history}:
        row = _row_of(state, customer)
        own = [each for each in history if each[0] == customer]
        for name, tally, ring in ((70_000, state.bought, BOUGHT), (4, state.done, DONE)):
            when = [
                each[2] // 86_400_000 // ring.period_days for each in own for code in _names_of(each, tally is state.bought) if code == name
            ]
            newest = max(when, default=0)
            for first, last in ((newest - 2, newest), (newest - ring.periods - 5, newest - 1), (0, newest + 9)):
                expected = sum(max(first, newest - ring.periods + 1) <= period <= last for period in when)
                assert tally.counts(np.array([row]), name, first, last)[0] == expected


@given(events(BEYOND))
def test_breadth_counts_each_category_once_in_each_period(history: list[Event]) -> None:
    state = applied(history)
    for customer, row in rows_by_id(state).items():
        bought = {(each[2] // 86_400_000 // 28, code) for each in history if each[0] == customer for code in _names_of(each, True)}
        newest = max((period for period, _ in bought), default=-1)
        expected = [0] * 13
        for period, _ in bought:
            if period > newest - 13:
                expected[period % 13] += 1
        assert (row["breadth_newest"], row["breadth"]) == (newest, expected)


@given(events(BEYOND), st.integers(0, 60))
def test_a_packed_row_replaces_all_that_was_there(history: list[Event], seen: int) -> None:
    before, after = applied(history[:seen]), applied(history)
    rows = after.every_row()
    packed = pack(after, rows, Written(7, np.full(len(rows), 99)), LastChange(after.membership[rows], *np.zeros((4, len(rows)), np.int64)))
    held = unpack(ids_from_hex("".join(hex_from_ids(after.ids[rows])).encode()), packed)
    before.names |= after.names
    restore(before, before.find_or_add(held.ids), held)
    assert rows_by_id(before) == rows_by_id(after)


def _names_of(each: Event, of_lines: bool) -> tuple[int, ...]:
    more = each[5]
    if of_lines:
        return more.categories if each[1] == Kind.PURCHASE else ()
    return (more.name,) if more.name else ()
