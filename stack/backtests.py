"""Back-tests of the scoring models on the shipped data: fit to the past, forecast the next weeks, compare with what happened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType
from typing import Any

import numpy as np

from services.segmentation.domain.arrays import Floats, Integers
from services.segmentation.domain.events import DAY_MS, EventBatch, Kind
from services.segmentation.domain.fitting import BackTest, Outcome, back_test, fit_model, learned, scored
from services.segmentation.domain.models import measures
from services.segmentation.domain.models.history import histories
from services.segmentation.domain.models.scoring_model import ScoringModel
from services.segmentation.domain.scoring import ScoreBatch
from services.segmentation.domain.state import CustomerState, apply_events
from stack.datasets import load_basket_totals, load_cdnow
from stack.peers import Features, Forecaster, fitted_peers, learned_peers, simple_peers

EPOCH = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class PurchaseLog:
    """Purchases by column: who, on which day since the epoch, for how much in minor units."""

    customer: Integers
    day: Integers
    amount_minor: Integers


@dataclass(frozen=True, slots=True)
class Setting:
    """Which data, from which day, how far ahead."""

    load: Callable[[], PurchaseLog]
    from_date: date
    horizon_days: int
    about: str


def cdnow() -> PurchaseLog:
    """All purchases of CDNOW's first customers, 1997-01 to 1998-06."""
    rows = np.array([(row.customer_id, (row.day - EPOCH).days, row.amount_minor) for row in load_cdnow()])
    return PurchaseLog(rows[:, 0], rows[:, 1], rows[:, 2])


def complete_journey() -> PurchaseLog:
    """All baskets of the Complete Journey's 2,469 households, 2017."""
    totals = load_basket_totals()
    return PurchaseLog(totals.household, totals.at_seconds // 86_400, totals.amount_minor)


SETTINGS = MappingProxyType({
    "cdnow": Setting(cdnow, date(1998, 3, 31), 91, "CDNOW, all 23,570 customers"),
    "complete-journey": Setting(complete_journey, date(2017, 12, 2), 28, "Complete Journey, all households with history"),
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class PeerTest:
    """How a peer's forecasts turned out; None where it has no such forecast."""

    auc: float
    brier: float | None
    calibration: float | None
    total_error: float | None
    top_decile_value: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """One data set, our two ways, and the peers'."""

    about: str
    plain: BackTest
    """Without outcomes: the model alone."""
    taught: BackTest
    """With sign weights learned from the window before."""
    peers: dict[str, PeerTest]
    model: ScoringModel


def state_of(log: PurchaseLog, until: int) -> CustomerState:
    """Rows of all purchases up to and including a day."""
    seen = log.day <= until
    customer, day, amount = log.customer[seen], log.day[seen], log.amount_minor[seen]
    ids = np.stack([np.zeros_like(customer), customer], axis=1).astype(np.uint64)
    state = CustomerState()
    one = np.ones(len(day), dtype=np.int64)
    apply_events(state, EventBatch(ids, np.full(len(day), Kind.PURCHASE, dtype=np.int64), day * DAY_MS, amount, one))
    return state


def outcome_of(log: PurchaseLog, state: CustomerState, from_day: int, horizon_days: int) -> Outcome:
    """What the customers of a state did in the days after."""
    customers = state.ids[: state.count, 1].astype(np.int64)
    place = np.full(int(log.customer.max()) + 1, -1)
    place[customers] = np.arange(len(customers))
    within = (log.day > from_day) & (log.day <= from_day + horizon_days) & (place[log.customer] >= 0)
    who = place[log.customer[within]]
    spend: Floats = np.bincount(who, weights=log.amount_minor[within], minlength=len(customers)).astype(np.float64)
    days = np.unique(who * 100_000 + log.day[within]) // 100_000
    counts = np.bincount(days, minlength=len(customers)).astype(np.float64)
    return Outcome(counts > 0, counts, spend)


def compare(data: str, with_learned_peers: bool = True) -> Comparison:
    """Back-test ours and the peers on one data set. What is learned is learned from the window before: nothing is seen ahead."""
    setting = SETTINGS[data]
    log, horizon = setting.load(), setting.horizon_days
    from_day = (setting.from_date - EPOCH).days
    before, now = state_of(log, from_day - horizon), state_of(log, from_day)
    taught_by, outcome = outcome_of(log, before, from_day - horizon, horizon), outcome_of(log, now, from_day, horizon)
    plain = fit_model(data, now, from_day)
    earlier = learned(fit_model(data, before, from_day - horizon), before, from_day - horizon, taught_by, horizon)
    taught = ScoringModel(data, plain.purchases, plain.amounts, earlier.calibration)
    past, present = scored(before, plain, from_day - horizon, horizon), scored(now, plain, from_day, horizon)
    features, forecasters = _features(log, now, present, from_day), simple_peers(horizon)
    if with_learned_peers:
        forecasters |= fitted_peers(features, horizon)
        forecasters |= learned_peers(_features(log, before, past, from_day - horizon), ~taught_by.bought, horizon)
    return Comparison(
        setting.about,
        back_test(plain, now, from_day, outcome, horizon),
        back_test(taught, now, from_day, outcome, horizon),
        {name: _judged(peer, features, outcome) for name, peer in forecasters.items()},
        taught,
    )


def as_json(test: BackTest) -> dict[str, Any]:
    """A back-test for a program."""
    bands = [
        {
            "band": each.name, "from": each.risk_from, "to": each.risk_to, "customers": each.customers,
            "forecast": round(each.forecast, 4), "realised": round(each.realised, 4), "holds": each.holds,
        }
        for each in test.judged_bands()
    ]  # fmt: skip
    names = ("customers", "horizon_days", "gone_share", "auc", "brier", "calibration", "total_error", "top_decile_value")
    return {name: getattr(test, name) for name in names} | {"bands": bands}


def _features(log: PurchaseLog, state: CustomerState, scores: ScoreBatch, day: int) -> Features:
    net = np.maximum(scores.monetary_minor, 0).astype(float)
    age = scores.recency_days + (state.last_day[scores.rows] - state.first_day[scores.rows])
    # By ascending customer, as `histories` answers.
    place = np.empty(state.count, dtype=np.int64)
    place[np.argsort(state.ids[: state.count, 1])] = np.arange(state.count)
    return {
        "recency": scores.recency_days.astype(float),
        "frequency": scores.day_count.astype(float),
        "monetary": net * scores.day_count,
        "mean_spend": net,
        "repeat_mean_spend": histories(log.customer, log.day, log.amount_minor, day).repeat_mean[place][scores.rows],
        "age": age.astype(float),
    }


def _judged(peer: Forecaster, features: Features, outcome: Outcome) -> PeerTest:
    gone, risk = ~outcome.bought, peer.risk(features)
    return PeerTest(
        measures.auc(gone, risk),
        measures.brier(gone, risk) if peer.is_probability else None,
        measures.calibration_error(gone, risk) if peer.is_probability else None,
        measures.total_error(outcome.purchase_days, peer.purchases(features)) if peer.purchases else None,
        measures.top_decile_share(outcome.spend_minor, peer.value(features)) if peer.value and outcome.spend_minor is not None else None,
    )
