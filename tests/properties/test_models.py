"""The models against what is published about them, and against their own textbook forms."""

from __future__ import annotations

from datetime import date
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from scipy.special import hyp2f1
from scipy.stats import rankdata

from services.segmentation.domain.arrays import Floats, Integers, Mask
from services.segmentation.domain.models.bg_nbd import BgNbd, fit_bg_nbd
from services.segmentation.domain.models.gamma_gamma import GammaGamma, fit_gamma_gamma
from services.segmentation.domain.models.history import Histories, histories
from services.segmentation.domain.models.rfm import CELLS, Quintiles
from services.segmentation.domain.models.scoring_model import ScoringModel
from services.segmentation.domain.models.spread import Spread
from services.segmentation.domain.models.value_curve import CLASSES, ValueCurve
from services.segmentation.shipped import load_shipped_models
from stack.datasets import load_basket_totals, load_cdnow

EPOCH = date(1970, 1, 1)
PUBLISHED = BgNbd(r=0.2426, alpha=4.4135, a=0.7929, b=2.4258)


@lru_cache
def cdnow() -> tuple[Integers, Integers, Integers]:
    rows = np.array([(row.customer_id, (row.day - EPOCH).days, row.amount_minor) for row in load_cdnow()])
    return rows[:, 0], rows[:, 1], rows[:, 2]


def sample() -> Histories:
    """The tenth of CDNOW that the papers use, 39 weeks of it, in dollars."""
    ids = np.cumsum(np.load(Path(__file__).parent / "cdnow_sample.npz")["customer_delta"].astype(np.int64))
    customer, day, amount = cdnow()
    chosen = np.isin(customer, ids)
    summary = histories(customer[chosen], day[chosen], amount[chosen], (date(1997, 9, 30) - EPOCH).days)
    return Histories(summary.x, summary.t_x, summary.age, summary.repeat_mean / 100)


def test_bg_nbd_fits_the_published_parameters() -> None:
    summary = sample()
    fitted = fit_bg_nbd(summary.x, summary.t_x, summary.age)
    assert len(summary.x) == 2357
    assert (fitted.r, fitted.alpha, fitted.a, fitted.b) == pytest.approx((0.2426, 4.4135, 0.7929, 2.4258), rel=1e-4)
    assert fitted.log_likelihood(summary.x, summary.t_x, summary.age).sum() == pytest.approx(-9582.43, abs=0.005)


def test_gamma_gamma_fits_the_published_parameters() -> None:
    summary = sample()
    spenders = (summary.x > 0) & (summary.repeat_mean > 0)
    fitted = fit_gamma_gamma(summary.x[spenders], summary.repeat_mean[spenders])
    assert spenders.sum() == 946
    assert (fitted.p, fitted.q, fitted.v) == pytest.approx((6.249, 3.745, 15.448), rel=5e-4)
    assert fitted.population_mean == pytest.approx(35.17, abs=0.005)


def test_a_new_customer_is_expected_to_buy_as_published() -> None:
    zero = np.zeros(1)
    expected = [PUBLISHED.expected_purchases(zero, zero, zero, weeks)[0] for weeks in (39.0, 52.0, 78.0)]
    assert expected == pytest.approx([1.1950, 1.4440, 1.8580], abs=2e-4)


def test_expected_purchases_are_those_of_the_textbook_form() -> None:
    x, t_x, age = (np.array(values) for values in ([0.0, 1, 2, 7, 26], [0.0, 3, 30, 35, 38], [5.0, 30, 38, 39, 39]))
    m, weeks = PUBLISHED, 39.0
    z = weeks / (m.alpha + age + weeks)
    series = hyp2f1(m.r + x, m.b + x, m.a + m.b + x - 1, z)
    shrink = ((m.alpha + age) / (m.alpha + age + weeks)) ** (m.r + x)
    gone = np.where(x > 0, m.a / (m.b + np.maximum(x, 1) - 1) * ((m.alpha + age) / (m.alpha + t_x)) ** (m.r + x), 0)
    textbook = (m.a + m.b + x - 1) / (m.a - 1) * (1 - shrink * series) / (1 + gone)
    assert m.expected_purchases(x, t_x, age, weeks) == pytest.approx(textbook, rel=1e-10)


def test_buying_within_a_horizon_has_the_frequency_that_simulation_shows() -> None:
    chance = np.random.default_rng(3)
    count, age, horizon = 60_000, 30.0, 13.0
    rate = chance.gamma(PUBLISHED.r, 1 / PUBLISHED.alpha, count)
    leaves = chance.beta(PUBLISHED.a, PUBLISHED.b, count)
    x, t_x, returned = _simulate(chance, rate, leaves, age, horizon)
    promised = PUBLISHED.buys_within(x, t_x, np.full(count, age), horizon)
    assert promised.mean() == pytest.approx(returned.mean(), abs=0.004)
    for low, high in ((0.0, 0.05), (0.05, 0.3), (0.3, 1.0)):
        group = (promised >= low) & (promised < high)
        assert promised[group].mean() == pytest.approx(returned[group].mean(), abs=0.02)


