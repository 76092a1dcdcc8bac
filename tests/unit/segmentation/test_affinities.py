"""What customers need, against a plain look through all that they bought and said."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.segmentation.domain.affinities import HALF_LIFE_DAYS, affinities, commonest
from services.segmentation.domain.arrays import hex_from_ids
from services.segmentation.domain.events import Kind
from services.segmentation.domain.models.scoring_model import Market
from services.segmentation.domain.names import code_of
from services.segmentation.domain.need_labels import NeedLabels
from services.segmentation.domain.needs import NeedModel, assign
from services.segmentation.domain.scoring import Question, score
from services.segmentation.domain.state import CustomerState
from services.segmentation.domain.state.rows import BOUGHT
from services.segmentation.domain.told import needs, stated_needs, told
from services.segmentation.shipped import load_shipped_models
from shared.contracts.scores import Scores
from tests.unit.segmentation.histories import FIRST_DAY, TEXTS, Event, More, applied, event, events

CODES = np.array(sorted([1, 2, 70_000]))


def plainly(history: list[Event], period: int) -> dict[tuple[bytes, int], float]:
    """By customer and category: each line's weight, as far back as a year before the newest line of that category."""
    lines: defaultdict[tuple[bytes, int], Counter[int]] = defaultdict(Counter)
    for customer, kind, at_ms, _, _, more in history:
        if kind == Kind.PURCHASE:
            for category in more.categories:
                lines[customer, category][at_ms // 86_400_000 // 28] += 1
    weigh = {}
    for key, counts in lines.items():
        held = {at: count for at, count in counts.items() if at > max(counts) - 13}
        weigh[key] = sum(count * 0.5 ** (max(period - at, 0) * 28 / HALF_LIFE_DAYS) for at, count in held.items())
    return weigh


def customers(state: CustomerState) -> list[bytes]:
    return [bytes.fromhex(each) for each in hex_from_ids(state.ids[: state.count])]


@given(events(600), st.integers(-1, 40))
def test_lines_count_the_less_the_longer_ago_they_are(history: list[Event], later: int) -> None:
    state, period = applied(history), FIRST_DAY // 28 + later
    found = affinities(state, state.every_row(), CODES, period).toarray()
    expected = plainly(history, period)
    for row, customer in enumerate(customers(state)):
        for column, code in enumerate(CODES.tolist()):
            assert found[row, column] == pytest.approx(expected.get((customer, code), 0.0))


@given(events(300), st.permutations(range(5)))
def test_a_row_weighs_the_same_whoever_is_asked_about_with_it(history: list[Event], order: list[int]) -> None:
    state = applied(history)
    rows = np.array([row for row in order if row < state.count], dtype=np.int64)
    together = affinities(state, state.every_row(), CODES, FIRST_DAY // 28 + 5)
    assert (affinities(state, rows, CODES, FIRST_DAY // 28 + 5).toarray() == together.toarray()[rows]).all()


def bought(customer: int, day: int, *categories: int) -> Event:
    return event(customer, day, lines=len(categories), more=More(categories=categories))


def test_half_a_year_halves() -> None:
    state = applied([bought(1, FIRST_DAY, 1)])
    then, later = (affinities(state, np.array([0]), CODES, FIRST_DAY // 28 + periods).sum() for periods in (0, 45))
    assert then == 1.0
    # 45 periods are seven half-lives.
    assert later == pytest.approx(1 / 128)


def test_nobody_and_nothing_are_no_trouble() -> None:
    nobody = np.zeros(0, dtype=np.int64)
    assert affinities(CustomerState(), nobody, CODES, 600).shape == (0, 3)
    state = applied([event(1, FIRST_DAY)])
    assert affinities(state, state.every_row(), CODES, 600).toarray().tolist() == [[0.0, 0.0, 0.0]]
    assert affinities(state, state.every_row(), nobody, 600).shape == (1, 0)
    assert needs(state, state.every_row(), np.array([FIRST_DAY])) == stated_needs(state, state.every_row(), np.array([FIRST_DAY])) == [()]
    assert commonest(state, 5).tolist() == []


def test_the_commonest_categories_are_those_of_most_customers() -> None:
    state = applied([bought(1, FIRST_DAY, 1, 1, 1, 2), bought(2, FIRST_DAY, 2, 70_000), bought(3, FIRST_DAY, 2, 70_000)])
    assert commonest(state, 2).tolist() == [2, 70_000]
    assert commonest(state, 9).tolist() == [1, 2, 70_000]


def scores_of(state: CustomerState, today: int) -> list[dict[str, Any]]:
    ask = Question(today, load_shipped_models("groceries").shipped, Market())
    return told(state, score(state, state.every_row(), ask), "a model")


def test_others_are_told_the_strongest_categories_stated_needs_and_bonds() -> None:
    day = FIRST_DAY + 200
    state = applied([
        bought(1, FIRST_DAY, 1, 1, 1), bought(1, day, 2, 2), bought(1, day, 70_000),
        event(1, day, Kind.INTERACTION, more=More(name=3, bonds=0b1010)),
        bought(2, day, 2),
    ])  # fmt: skip
    state.need[0] = 4
    one, two = (Scores.model_validate(each, strict=False) for each in scores_of(state, day))
    # Three loaves of half a year ago are one and a half.
    assert one.needs == ("bakery", "dairy", "fish")
    assert (one.need_segment, one.stated_needs, one.bonds) == ("need_4", ("organic",), ("social", "structural"))
    assert (two.need_segment, two.needs, two.stated_needs, two.bonds) == (None, ("bakery",), (), ())


def test_stated_needs_are_the_newest_first_and_forgotten_after_a_year() -> None:
    texts = {code: f"need:{code}" for code in range(100, 108)} | TEXTS
    state = applied([event(1, FIRST_DAY + 7 * week, Kind.INTERACTION, more=More(name=3)) for week in (0, 3)])
    for week, code in enumerate(range(100, 108)):
        state.names[code] = texts[code]
        state.done.add(np.array([0]), np.array([code]), np.array([(FIRST_DAY + 7 * week) // 7]))
    at = np.array([FIRST_DAY + 7 * 8])
    assert stated_needs(state, np.array([0]), at) == [("107", "106", "105", "104", "organic")]
    assert stated_needs(state, np.array([0]), at + 7 * 48) == [("107", "106", "105")]
    assert stated_needs(state, np.array([0]), at + 7 * 60) == [()]


THREE = ("dairy", "bakery", "fish")


def named(state: CustomerState) -> CustomerState:
    """The same purchases under the codes that names really have."""
    again = CustomerState()
    again.find_or_add(state.ids[: state.count])
    keys = state.bought.keys[: state.bought.count]
    codes = np.array([code_of(TEXTS[code]) for code in keys[:, 1].tolist()], dtype=np.uint64)
    again.bought.take_columns(state.bought.columns() | {"keys": np.column_stack([keys[:, 0], codes])})
    return again


@given(events(400), st.permutations(range(3)))
def test_labels_are_those_that_the_model_assigns_in_whatever_order_it_has_its_categories(history: list[Event], order: list[int]) -> None:
    state = named(applied(history))
    model = NeedModel(
        THREE, np.array([1.0, 2.0, 3.0]), np.eye(3)[:, :2], np.array([[1.0, 0.1], [0.2, 0.9]]), (4, 2), ("x", "y"), (0.5, 0.5)
    )
    period = (FIRST_DAY + 400) // BOUGHT.period_days
    in_order = affinities(state, state.every_row(), np.sort([code_of(each) for each in THREE]), period)
    by_code = sorted(range(3), key=lambda at: code_of(THREE[at]))
    expected = assign(in_order, model.with_columns(np.array(by_code))) + 1
    shuffled = model.with_columns(np.array(order))
    assert NeedLabels(shuffled, 1).of(state, state.every_row(), period).tolist() == expected.tolist()
    assert set(expected.tolist()) <= {0, 3, 5}
