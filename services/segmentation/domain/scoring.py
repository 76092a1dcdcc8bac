"""Scores of many customers at once: what they are worth and how likely they are to leave."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import numpy as np

from services.segmentation.domain import signs
from services.segmentation.domain.arrays import Bits, Floats, Integers, Mask
from services.segmentation.domain.models.bg_nbd import BgNbd
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
_DAYS_OF_DOUBT = 5
"""So many purchase days' usual spend at everybody's margin share are added to a customer's own."""
_YEAR_DAYS = 365.0
_FORESEEN_DAYS = 3650
"""A next purchase further off than that is not named."""
NO_DAY = -1
_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class Question:
    """What scores are asked about: which moment, which horizon, by which model, among whom."""

    today: int
    """Days since the epoch."""
    model: ScoringModel
    market: Market
    horizon_days: int = 90
    discount_per_year: float = 0.1
    margin_share: float | None = None
    """Of all revenue whose cost is known; None where no cost is."""
    by_profit: bool = False
    """Customers are ranked by a year's profit instead of spend, where costs are known."""

    def is_as(self, other: Question | None) -> bool:
        """Are the answers of one process the same? A market is another one after each round, whatever it found."""
        if other is None or self.market is not other.market or self.model is not other.model:
            return False
        return (self.today, self.margin_share) == (other.today, other.margin_share)

    @property
    def ranked_by(self) -> str:
        """What value classes go by: profit only where costs are known."""
        return "profit" if self.by_profit and self.margin_share is not None else "spend"


@dataclass(frozen=True, slots=True)
class Margins:
    """What is left after unit costs."""

    realised_minor: Integers
    """Of the lines whose cost is known."""
    expected_minor: Integers
    """Of the expected value."""


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
    year_worth_minor: Integers
    """What customers are ranked by: that spend, or the profit in it."""
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
    today: Integers
    purchases: BgNbd | None
    """What says when they buy; None where only ranks are known."""
    grounds: Floats
    """How much each sign speaks for the risk."""
    realised_minor: Integers
    """Net spend ever."""
    margins: Margins | None = None
    """None where no cost is known of anything."""

    def next_day(self) -> Integers:
        """When the next purchase is due, in days since the epoch; NO_DAY where none is foreseen. Computed for those who are told of."""
        if self.purchases is None:
            return np.full(len(self.rows), NO_DAY, dtype=np.int64)
        with np.errstate(over="ignore"):
            # A model in which hardly anybody comes again puts the day at infinity.
            weeks = self.purchases.weeks_to_next(np.maximum(self.day_count - 1, 0).astype(float), self.age_days / DAYS_PER_WEEK)
        days = np.ceil(weeks * DAYS_PER_WEEK)
        foreseen = self.bought & (days <= _FORESEEN_DAYS)
        # Today counts once, however often somebody buys: the next purchase day is tomorrow at the earliest.
        return np.where(foreseen, self.today + np.where(foreseen, np.maximum(days, 1.0), 0.0).astype(np.int64), NO_DAY)


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
    shares = margin_shares(state, rows, ask)
    worth = np.rint(year_spend * shares).astype(np.int64) if ask.by_profit and shares is not None else year_spend
    recency = today - last
    monetary = np.rint((state.bought_minor[rows] - state.refunded_minor[rows]) / np.maximum(days, 1)).astype(np.int64)

    model, market, trader = ask.model, ask.market, state.customer_type[rows] != CONSUMER
    alive = model.purchases.alive(x, t_x, age)
    pauses = model.purchases.pauses(x, age, model.horizon_weeks(ask.horizon_days, ask.today))
    if model.ranks_only:
        sums = market.by_kind(trader, lambda crowd, of: crowd.quintiles.rank_sums(recency[of], days[of], worth[of]))
        of_ranks = sums - LOWEST_RANK_SUM
        buys_again = (1.0 - model.ranked_risks(ask.horizon_days)[of_ranks]) * bought
    else:
        buys_again = alive * (1.0 - pauses) * bought
    spend_drop = signs.falling_spend(buckets, first, today) * bought
    visit_drop = signs.fewer_visits(state, rows, today) * bought
    silence = model.purchases.silence(x, t_x, age)
    strengths = bought[:, None] * signs.strengths(
        state,
        rows,
        day=ask.today,
        today=today,
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
        # So far so on, by who is likely to go on: a rate known for less than the ranks' horizon is taken as that of the horizon.
        # What a year is worth does not depend on how far ahead the risk is asked for.
        pace = days / np.maximum(age * DAYS_PER_WEEK, model.ranked_days)
        goes_on = (1.0 - model.ranked_risks(model.ranked_days)[of_ranks]) * bought
        expected = pace * _YEAR_DAYS * np.maximum(monetary, 0) * goes_on
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
        year_worth_minor=worth,
        cell=market.by_kind(trader, lambda crowd, of: crowd.quintiles.cells(recency[of], days[of], worth[of])) * bought,
        value_class=np.where(bought, market.by_kind(trader, lambda crowd, of: crowd.curve.classes(worth[of])), NONE),
        buys_again=buys_again,
        risk=risk,
        band=(np.searchsorted(_CUTS, risk, side="right") + 1) * bought,
        expected_value_minor=np.rint(expected).astype(np.int64),
        value_at_risk_minor=np.rint(expected * risk).astype(np.int64),
        spend_drop=spend_drop,
        visit_drop=visit_drop,
        strengths=strengths,
        today=today,
        purchases=None if model.ranks_only else model.purchases,
        grounds=signs.grounds(strengths, model.calibration),
        realised_minor=state.bought_minor[rows] - state.refunded_minor[rows],
        margins=None if shares is None else Margins(realised_margins(state, rows), np.rint(expected * shares).astype(np.int64)),
    )


