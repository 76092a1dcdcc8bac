"""Held out is held out: uniform, permanent, independent between programs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.campaigns.domain.holdout import GLOBAL_SHARE, Holdout, holdout, place
from shared.contracts.envelope import derived_id

CUSTOMERS = [derived_id("profile", f"loyalty_card:{number}") for number in range(20_000)]
customer_ids = st.text("0123456789abcdef", min_size=32, max_size=32)


@pytest.mark.parametrize(("customer", "group", "expected"), [
    ("0" * 32, "global", 0.27712904131898075),
    ("0" * 32, "program/win_back", 0.6130902502105633),
    ("f" * 32, "global", 0.7185474762485523),
])  # fmt: skip
def test_a_place_never_moves(customer: str, group: str, expected: float) -> None:
    assert place(group, customer) == expected


@given(customer_ids, st.text(max_size=20))
def test_a_place_is_in_the_unit_interval_and_repeatable(customer: str, group: str) -> None:
    assert 0.0 <= place(group, customer) < 1.0
    assert place(group, customer) == place(group, customer)


@pytest.mark.parametrize("group", ["global", "program/welcome", "program/win_back"])
def test_places_are_uniform(group: str) -> None:
    tenths = [0] * 10
    for customer in CUSTOMERS:
        tenths[int(place(group, customer) * 10)] += 1
    expected = len(CUSTOMERS) / 10
    chi_squared = sum((count - expected) ** 2 / expected for count in tenths)
    assert chi_squared < 27.9  # 9 degrees of freedom, p = 0.001


def test_the_global_holdout_is_as_large_as_said_and_the_same_for_every_program() -> None:
    held = {customer for customer in CUSTOMERS if holdout("welcome", 0.0, customer)}
    assert len(held) / len(CUSTOMERS) == pytest.approx(GLOBAL_SHARE, abs=0.005)
    assert held == {customer for customer in CUSTOMERS if holdout("win_back", 0.0, customer)}
    assert {holdout("welcome", 0.0, customer) for customer in held} == {Holdout.GLOBAL}


def test_programs_hold_out_independently_of_each_other() -> None:
    first, second = (
        {customer for customer in CUSTOMERS if holdout(program, 0.2, customer) is Holdout.PROGRAM} for program in ("welcome", "win_back")
    )
    free_share = 1 - GLOBAL_SHARE
    assert len(first) / len(CUSTOMERS) == pytest.approx(0.2 * free_share, abs=0.01)
    assert len(first & second) / len(CUSTOMERS) == pytest.approx(0.2 * 0.2 * free_share, abs=0.006)


@given(customer_ids, st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_holds_out_everybody_that_a_smaller_one_does(customer: str, one: float, other: float) -> None:
    small, large = sorted((one, other))
    assert holdout("win_back", small, customer) is None or holdout("win_back", large, customer) is not None


def test_the_whole_share_holds_out_everybody() -> None:
    assert all(holdout("win_back", 1.0, customer) for customer in CUSTOMERS[:1000])
