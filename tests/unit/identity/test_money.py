"""Amounts in minor units, exactly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.identity.domain.money import spread


@pytest.mark.parametrize(
    ("discount", "amounts", "left"),
    [
        (0, [5, 7], [5, 7]), (1, [1, 1, 1], [0, 1, 1]), (10, [50, 30, 20], [45, 27, 18]), (100, [50, 50], [0, 0]),
        (999, [3], [0]), (3, [], []), (3, [0, 0], [0, 0]), (5, [0, 7], [0, 2]),
    ],
)  # fmt: skip
def test_a_discount_is_spread_in_proportion(discount: int, amounts: list[int], left: list[int]) -> None:
    assert spread(discount, amounts) == left


@given(st.integers(0, 10**15), st.lists(st.integers(0, 10**12), max_size=20))
def test_nothing_of_a_discount_is_lost_and_no_amount_falls_below_zero(discount: int, amounts: list[int]) -> None:
    left = spread(discount, amounts)
    assert sum(left) == sum(amounts) - min(discount, sum(amounts))
    assert all(0 <= after <= before for after, before in zip(left, amounts, strict=True))
