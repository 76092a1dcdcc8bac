"""What a row's scores say, whatever its history."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.segmentation.domain.market import market_of, sample_of
from services.segmentation.domain.models.calibration import Calibration
from services.segmentation.domain.models.scoring_model import Market, YearOfLiving
from services.segmentation.domain.scoring import Question, as_contract, score
from services.segmentation.domain.signs import SIGNS, Sign, grounds, two_strongest
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


OF_THE_MODEL = {Sign.OVERDUE, Sign.LONG_SILENCE, Sign.BOUGHT_ONCE, Sign.BUYS_RARELY, Sign.MAY_HAVE_LEFT}
NEVER_NAMED = {Sign.FEW_VISITS_LATELY}
some = st.one_of(st.just(0.0), st.floats(0.01, 3.0))


def signs_with(values: st.SearchStrategy[float]) -> st.SearchStrategy[tuple[float, ...]]:
    return st.tuples(*[values] * len(SIGNS))


@given(
    slope=some,
    weights=signs_with(st.one_of(some, st.floats(-3.0, -0.01))),
    strengths=signs_with(st.one_of(st.just(0.0), st.floats(0.01, 1.0))),
)
def test_a_reason_is_a_sign_that_raised_the_risk_and_no_other_raised_it_more(
    slope: float, weights: tuple[float, ...], strengths: tuple[float, ...]
) -> None:
    taught = Calibration(0.1, slope, weights)
    (reasons,) = two_strongest(grounds(np.array([strengths]), taught))
    raised = {
        sign: strength * ((slope if sign in OF_THE_MODEL else 0.0) + weight)
        for sign, strength, weight in zip(SIGNS, strengths, weights, strict=True)
        if sign not in NEVER_NAMED
    }
    best = sorted((by for by in raised.values() if by > 0), reverse=True)[:2]
    assert [raised[Sign(reason)] for reason in reasons] == pytest.approx(best)


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


def by_ranks(horizon_days: int, model: str = "groceries") -> list[dict[str, object]]:
    """Thirty customers, the best the one who bought most and last."""
    state = applied([event(who, FIRST_DAY + 5 * day) for who in range(1, 31) for day in range(who)])
    known = load_shipped_models(model)
    ranks = known.best_for(Market())
    ask = Question(FIRST_DAY + 150, ranks, Market(), horizon_days)
    market = market_of([sample_of(score(state, state.every_row(), ask))])
    return as_contract(score(state, state.every_row(), replace(ask, market=market)), ranks.name)


@pytest.mark.parametrize("model", MODELS)
def test_by_ranks_the_risk_is_that_of_the_horizon(model: str) -> None:
    table = load_shipped_models(model).risk_by_rank_sum
    measured = by_ranks(90, model)
    assert len({scores["risk"] for scores in measured}) > 3
    for scores in measured:
        assert min(abs(float(str(scores["risk"])) - risk) for risk in table) < 1e-6
    risks = [[float(str(scores["risk"])) for scores in by_ranks(days, model)] for days in (7, 28, 90, 180, 365)]
    for shorter, longer in pairwise(risks):
        assert all(one > other for one, other in zip(shorter, longer, strict=True))
    twice = [risk**2 for risk in risks[2]]
    assert risks[3] == pytest.approx(twice, abs=1e-5)


def test_by_ranks_what_a_year_is_worth_does_not_depend_on_the_horizon() -> None:
    values = [[scores["expected_value_minor"] for scores in by_ranks(days)] for days in (7, 90, 365)]
    assert values[0] == values[1] == values[2]
    assert max(map(int, map(str, values[0]))) > 0


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 3000)), min_size=1, max_size=30), st.integers(0, 3))
def test_a_year_that_is_remembered_is_the_year_that_is_computed(pairs: list[tuple[int, int]], again: int) -> None:
    model = load_shipped_models("groceries").shipped.purchases
    x, days = (np.array(column, dtype=float) for column in zip(*pairs, strict=True))
    year = YearOfLiving(model, 0.1)
    for _ in range(again + 1):
        assert year.purchases(x, days / 7.0) == pytest.approx(year._computed(x, days / 7.0), rel=1e-12)
