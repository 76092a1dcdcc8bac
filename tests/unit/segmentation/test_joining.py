"""Rows of one customer's profiles add up to the row of one profile that had seen everything; packed, copied and kept they stay the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.segmentation.copies import Copies, Said, copy_key, copy_message, erasures, tombstones
from services.segmentation.domain.arrays import hex_from_ids
from services.segmentation.domain.state import CustomerState, LastChange, Written, pack, restore, unpack
from services.segmentation.domain.state.days import SPAN_DAYS
from services.segmentation.domain.state.joining import customers_of, join
from services.segmentation.domain.state.rows import DONE
from shared.streaming.partitions import partition_for
from shared.streaming.records import StoredRecord
from tests.unit.segmentation.histories import FIRST_DAY, Event, an_id, applied, as_batch, event, events, rows_by_id

NOTHING = LastChange(*np.zeros((5, 1), np.int64))  # type: ignore[arg-type]


def alone(history: list[Event]) -> CustomerState:
    """All of it by one profile."""
    return applied([(an_id(1), *each[1:]) for each in history])


def together(history: list[Event]) -> CustomerState:
    """By five profiles of customer 1, joined."""
    every = applied(history)
    every.find_or_add(as_batch([event(1, FIRST_DAY)]).ids)
    first = int(every.find(as_batch([event(1, FIRST_DAY)]).ids)[0])
    customer = every.keep_only(np.array([first]))
    others = every.keep_only(np.setdiff1d(every.every_row(), [first]))
    join(customer, np.zeros(others.count, dtype=np.int64), others)
    return customer


@given(events(SPAN_DAYS))
def test_profiles_add_up_to_who_did_all_of_it(history: list[Event]) -> None:
    if history:
        assert rows_by_id(together(history)) == rows_by_id(alone(history))


@given(events(1500))
def test_beyond_the_bitmap_days_that_were_forgotten_count_at_least_once(history: list[Event]) -> None:
    if not history:
        return
    joined, whole = rows_by_id(together(history))[an_id(1)], rows_by_id(alone(history))[an_id(1)]
    known = {name: joined.pop(name) for name in ("day_count", "late_count")}
    seen = {name: whole.pop(name) for name in ("day_count", "late_count")}
    assert joined == whole
    days = len({each[2] // 86_400_000 for each in history if each[1] == 0})
    # One row that reads what is older than its bitmap cannot tell whether that day is new; several may.
    assert seen["day_count"] <= known["day_count"] <= joined["last_day"] - joined["first_day"] + 1 or not days
    assert known["day_count"] >= min(days, seen["day_count"])


@given(st.lists(st.integers(FIRST_DAY, FIRST_DAY + 1200), min_size=1, max_size=40).map(sorted), st.data())
def test_days_in_order_count_exactly_where_no_row_has_forgotten_any(days: list[int], data: st.DataObject) -> None:
    history = [event(data.draw(st.integers(1, 2)), day) for day in days]
    spans = [[day for (who, *_), day in zip(history, days, strict=True) if who == an_id(number)] for number in (1, 2)]
    if all(not span or max(span) - min(span) < SPAN_DAYS for span in spans):
        assert int(together(history).day_count[0]) == len(set(days))


def test_an_offer_to_both_profiles_in_one_week_is_one_week() -> None:
    state, parts = CustomerState(), CustomerState()
    for each in (state, parts):
        row = each.find_or_add(as_batch([event(1, FIRST_DAY)]).ids)
        each.names[9] = "offer:welcome"
        each.names[8] = "ProductViewed"
        each.done.add(row, np.array([9]), DONE.period_of(np.array([FIRST_DAY])), most=1)
        each.done.add(row, np.array([8]), DONE.period_of(np.array([FIRST_DAY])))
    join(state, np.array([0]), parts)
    week = FIRST_DAY // 7
    assert [int(state.done.counts(np.array([0]), name, week, week)[0]) for name in (9, 8)] == [1, 2]


def merged_rows() -> CustomerState:
    """Three rows: a customer with two other profiles."""
    state = applied([event(number, FIRST_DAY + number, lines=number) for number in (1, 2, 3)])
    rows = {number: int(state.find(as_batch([event(number, 1)]).ids)[0]) for number in (1, 2, 3)}
    state.merged.put(rows[1], others=(an_id(2).hex(), an_id(3).hex()))
    for number in (2, 3):
        state.merged.put(rows[number], home=an_id(1).hex())
    return state


def kinship(state: CustomerState) -> dict[str, tuple[str | None, tuple[str, ...]]]:
    ids = hex_from_ids(state.ids[: state.count])
    return {who: (state.merged.home(row), state.merged.others(row)) for row, who in enumerate(ids)}


def packed(state: CustomerState) -> list[bytes]:
    rows = state.every_row()
    nothing = LastChange(*np.zeros((5, len(rows)), np.int64))  # type: ignore[arg-type]
    return pack(state, rows, Written(3, np.full(len(rows), 7)), nothing)


@pytest.mark.parametrize("also", ["nothing", "tallies"])
def test_a_packed_row_says_whose_its_profile_is(also: str) -> None:
    state = merged_rows()
    if also == "tallies":
        state.done.add(np.array([1]), np.array([4]), np.array([100]))
        state.have("costs")[2] = 5
    read = CustomerState()
    rows = read.add(state.ids[: state.count])
    restore(read, rows, unpack(read.ids[rows], packed(state)))
    assert kinship(read) == kinship(state)
    read.merged.put(0, home=an_id(9).hex())
    alone_again = applied([event(number, FIRST_DAY + number, lines=number) for number in (1, 2, 3)])
    restore(read, rows, unpack(read.ids[rows], packed(alone_again)))
    assert not read.merged


def test_rows_of_nobody_who_was_merged_are_packed_as_they_always_were() -> None:
    state = applied([event(number, FIRST_DAY) for number in (1, 2)])
    before = packed(state)
    state.merged.put(1, home=an_id(1).hex())
    after = packed(state)
    assert len(after[1]) > len(before[1])
    assert after[0][: len(before[0])] == before[0]
    state.merged.put(1)
    assert packed(state) == before


def test_rows_that_move_take_along_whose_they_are() -> None:
    state = merged_rows()
    kept = state.keep_only(np.array([2, 0]))
    assert kinship(kept) == {who: what for who, what in kinship(state).items() if who != hex_from_ids(state.ids[1:2])[0]}
    other = applied([event(8, FIRST_DAY)])
    other.take_over(state)
    assert kinship(state).items() <= kinship(other).items()


def test_a_refit_sees_customers() -> None:
    customers = customers_of(merged_rows())
    assert list(rows_by_id(customers)) == [an_id(1)]
    assert (int(customers.line_count[0]), int(customers.day_count[0])) == (6, 3)


def record(offset: int, said: Said | None, who: int = 2) -> StoredRecord:
    if said is None:
        return StoredRecord(offset, 0, copy_key(an_id(who).hex(), 0), None)
    message = copy_message(an_id(who).hex(), said)
    return StoredRecord(offset, 0, message.key, message.value)


def said(generation: int, applied_to: int, customer: int = 1) -> Said:
    state = applied([event(2, FIRST_DAY)])
    (row,) = pack(state, state.every_row(), Written(generation, np.array([applied_to])), NOTHING)
    return Said(an_id(customer).hex(), 5, False, {}, row)


def test_the_copy_that_was_written_last_by_the_latest_owner_wins_and_is_said_again() -> None:
    copies = Copies()
    assert copies.take([record(0, said(2, 10))]).caused_ms == {an_id(1).hex(): 5}
    for late in (said(1, 99), said(2, 9)):
        moved = copies.take([record(copies.position, late)])
        assert not moved.caused_ms
        assert [each.value for each in moved.losers] == [record(0, said(2, 10)).value]
    assert copies.held[an_id(2).hex()].written == (2, 10)
    assert copies.take([record(copies.position, said(2, 10, customer=3))]).caused_ms.keys() == {an_id(1).hex(), an_id(3).hex()}
    assert copies.take([record(0, said(9, 9))]).caused_ms == {}  # Read before.
    late = tombstones([(an_id(2).hex(), partition_for(an_id(3).hex().encode()))], generation=1)[0]
    moved = copies.take([StoredRecord(copies.position, 0, late.key, None, late.headers)])
    assert (moved.caused_ms, len(moved.losers), len(copies.held)) == ({}, 1, 1)
    gone = tombstones([(an_id(2).hex(), partition_for(an_id(3).hex().encode()))], generation=2)[0]
    assert copies.take([StoredRecord(copies.position, 0, gone.key, None, gone.headers)]).caused_ms.keys() == {an_id(3).hex()}
    assert not copies.held


def test_an_erasure_takes_out_what_anybody_has_published() -> None:
    copies = Copies()
    copies.take([record(0, said(10**9, 1))])
    copies.take([record(1, None)])
    assert not copies.held
    assert {partition_for(each.key) for each in erasures(an_id(2).hex())} == set(range(8))


def test_a_copy_lies_where_its_customer_does_under_a_key_that_whoever_erases_it_can_tell() -> None:
    for customer in range(20):
        home = an_id(customer).hex()
        message = copy_message(an_id(2).hex(), said(1, 1, customer))
        assert partition_for(message.key) == partition_for(home.encode())
        assert message.key == copy_key(an_id(2).hex(), partition_for(home.encode()))


def test_what_is_no_copy_is_parked_and_the_next_one_is_read() -> None:
    copies = Copies()
    moved = copies.take([StoredRecord(0, 0, b"x", b"\xc1"), record(1, said(1, 1))])
    assert [reject.offset for reject in moved.rejects] == [0]
    assert len(copies.held) == 1
