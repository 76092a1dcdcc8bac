"""Ours against scikit-learn, `lifetimes` and fifty digits of mpmath, in one run."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any

import numpy as np
import pytest

from services.segmentation.domain.arrays import Floats
from services.segmentation.domain.models.bg_nbd import BgNbd, fit_bg_nbd
from services.segmentation.domain.models.history import Histories
from stack.backtests import Comparison, compare
from tests.unit.segmentation.test_models import sample

if not os.environ.get("CI"):
    pytest.importorskip("sklearn", reason="make peers")

PARAMETERS = [
    (0.2426, 4.4135, 0.7929, 2.4258),
    (1.41, 1.379, 0.069, 68.64),
    (0.5, 10.0, 1.0000001, 1.5),
    (2.0, 5.0, 3.0, 0.5),
    (0.05, 0.7, 0.2, 9.0),
    (9.0, 60.0, 1.7, 3.0),
]
HISTORIES = [(0.0, 0.0, 38.9), (1.0, 2.0, 30.0), (2.0, 30.4, 38.9), (26.0, 38.0, 39.0), (300.0, 150.0, 151.0), (5.0, 4.0, 70.0)]
HORIZONS = (1.0, 13.0, 39.0, 52.0)
LEARNED = ("logistic, 5 log RFM features", "boosted trees on R, F, M")


@lru_cache
def comparison(data: str) -> Comparison:
    return compare(data)


@pytest.mark.parametrize("data", ["cdnow", "complete-journey"])
def test_learned_signs_are_ahead_of_learned_peers_and_the_model_alone_is_near_them(data: str) -> None:
    found = comparison(data)
    best = max(found.peers[name][0] for name in LEARNED)
    assert found.taught.auc > best
    assert found.plain.auc > best - 0.01
    assert found.taught.brier < min(error for name in LEARNED if (error := found.peers[name][1]) is not None)


def textbook(digits: Any, model: tuple[float, ...], history: tuple[float, float, float], weeks: float) -> tuple[float, float, float]:
    """P(alive), P(a purchase within the weeks) and E[purchases] in the form of Fader, Hardie and Lee, with fifty digits."""
    r, alpha, a, b = (digits.mpf(value) for value in model)
    x, t_x, age = (digits.mpf(value) for value in history)
    gone = a / (b + x - 1) * ((alpha + age) / (alpha + t_x)) ** (r + x) if x > 0 else digits.mpf(0)
    alive = 1 / (1 + gone)
    active = alive * (1 - ((alpha + age) / (alpha + age + weeks)) ** (r + x))
    z = weeks / (alpha + age + weeks)
    series = digits.hyp2f1(r + x, b + x, a + b + x - 1, z)
    shrink = ((alpha + age) / (alpha + age + weeks)) ** (r + x)
    expected = (a + b + x - 1) / (a - 1) * (1 - shrink * series) * alive
    return float(alive), float(active), float(expected)


@pytest.mark.parametrize("model", PARAMETERS)
def test_forecasts_agree_with_fifty_digits(model: tuple[float, ...]) -> None:
    mpmath = pytest.importorskip("mpmath")
    with mpmath.workdps(50):
        for history in HISTORIES:
            for weeks in HORIZONS:
                x, t_x, age = (np.array([value]) for value in history)
                ours = BgNbd(*model)
                found = (
                    ours.alive(x, t_x, age)[0],
                    ours.buys_within(x, t_x, age, weeks)[0],
                    ours.expected_purchases(x, t_x, age, weeks)[0],
                )
                assert found == pytest.approx(textbook(mpmath, model, history, weeks), rel=1e-6)


def test_forecasts_and_parameters_are_those_of_lifetimes() -> None:
    lifetimes: Any = pytest.importorskip("lifetimes")
    of = sample()
    theirs = lifetimes.BetaGeoFitter()
    theirs.fit(of.x, of.t_x, of.age)
    fitted, ours = BgNbd(**{name: float(value) for name, value in theirs.params_.items()}), fit_bg_nbd(of.x, of.t_x, of.age)
    assert (ours.r, ours.alpha, ours.a, ours.b) == pytest.approx((fitted.r, fitted.alpha, fitted.a, fitted.b), rel=1e-3)
    assert fitted.alive(of.x, of.t_x, of.age) == pytest.approx(theirs.conditional_probability_alive(of.x, of.t_x, of.age), rel=1e-6)
    purchases: Floats = theirs.conditional_expected_number_of_purchases_up_to_time(39.0, of.x, of.t_x, of.age)
    assert fitted.expected_purchases(of.x, of.t_x, of.age, 39.0) == pytest.approx(np.asarray(purchases), rel=1e-6)


def test_no_input_crashes_a_forecast() -> None:
    odd = np.array([0.0, 1.0, -1.0, 1e20, 1e300, np.inf, -np.inf, np.nan, 5e-324])
    x, t_x, age = (grid.reshape(-1) for grid in np.meshgrid(odd, odd, odd))
    of = Histories(x, t_x, age, np.zeros_like(x))
    with np.errstate(all="ignore"):
        for parameters in PARAMETERS:
            for weeks in (13.0, np.inf, np.nan, -1.0):
                model = BgNbd(*parameters)
                for found in (model.alive(of.x, of.t_x, of.age), model.expected_purchases(of.x, of.t_x, of.age, weeks)):
                    assert found.shape == x.shape
