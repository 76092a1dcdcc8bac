"""Rows rewound to an earlier day are the rows of that day."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.segmentation.domain.events import Kind
from services.segmentation.domain.state import money
from services.segmentation.domain.state.days import WORDS, bits_of_days, newest_day
from services.segmentation.domain.state.rewind import last_day_of_bucket, rewound
from services.segmentation.domain.state.rows import CustomerState
from tests.unit.segmentation.histories import FIRST_DAY, Event, applied, event

SPAN = 300
"""Days: within it neither the bitmap nor the year of buckets forgets anything."""
purchases = st.lists(
    st.builds(event, customer=st.integers(1, 5), day=st.integers(FIRST_DAY, FIRST_DAY + SPAN - 1), amount=st.integers(0, 10**11)),
    min_size=1,
    max_size=60,
)
EXACT = ("first_day", "last_day", "day_count", "bought_minor", "newest_bucket", "bucket_low", "bucket_high", "bitmap")


def seen(state: CustomerState) -> dict[bytes, dict[str, object]]:
    ids = state.ids[: state.count].astype(">u8")
    return {ids[row].tobytes(): {name: np.asarray(getattr(state, name)[row]).tolist() for name in EXACT} for row in range(state.count)}


@given(purchases, st.integers(0, SPAN + 40))
def test_rewound_rows_are_those_of_the_day(history: list[Event], later: int) -> None:
    day = last_day_of_bucket(FIRST_DAY + later)
    state = applied(history)
    before, rows = rewound(state, state.every_row(), day)
    assert seen(before) == seen(applied([each for each in history if each[2] // 86_400_000 <= day]))
    assert (state.ids[rows] == before.ids[: before.count]).all()


def test_only_days_that_end_a_bucket_can_be_rewound_to() -> None:
    day = last_day_of_bucket(FIRST_DAY)
    assert (day + 1) % money.BUCKET_DAYS == 0
    with pytest.raises(ValueError, match="does not end"):
        rewound(CustomerState(), np.zeros(0, dtype=np.int64), day + 1)


def test_who_was_last_seen_before_the_bitmap_is_left_out() -> None:
    early, later = FIRST_DAY, FIRST_DAY + 700
    state = applied([event(1, early), event(1, early + 10), event(1, later), event(2, early), event(2, later), event(3, later - 50)])
    before, rows = rewound(state, state.every_row(), last_day_of_bucket(later - 20))
    # The first customer's second day is forgotten; the second's only earlier day is his first, which is kept for ever.
    assert rows.tolist() == [1, 2]
    assert before.last_day[:2].tolist() == [early, later - 50]


def test_a_long_silence_after_a_long_history_is_no_reason_to_be_left_out() -> None:
    last = last_day_of_bucket(FIRST_DAY + 1000) - 1
    # The day after the newest purchase has the bit of a day 511 days before it, which was one of many.
    state = applied([event(1, day) for day in (FIRST_DAY, last - 511, last - 100, last)])
    before, rows = rewound(state, state.every_row(), last + 1)
    assert rows.tolist() == [0]
    assert before.last_day[:1].tolist() == [last]


@given(st.sets(st.integers(0, 511), max_size=40), st.integers(FIRST_DAY, FIRST_DAY + 1200))
def test_the_newest_day_of_a_bitmap_is_found_wherever_it_lies(ages: set[int], until: int) -> None:
    bitmap = np.zeros((1, WORDS), dtype=np.uint64)
    for age in ages:
        bitmap |= bits_of_days(np.array([until - age]), np.array([1]))
    assert newest_day(bitmap, np.array([until])).tolist() == [until - min(ages) if ages else -1]


def test_rewound_rows_are_told_by_their_numbers_in_whatever_order_customers_came() -> None:
    day = last_day_of_bucket(FIRST_DAY + 100)
    state = applied(*([event(customer, day - customer)] for customer in (4, 1, 3, 5, 2)))
    before, rows = rewound(state, state.every_row(), day)
    assert (state.ids[rows] == before.ids[: before.count]).all()
    assert (state.last_day[rows] == before.last_day[: before.count]).all()


def test_what_was_returned_later_is_rewound_too() -> None:
    day = last_day_of_bucket(FIRST_DAY + 100)
    state = applied([event(1, day - 40, amount=5000), event(1, day + 5, amount=700), event(1, day + 9, Kind.REFUND, amount=200)])
    before, _ = rewound(state, state.every_row(), day)
    assert int(before.bought_minor[0]) == 5000