def margin_shares(state: CustomerState, rows: Integers, ask: Question) -> Floats | None:
    """What is left of these customers' spend after unit costs: their own share as far as it is known, drawn towards everybody's.

    None where no cost is known of anything.
    """
    if ask.margin_share is None:
        return None
    means = [max(crowd.mean_spend_minor, 1.0) for crowd in (ask.market.consumers, ask.market.traders)]
    usual = _DAYS_OF_DOUBT * np.where(state.customer_type[rows] != CONSUMER, means[1], means[0])
    costs = _costs(state, rows)
    shares: Floats = (realised_margins(state, rows) + ask.margin_share * usual) / (costs[:, 0] + costs[:, 2] + usual)
    return shares


def realised_margins(state: CustomerState, rows: Integers) -> Integers:
    """What was left, of the lines whose cost is known."""
    costs = _costs(state, rows)
    margins: Integers = costs[:, 0] - costs[:, 1] + costs[:, 2] - costs[:, 3]
    return margins


def _costs(state: CustomerState, rows: Integers) -> Integers:
    return state.optional["costs"][rows] if "costs" in state.optional else np.zeros((len(rows), 4), dtype=np.int64)


def margin_share_of(states: Iterable[CustomerState]) -> float | None:
    """The share of all revenue of known cost that is left after it; None where there is none."""
    sums = [each.optional["costs"][: each.count].sum(axis=0, dtype=np.int64) for each in states if "costs" in each.optional]
    revenue = sum(int(each[0] + each[2]) for each in sums)
    return 1.0 - sum(int(each[1] + each[3]) for each in sums) / revenue if revenue else None


@lru_cache(maxsize=1 << 13)
def iso_day(day: int) -> str:
    """A day since the epoch as people write it."""
    return (_EPOCH + timedelta(days=day)).isoformat()


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
    nothing = [None] * len(scores.rows)
    margins = scores.margins
    columns: dict[str, list[Any]] = {
        "recency_days": [
            days if bought else None for days, bought in zip(scores.recency_days.tolist(), scores.bought.tolist(), strict=True)
        ],
        "frequency": np.maximum(scores.day_count - 1, 0).tolist(),
        "monetary_minor": scores.monetary_minor.tolist(),
        "rfm_cell": [CELLS[cell] for cell in scores.cell.tolist()],
        "value_class": [CLASSES[value_class] for value_class in scores.value_class.tolist()],
        "buys_again": [round(chance, 6) for chance in scores.buys_again.tolist()],
        "risk": [round(risk, 6) for risk in scores.risk.tolist()],
        "risk_band": [BANDS[band] for band in scores.band.tolist()],
        "expected_value_minor": scores.expected_value_minor.tolist(),
        "value_at_risk_minor": scores.value_at_risk_minor.tolist(),
        "realised_minor": scores.realised_minor.tolist(),
        "realised_margin_minor": margins.realised_minor.tolist() if margins else nothing,
        "expected_margin_minor": margins.expected_minor.tolist() if margins else nothing,
        "next_purchase_on": [iso_day(day) if day != NO_DAY else None for day in scores.next_day().tolist()],
        "reasons": signs.two_strongest(scores.grounds),
        "model": [model] * len(scores.rows),
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
