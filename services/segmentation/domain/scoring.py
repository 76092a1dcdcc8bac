"""Scores of many customers at once: what they are worth and how likely they are to leave."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from services.segmentation.domain import signs
from services.segmentation.domain.arrays import Bits, Floats, Integers, Mask
from services.segmentation.domain.models.history import DAYS_PER_WEEK
from services.segmentation.domain.models.rfm import CELLS, LOWEST_RANK_SUM
from services.segmentation.domain.models.scoring_model import Market, ScoringModel
from services.segmentation.domain.models.value_curve import CLASSES, NONE
from services.segmentation.domain.state import money
from services.segmentation.domain.state.rows import CustomerState

BANDS = ("none", "safe", "watch", "at_risk", "leaving", "lost")
"""By band number; 0 is for who never bought."""
BAND_FROM = MappingProxyType({"watch": 0.15, "at_risk": 0.35, "leaving": 0.60, "lost": 0.90})
"""The risk from which on a customer belongs to a band."""
_CUTS = np.array(list(BAND_FROM.values()))

CONSUMER = 0
"""In `customer_type`; everything else is a trader."""

_MOST_MINOR = 1e15
_YEAR_DAYS = 365.0


@dataclass(frozen=True, slots=True)
class Question:
    """What scores are asked about: which moment, which horizon, by which model, among whom."""

    today: int
    """Days since the epoch."""
    model: ScoringModel
    market: Market
    horizon_days: int = 90
    discount_per_year: float = 0.1


@dataclass(frozen=True, slots=True)
class ScoreBatch:
    """Scores by column, one place a row; who never bought has `bought` false and zeros."""

    rows: Integers
    bought: Mask
    trader: Mask
    """A retailer or a wholesaler: compared with their like."""
    recency_days: Integers
    age_days: Integers
    """Since the first purchase."""
    day_count: Integers
    monetary_minor: Integers
    year_spend_minor: Integers
    cell: Integers
    value_class: Integers
    buys_again: Floats
    risk: Floats
    band: Integers
    expected_value_minor: Integers
    value_at_risk_minor: Integers
    spend_drop: Floats
    visit_drop: Floats
    strengths: Floats


def score(state: CustomerState, rows: Integers, ask: Question) -> ScoreBatch:
    """Score these rows as of a day. Nothing is cached: scoring a row costs about as much as finding it."""
    bought = state.purchase_count[rows] > 0
    last = np.where(bought, state.last_day[rows], ask.today).astype(np.int64)
    first = np.where(bought, state.first_day[rows], ask.today).astype(np.int64)
    today = np.maximum(last, ask.today)
    days = state.day_count[rows].astype(np.int64)
    x, t_x, age = (np.maximum(days - 1, 0).astype(float), (last - first) / DAYS_PER_WEEK, (today - first) / DAYS_PER_WEEK)

    buckets = year_buckets(state, rows, today)
    year_spend = buckets.sum(axis=1)
    recency = today - last
    monetary = np.rint((state.bought_minor[rows] - state.refunded_minor[rows]) / np.maximum(days, 1)).astype(np.int64)

    model, market, trader = ask.model, ask.market, state.customer_type[rows] != CONSUMER
    alive = model.purchases.alive(x, t_x, age)
    pauses = model.purchases.pauses(x, age, model.horizon_weeks(ask.horizon_days, ask.today))
    if model.ranks_only:
        sums = market.by_kind(trader, lambda crowd, of: crowd.quintiles.rank_sums(recency[of], days[of], year_spend[of]))
        buys_again = (1.0 - np.array(model.risk_by_rank_sum)[sums - LOWEST_RANK_SUM]) * bought
    else:
        buys_again = alive * (1.0 - pauses) * bought
    spend_drop = signs.falling_spend(buckets, first, today) * bought
    visit_drop = signs.fewer_visits(state, rows, today) * bought
    silence = model.purchases.silence(x, t_x, age)
    strengths = bought[:, None] * signs.strengths(
        state,
        rows,
        silence=silence,
        pauses=pauses,
        alive=alive,
        recency=recency,
        spend_drop=spend_drop,
        visit_drop=visit_drop,
        visits=signs.recent_visits(state, rows, today, ask.horizon_days),
        horizon_days=ask.horizon_days,
    )
    risk = model.calibration.risk(1.0 - buys_again, strengths) * bought
    if model.ranks_only:
        # So far so on, by who is likely to go on: a rate known for less than the horizon is taken as that of the horizon.
        pace = days / np.maximum(age * DAYS_PER_WEEK, ask.horizon_days)
        expected = pace * _YEAR_DAYS * np.maximum(monetary, 0) * buys_again
    else:
        known, mean = days.astype(float), monetary.astype(float)
        mean_spend = market.by_kind(trader, lambda crowd, of: model.amounts_in(crowd).mean_spend(known[of], mean[of]))
        expected = model.year_value_minor(x, t_x, age, mean_spend, ask.discount_per_year) * bought
    expected = np.clip(np.nan_to_num(expected), 0.0, _MOST_MINOR)
    return ScoreBatch(
        rows=rows,
        bought=bought,
        trader=trader,
        recency_days=recency,
        age_days=today - first,
        day_count=days,
        monetary_minor=monetary,
        year_spend_minor=year_spend,
        cell=market.by_kind(trader, lambda crowd, of: crowd.quintiles.cells(recency[of], days[of], year_spend[of])) * bought,
        value_class=np.where(bought, market.by_kind(trader, lambda crowd, of: crowd.curve.classes(year_spend[of])), NONE),
        buys_again=buys_again,
        risk=risk,
        band=(np.searchsorted(_CUTS, risk, side="right") + 1) * bought,
        expected_value_minor=np.rint(expected).astype(np.int64),
        value_at_risk_minor=np.rint(expected * risk).astype(np.int64),
        spend_drop=spend_drop,
        visit_drop=visit_drop,
        strengths=strengths,
    )


def year_buckets(state: CustomerState, rows: Integers, today: Integers) -> Integers:
    """Shape (n, 13): net money by 4-week bucket, the running one first."""
    amounts = money.join(state.bucket_low[rows], state.bucket_high[rows])
    return money.by_age(amounts, state.newest_bucket[rows].astype(np.int64), money.bucket_of(today))


def class_a_minor(scores: ScoreBatch, market: Market) -> Integers:
    """By row: what class A begins with among customers of that kind."""
    return np.where(scores.trader, market.traders.curve.class_a_minor, market.consumers.curve.class_a_minor)


def told_signature(scores: ScoreBatch) -> Bits:
    """16 bits that change when a score changes enough to be worth telling: risk by twentieths, class, cell.

    Finer steps would make everybody's every day news: risk grows by a little while nothing happens.
    """
    twentieths = np.rint(scores.risk * 20).astype(np.int64)
    return (twentieths | scores.value_class << 7 | scores.cell << 9).astype(np.uint64)


def as_contract(scores: ScoreBatch, model: str) -> list[dict[str, Any]]:
    """What is told to others: for each row the fields of `shared.contracts.scores.Scores`, ready for JSON."""
    columns = (
        scores.bought, scores.recency_days, scores.day_count, scores.monetary_minor, scores.cell, scores.value_class,
        scores.buys_again, scores.risk, scores.band, scores.expected_value_minor, scores.value_at_risk_minor,
    )  # fmt: skip
    rows = zip(*(column.tolist() for column in columns), signs.two_strongest(scores.strengths), strict=True)
    return [
        {
            "recency_days": recency if bought else None,
            "frequency": max(days - 1, 0),
            "monetary_minor": monetary,
            "rfm_cell": CELLS[cell],
            "value_class": CLASSES[value_class],
            "buys_again": round(buys_again, 6),
            "risk": round(risk, 6),
            "risk_band": BANDS[band],
            "expected_value_minor": expected,
            "value_at_risk_minor": at_risk,
            "reasons": reasons,
            "model": model,
        }
        for bought, recency, days, monetary, cell, value_class, buys_again, risk, band, expected, at_risk, reasons in rows
    ]