def _simulate(chance: np.random.Generator, rate: Floats, leaves: Floats, age: float, horizon: float) -> tuple[Floats, Floats, Mask]:
    count = len(rate)
    now, x, t_x = np.zeros(count), np.zeros(count), np.zeros(count)
    alive, returned = np.ones(count, dtype=bool), np.zeros(count, dtype=bool)
    while alive.any():
        now = now + chance.exponential(1 / rate)
        before, after = alive & (now <= age), alive & (now > age)
        returned |= after & (now <= age + horizon)
        x[before] += 1
        t_x[before] = now[before]
        alive = before & (chance.random(count) >= leaves)
    return x, t_x, returned


def test_no_history_kills_the_process_or_leaves_zero_to_one() -> None:
    with np.errstate(all="ignore"):
        odd = np.array([0.0, 1.0, 50_000.0, np.nan, np.inf, 1e300])
        x, t_x, age = (grid.ravel() for grid in np.meshgrid(odd, odd, odd))
        for model in (PUBLISHED, BgNbd(1.4, 1.4, 0.069, 68.6), BgNbd(0.2, 4.0, 1.0, 2.4)):
            expected = model.expected_purchases(x, t_x, age, 39.0)
            assert ((expected >= -1e-9) | np.isnan(expected)).all()
            sane = (x < 1e6) & (t_x <= age) & (age < 1e6)
            assert ((model.alive(x, t_x, age)[sane] >= 0) & (model.alive(x, t_x, age)[sane] <= 1)).all()
            assert np.isfinite(expected[sane]).all()


def test_the_year_from_four_quarters_is_the_year_from_twelve_months() -> None:
    summary = sample()
    model = ScoringModel("test", PUBLISHED, GammaGamma(6.249, 3.745, 1544.8))
    mean = model.amounts.mean_spend(summary.x, summary.repeat_mean * 100)
    quarters = model.year_value_minor(summary.x, summary.t_x, summary.age, mean, 0.1)
    months, before = np.zeros_like(mean), np.zeros_like(mean)
    for month in range(1, 13):
        until = PUBLISHED.expected_purchases(summary.x, summary.t_x, summary.age, month * 52 / 12)
        months += (until - before) / 1.1 ** (month / 12) * mean
        before = until
    assert np.abs(quarters / months - 1).max() < 1e-3


@pytest.mark.parametrize(
    ("data", "until", "days", "least_auc", "most_brier"),
    [("cdnow", date(1998, 3, 31), 91, 0.830, 0.0900), ("complete-journey", date(2017, 12, 2), 28, 0.875, 0.1030)],
)
def test_the_risk_ranks_and_hits_as_well_as_it_should(data: str, until: date, days: int, least_auc: float, most_brier: float) -> None:
    customer, day, amount = cdnow() if data == "cdnow" else _journey()
    end = (until - EPOCH).days
    summary = histories(customer, day, amount, end)
    model = load_shipped_models("music" if data == "cdnow" else "groceries").shipped.purchases
    promised = model.buys_within(summary.x, summary.t_x, summary.age, days / 7)
    known = np.unique(customer[day <= end])
    came = np.isin(known, customer[(day > end) & (day <= end + days)])
    assert round(_auc(promised, came), 3) >= least_auc
    assert round(float(((promised - came) ** 2).mean()), 3) <= most_brier


def _journey() -> tuple[Integers, Integers, Integers]:
    totals = load_basket_totals()
    return totals.household, totals.at_seconds // 86_400, totals.amount_minor


def _auc(promised: Floats, came: Mask) -> float:
    positive, negative = came.sum(), (~came).sum()
    return float((rankdata(promised)[came].sum() - positive * (positive + 1) / 2) / (positive * negative))


def exactly(values: Integers) -> Spread:
    return Spread.of_ascending(np.sort(values))


def test_quintiles_part_buyers_into_fifths_and_every_cell_can_be_reached() -> None:
    grid = np.array(np.meshgrid(np.arange(25), np.arange(25), np.arange(25))).reshape(3, -1)
    quintiles = Quintiles.of(*(exactly(column) for column in grid))
    cells = quintiles.cells(*grid)
    assert {CELLS[cell] for cell in np.unique(cells)} == set(CELLS) - {"none"}
    best = quintiles.cells(np.array([0]), np.array([24]), np.array([24]))
    assert CELLS[best[0]] == "champions"
    assert quintiles.recency_days.tolist() == [4, 9, 14, 19]


def test_value_classes_are_those_who_bring_eighty_and_fifteen_per_cent() -> None:
    spend = np.array([5000, 3000, 700, 500, 300, 200, 100, 100, 100, -50])
    curve = ValueCurve.of(exactly(spend))
    assert [CLASSES[each] for each in curve.classes(spend)] == ["A", "A", "B", "B", "B", "C", "C", "C", "C", "C"]
    assert curve.customer_share[-1] == curve.spend_share[-1] == 1.0
    assert curve.spend_share[curve.customer_share.index(0.2)] == pytest.approx(0.8)
