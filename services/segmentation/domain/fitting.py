"""Fits a scoring model to rows, and tests it on what happened after an earlier day that it did not see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from services.segmentation.domain.arrays import Floats, Integers, Mask
from services.segmentation.domain.market import ENOUGH_OF_A_KIND, market_of, sample_of
from services.segmentation.domain.models import measures
from services.segmentation.domain.models.bg_nbd import BgNbd, fit_bg_nbd
from services.segmentation.domain.models.calibration import UNTAUGHT, learn_calibration
from services.segmentation.domain.models.gamma_gamma import GammaGamma, fit_gamma_gamma
from services.segmentation.domain.models.history import DAYS_PER_WEEK
from services.segmentation.domain.models.measures import auc_error
from services.segmentation.domain.models.scoring_model import Market, ScoringModel
from services.segmentation.domain.models.season import NO_SEASON, PERIODS, Season, index_of
from services.segmentation.domain.scoring import BAND_FROM, BANDS, CONSUMER, Question, ScoreBatch, score
from services.segmentation.domain.seasons import learn_season
from services.segmentation.domain.state.days import count_days
from services.segmentation.domain.state.rewind import last_day_of_bucket, rewound
from services.segmentation.domain.state.rows import CustomerState

PENALTY = 1e-4
"""Holds parameters that the data does not fix (few grocers' customers leave for good) without moving those it does."""
ENOUGH_JUDGED = 200
SLACK = 0.002
"""A back-test may be worse by so little: the next one may be better by as much."""
AS_GOOD = 0.0005
"""Of two variants' Brier scores: no more than chance makes them differ."""
MOST_JUDGED = 200_000
"""Customers that back-tests and the learning of signs look at; parameters are fitted to all."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What customers did in the days after a back-test's day; one place a customer."""

    bought: Mask
    purchase_days: Floats
    spend_minor: Floats | None = None
    """None where rows cannot tell."""


@dataclass(frozen=True, slots=True)
class BackTest:
    """How a model's forecasts of an earlier day turned out."""

    from_day: int
    """The forecasts are as of the end of this day (days since the epoch)."""
    horizon_days: int
    customers: int
    gone_share: float
    auc: float
    brier: float
    calibration: float
    """Mean distance of forecast and realised risk over ten groups."""
    total_error: float
    """Forecast purchase days of all customers relative to the actual ones, less 1."""
    top_decile_value: float | None
    """Share of the spend that came from the tenth of customers with the highest forecast."""
    bands: tuple[tuple[int, float, float], ...] = ()
    """By risk band: customers, mean risk, realised share."""

    def judged_bands(self) -> tuple[JudgedBand, ...]:
        """What the bands say, and whether that came true."""
        edges = (0.0, *BAND_FROM.values(), 1.0)
        pairs = zip(BANDS[1:], edges[:-1], edges[1:], self.bands, strict=True)
        return tuple(JudgedBand(name, low, high, *found) for name, low, high, found in pairs)


@dataclass(frozen=True, slots=True)
class JudgedBand:
    """A risk band of a back-test."""

    name: str
    risk_from: float
    risk_to: float
    customers: int
    forecast: float
    realised: float

    @property
    def holds(self) -> bool:
        """Was the share that was really gone within the band's own bounds, as far as so few can tell?"""
        low, high = measures.likely_range(self.realised, self.customers)
        return low <= self.risk_to and high >= self.risk_from


def fit_model(name: str, state: CustomerState, today: int) -> ScoringModel:
    """BG/NBD and gamma-gamma of everybody who bought. Raises ValueError where nobody came back."""
    rows = np.flatnonzero(state.purchase_count[: state.count] > 0)
    days = state.day_count[rows].astype(np.int64)
    if not (days > 1).any():
        raise ValueError("nobody bought on two days yet")
    spend = _in_consumers_money((state.bought_minor[rows] - state.refunded_minor[rows]) / days, state.customer_type[rows] != CONSUMER)
    spenders = (days > 1) & (spend > 0)
    return ScoringModel(name, _fit_purchases(state, rows, today), _fit_amounts(days[spenders].astype(float), spend[spenders]))


def _in_consumers_money(spend: Floats, trader: Mask) -> Floats:
    """Traders' spend by what traders spend, times what consumers do: a kind's level is the crowd's, and only its spread is the model's."""
    if min(int(trader.sum()), int((~trader).sum())) < ENOUGH_OF_A_KIND:
        return spend
    usual = [float(np.maximum(spend[kind], 0).mean()) for kind in (trader, ~trader)]
    return np.where(trader, spend * usual[1] / usual[0], spend) if min(usual) > 0 else spend


def learned(model: ScoringModel, state: CustomerState, from_day: int, outcome: Outcome, horizon_days: int) -> ScoringModel:
    """The model with what signs as of `from_day` have meant for the outcome.

    Where the model knows seasons, that window's own is taken out, in hindsight: otherwise a busy autumn would be taken for what signs mean.
    """
    plain = replace(model, calibration=UNTAUGHT)
    if model.season != NO_SEASON:
        steady = replace(plain, season=NO_SEASON)
        expected, _ = forecast(scored(state, steady, from_day, horizon_days), state, steady, from_day, horizon_days)
        plain = replace(plain, season=Season((index_of(float(outcome.purchase_days.sum()), float(expected.sum())),) * PERIODS))
    scores = scored(state, plain, from_day, horizon_days)
    return replace(model, calibration=learn_calibration(1.0 - scores.buys_again, scores.strengths, ~outcome.bought))


def back_test(model: ScoringModel, state: CustomerState, from_day: int, outcome: Outcome, horizon_days: int) -> BackTest:
    """Score the rows as of `from_day` and compare with the outcome."""
    scores = scored(state, model, from_day, horizon_days)
    gone = ~outcome.bought
    purchases, spend = forecast(scores, state, model, from_day, horizon_days)
    return BackTest(
        from_day,
        horizon_days,
        len(gone),
        float(gone.mean()) if len(gone) else 0.0,
        measures.auc(gone, scores.risk),
        measures.brier(gone, scores.risk),
        measures.calibration_error(gone, scores.risk),
        measures.total_error(outcome.purchase_days, purchases),
        measures.top_decile_share(outcome.spend_minor, spend) if outcome.spend_minor is not None else None,
        tuple(measures.realised_shares(gone, scores.risk, scores.band, len(BANDS))[1:]),
    )


def scored(state: CustomerState, model: ScoringModel, day: int, horizon_days: int) -> ScoreBatch:
    """All rows as of a day, among themselves."""
    rows = state.every_row()
    market = market_of([sample_of(score(state, rows, Question(day, model, Market(), horizon_days)))])
    return score(state, rows, Question(day, model, market, horizon_days))


def forecast(scores: ScoreBatch, state: CustomerState, model: ScoringModel, day: int, horizon_days: int) -> tuple[Floats, Floats]:
    """Expected purchase days and spend of the scored rows within the horizon."""
    x, t_x, age = _history(state, scores.rows, day)
    purchases = model.purchases.expected_purchases(x, t_x, age, model.horizon_weeks(horizon_days, day)) * scores.bought
    return purchases, purchases * model.amounts.mean_spend(scores.day_count.astype(float), scores.monetary_minor.astype(float))


def outcome_after(state: CustomerState, rows: Integers, from_day: int, horizon_days: int) -> Outcome:
    """What rows did in the `horizon_days` after `from_day`, as far as their bitmap holds it."""
    first = np.full(len(rows), from_day + 1, dtype=np.int64)
    days = count_days(state.bitmap[rows], state.last_day[rows].astype(np.int64), first, first + horizon_days)
    return Outcome(days > 0, days.astype(np.float64))


@dataclass(frozen=True, slots=True)
class Candidate:
    """A fit, and whether it should be used."""

    model: ScoringModel
    customers: int
    back_test: BackTest
    """Of the same procedure, on the newest window whose outcome is known, without having seen that."""
    back_test_of_current: BackTest
    accepted: bool
    why: str


def candidate(name: str, state: CustomerState, today: int, horizon_days: int, current: ScoringModel) -> Candidate:
    """Fit to all rows as of `today`; accepted where the same procedure, one window earlier, did no worse than the current model.

    Raises ValueError where the rows tell too little.
    """
    judged = window_before(state, today, horizon_days)
    if len(judged.outcome.bought) < ENOUGH_JUDGED:
        raise ValueError(f"{len(judged.outcome.bought)} customers bought before day {judged.day}; a back-test needs {ENOUGH_JUDGED}")
    variants = _variants(name, state, judged)
    tests = [back_test(each, judged.state, judged.day, judged.outcome, horizon_days) for each in (*variants, current)]
    best = _best_of(tests[: len(variants)])
    chosen, of_current = tests[best], tests[-1]
    # With few who left, ranks differ by chance: that much is no reason to refuse.
    no_worse = chosen.brier <= of_current.brier + SLACK and chosen.auc >= of_current.auc - SLACK - auc_error(
        of_current.auc, ~judged.outcome.bought
    )
    why = f"Brier {chosen.brier:.4f}, in use {of_current.brier:.4f}; AUC {chosen.auc:.4f}, in use {of_current.auc:.4f}"
    final = _completed(fit_model(name, state, today), variants[best], state, today, judged)
    return Candidate(final, int((state.purchase_count[: state.count] > 0).sum()), chosen, of_current, no_worse, why)


def _best_of(tests: Sequence[BackTest]) -> int:
    """The place of the best: of those whose risks are about as good as the best ones, the one that comes nearest to what was bought in all.

    Signs correct the level of the risk, so it is mostly there that a season shows. Of equally good ones the first, which is the simplest.
    """
    least = min(test.brier for test in tests)
    good = [place for place, test in enumerate(tests) if test.brier <= least + AS_GOOD]
    return min(good, key=lambda place: (round(abs(tests[place].total_error), 2), tests[place].brier))


def _variants(name: str, state: CustomerState, judged: Window) -> list[ScoringModel]:
    """What could be fitted on the eve of a window, the simplest first: alone, with signs, with the season, with both."""
    plain = fit_model(name, judged.state, judged.day)
    season = learn_season(state, _sample(state), plain, judged.day, judged.horizon_days)
    bases = [plain, replace(plain, season=season)] if season != NO_SEASON else [plain]
    earlier = window_before(state, judged.day, judged.horizon_days)
    return [model for base in bases for model in (base, learned(base, earlier.state, earlier.day, earlier.outcome, earlier.horizon_days))]


def _completed(plain: ScoringModel, chosen: ScoringModel, state: CustomerState, today: int, judged: Window) -> ScoringModel:
    """A fit to all that is known today, with the parts that were chosen, learned anew."""
    final = plain
    if chosen.season != NO_SEASON:
        final = replace(final, season=learn_season(state, _sample(state), plain, today, judged.horizon_days))
    if chosen.calibration != UNTAUGHT:
        # By the parameters of the window's eve: those of today have seen its outcome.
        eve = learned(replace(chosen, season=final.season), judged.state, judged.day, judged.outcome, judged.horizon_days)
        final = replace(final, calibration=eve.calibration)
    return final


@dataclass(frozen=True, slots=True)
class Window:
    """An earlier day, rows as they were then, and what came after."""

    day: int
    state: CustomerState
    outcome: Outcome
    horizon_days: int


def window_before(state: CustomerState, today: int, horizon_days: int) -> Window:
    """The newest window whose outcome is complete by the end of `today`; of at most MOST_JUDGED customers."""
    day = last_day_of_bucket(today - horizon_days)
    before, rows = rewound(state, _sample(state), day)
    return Window(day, before, outcome_after(state, rows, day, horizon_days), horizon_days)


def _sample(state: CustomerState) -> Integers:
    every = state.every_row()
    return every if len(every) <= MOST_JUDGED else every[:: len(every) // MOST_JUDGED + 1]


def _fit_purchases(state: CustomerState, rows: Integers, today: int) -> BgNbd:
    x, t_x, age = _history(state, rows, today)
    return fit_bg_nbd(x, t_x, age, PENALTY)


def _fit_amounts(days: Floats, spend: Floats) -> GammaGamma:
    if len(days) > MOST_JUDGED:
        every = len(days) // MOST_JUDGED + 1
        days, spend = days[::every], spend[::every]
    return fit_gamma_gamma(days, spend)


def _history(state: CustomerState, rows: Integers, day: int) -> tuple[Floats, Floats, Floats]:
    bought = state.purchase_count[rows] > 0
    first = np.where(bought, state.first_day[rows], day).astype(np.int64)
    last = np.where(bought, state.last_day[rows], day).astype(np.int64)
    x = np.maximum(state.day_count[rows].astype(np.int64) - 1, 0).astype(float)
    return x, (last - first) / DAYS_PER_WEEK, (np.maximum(last, day) - first) / DAYS_PER_WEEK
