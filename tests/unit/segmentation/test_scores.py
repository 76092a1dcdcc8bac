"""What a row's scores say, whatever its history."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.segmentation.domain.models.scoring_model import Market, YearOfLiving
from services.segmentation.domain.scoring import Question, as_contract, score
from services.segmentation.domain.signs import Sign
from services.segmentation.shipped import load_shipped_models
from tests.unit.segmentation.histories import FIRST_DAY, Event, applied, event, events

MODELS = ("groceries", "music")


def told(history: list[Event], model: str = "groceries", today: int = FIRST_DAY + 30) -> list[dict[str, object]]:
    state = applied(history)
    ask = Question(today, load_shipped_models(model).shipped, Market())
    return as_contract(score(state, np.arange(state.count), ask), model)


@pytest.mark.parametrize("model", MODELS)
@given(history=events(300))
def test_every_buyer_has_two_reasons_and_a_prospect_none(model: str, history: list[Event]) -> None:
    for scores in told(history, model):
        assert len(set(scores["reasons"])) == (0 if scores["recency_days"] is None else 2)


def test_the_parts_of_the_risk_are_named_only_where_nothing_plainer_is_there() -> None:
    regular_who_came_today = [event(1, FIRST_DAY + day) for day in range(0, 31, 3)]
    (scores,) = told(regular_who_came_today)
    assert set(scores["reasons"]) == {Sign.BUYS_RARELY, Sign.MAY_HAVE_LEFT}

    (scores,) = told(regular_who_came_today, today=FIRST_DAY + 90)
    assert scores["reasons"] == (Sign.OVERDUE, Sign.LONG_SILENCE)


def test_who_bought_once_today_is_told_so_first() -> None:
    (scores,) = told([event(1, FIRST_DAY)], today=FIRST_DAY)
    assert scores["reasons"] == (Sign.BOUGHT_ONCE, Sign.BUYS_RARELY)


@pytest.mark.parametrize("model", MODELS)
@given(history=events(300))
def test_the_next_purchase_lies_ahead_and_is_foreseen_for_buyers_only(model: str, history: list[Event]) -> None:
    today = FIRST_DAY + 30
    for scores in told(history, model, today):
        expected = scores["next_purchase_on"]
        if scores["recency_days"] is None:
            assert expected is None
        else:
            assert expected is None or date.fromisoformat(str(expected)) > date(1970, 1, 1) + timedelta(days=today)


def test_who_buys_every_third_day_is_expected_sooner_than_who_came_once() -> None:
    (regular,) = told([event(1, FIRST_DAY + day) for day in range(0, 31, 3)])
    (once,) = told([event(1, FIRST_DAY + 30)])
    assert date.fromisoformat(str(regular["next_purchase_on"])) - (date(1970, 1, 1) + timedelta(days=FIRST_DAY + 30)) <= timedelta(days=5)
    assert str(regular["next_purchase_on"]) < str(once["next_purchase_on"])


def test_by_ranks_alone_nobody_says_when_the_next_purchase_comes() -> None:
    state = applied([event(1, FIRST_DAY), event(1, FIRST_DAY + 7)])
    ranks = replace(load_shipped_models("groceries").shipped, risk_by_rank_sum=(0.5,) * 13)
    (scores,) = as_contract(score(state, np.arange(state.count), Question(FIRST_DAY + 30, ranks, Market())), "ranks")
    assert scores["next_purchase_on"] is None


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 3000)), min_size=1, max_size=30), st.integers(0, 3))
def test_a_year_that_is_remembered_is_the_year_that_is_computed(pairs: list[tuple[int, int]], again: int) -> None:
    model = load_shipped_models("groceries").shipped.purchases
    x, days = (np.array(column, dtype=float) for column in zip(*pairs, strict=True))
    year = YearOfLiving(model, 0.1)
    for _ in range(again + 1):
        assert year.purchases(x, days / 7.0) == pytest.approx(year._computed(x, days / 7.0), rel=1e-12)
