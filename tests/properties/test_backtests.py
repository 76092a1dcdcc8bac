"""The scores against what really happened, and the measures against their definitions."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.segmentation.domain.fitting import fit_model, learned, scored, window_before
from services.segmentation.domain.models import measures
from services.segmentation.domain.models.calibration import ENOUGH_OUTCOMES, UNTAUGHT, Calibration, learn_calibration
from services.segmentation.domain.signs import SIGNS
from stack.backtests import Comparison, cdnow, compare, state_of

cases = st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=1, max_size=40)


@lru_cache
def comparison(data: str) -> Comparison:
    return compare(data, with_learned_peers=False)


@pytest.mark.parametrize(
    ("data", "customers", "auc", "brier", "top_decile"),
    [("cdnow", 23_570, 0.830, 0.090, 0.616), ("complete-journey", 2_463, 0.875, 0.103, 0.345)],
)
def test_the_model_alone_reaches_the_published_figures(data: str, customers: int, auc: float, brier: float, top_decile: float) -> None:
    test = comparison(data).plain
    assert test.customers == customers
    assert round(test.auc, 3) >= auc
    assert round(test.brier, 3) <= brier
    assert test.top_decile_value is not None
    assert round(test.top_decile_value, 3) >= top_decile


@pytest.mark.parametrize(("data", "best_learned"), [("cdnow", 0.8396), ("complete-journey", 0.8811)])
def test_learned_signs_are_ahead_of_the_best_published_learner(data: str, best_learned: float) -> None:
    found = comparison(data)
    assert found.taught.auc > best_learned
    assert found.taught.brier < found.plain.brier
    assert found.plain.auc > best_learned - 0.01


@pytest.mark.parametrize("data", ["cdnow", "complete-journey"])
def test_the_model_alone_is_ahead_of_every_rule_of_thumb(data: str) -> None:
    found = comparison(data)
    assert {name: auc for name, (auc, _) in found.peers.items() if auc >= found.plain.auc} == {}
    assert set(found.peers) == {"recency", "RFM rank sum", "hiatus"}


@pytest.mark.parametrize("data", ["cdnow", "complete-journey"])
def test_the_realised_share_of_every_calibrated_band_lies_within_its_bounds(data: str) -> None:
    bands = comparison(data).taught.judged_bands()
    assert sum(band.customers for band in bands) == comparison(data).taught.customers
    assert [band.name for band in bands if not band.holds] == []
    # Where a band has enough customers to tell, not even sampling has to be an excuse.
    for band in bands:
        if band.customers >= 100:
            assert band.risk_from <= band.realised <= band.risk_to
            assert band.realised == pytest.approx(band.forecast, abs=0.08)


def test_a_band_that_does_not_hold_is_said_so() -> None:
    assert [band.name for band in comparison("complete-journey").plain.judged_bands() if not band.holds] == ["lost"]


def test_the_likely_range_of_a_share_is_wilsons() -> None:
    assert measures.likely_range(0.2, 50) == pytest.approx((0.1124, 0.3304), abs=1e-4)
    assert measures.likely_range(0.0, 0) == (0.0, 1.0)
    low, high = measures.likely_range(1.0, 20)
    assert low == pytest.approx(0.8389, abs=1e-4)
    assert high == pytest.approx(1.0)


def test_rows_alone_teach_the_signs_without_the_log() -> None:
    log = cdnow()
    today = int(log.day.max())
    state = state_of(log, today)
    window = window_before(state, today, 84)
    model = fit_model("rows", window.state, window.day)
    taught = learned(model, window.state, window.day, window.outcome, 84)
    assert window.day <= today - 84
    assert len(window.outcome.bought) == window.state.count > 20_000
    assert len(taught.calibration.weights) == len(SIGNS)
    known = scored(window.state, model, window.day, 84)
    assert measures.brier(~window.outcome.bought, taught.calibration.risk(1 - known.buys_again, known.strengths)) < measures.brier(
        ~window.outcome.bought, known.risk
    )


def test_too_few_outcomes_teach_nothing() -> None:
    gone = np.arange(1000) < ENOUGH_OUTCOMES - 1
    assert learn_calibration(np.full(1000, 0.5), np.random.default_rng(1).random((1000, 3)), gone) is UNTAUGHT


def test_true_weights_are_learned_from_outcomes() -> None:
    chance = np.random.default_rng(7)
    true = Calibration(-0.3, 0.8, (1.5, -0.7))
    base, strengths = chance.uniform(0.05, 0.95, 100_000), chance.random((100_000, 2))
    found = learn_calibration(base, strengths, chance.random(100_000) < true.risk(base, strengths))
    assert (found.intercept, found.slope, *found.weights) == pytest.approx((-0.3, 0.8, 1.5, -0.7), abs=0.05)


@given(cases)
def test_auc_is_the_chance_to_be_ranked_above(told: list[tuple[bool, int]]) -> None:
    happened = np.array([each for each, _ in told])
    forecast = np.array([value for _, value in told], dtype=float)
    pairs = [(a > b) + (a == b) / 2 for a in forecast[happened] for b in forecast[~happened]]
    assert measures.auc(happened, forecast) == pytest.approx(sum(pairs) / len(pairs) if pairs else 0.5)


def test_measures_of_nobody_are_defined() -> None:
    nobody, nothing = np.zeros(0, dtype=bool), np.zeros(0)
    assert measures.auc(nobody, nothing) == 0.5
    assert measures.brier(nobody, nothing) == measures.calibration_error(nobody, nothing) == 0.0
    assert measures.total_error(nothing, nothing) == measures.top_decile_share(nothing, nothing) == 0.0


def test_a_forecast_that_is_right_by_group_is_calibrated() -> None:
    forecast = np.repeat([0.2, 0.8], 500)
    happened = np.concatenate([np.arange(500) % 5 == 0, np.arange(500) % 5 != 0])
    assert measures.calibration_error(happened, forecast) == pytest.approx(0.0, abs=1e-9)
    assert measures.calibration_error(happened, 1 - forecast) == pytest.approx(0.6)
