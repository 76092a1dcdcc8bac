"""Looks at all customers at once, slice by slice: where the quintiles, the value classes and the usual spend lie today."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from services.segmentation.domain.arrays import Integers
from services.segmentation.domain.models.rfm import Quintiles
from services.segmentation.domain.models.scoring_model import Market
from services.segmentation.domain.models.value_curve import ValueCurve
from services.segmentation.domain.scoring import ScoreBatch


@dataclass(frozen=True, slots=True)
class Sample:
    """What the market needs to know of some buyers."""

    recency_days: Integers
    day_count: Integers
    year_spend_minor: Integers
    day_spend_minor: Integers
    longest_days: int = 0
    """Since the first purchase of all."""

    @staticmethod
    def of(scores: ScoreBatch) -> Sample:
        """The buyers among scored rows."""
        who = scores.bought
        longest = int(scores.age_days[who].max(initial=0))
        return Sample(scores.recency_days[who], scores.day_count[who], scores.year_spend_minor[who], scores.monetary_minor[who], longest)


def market_of(samples: Iterable[Sample]) -> Market:
    """The market of all buyers in the samples."""
    samples = list(samples)
    columns = [(s.recency_days, s.day_count, s.year_spend_minor, s.day_spend_minor) for s in samples]
    if not sum(len(column[0]) for column in columns):
        return Market()
    recency, days, year, day_spend = (np.concatenate(parts) for parts in zip(*columns, strict=True))
    usual = float(np.maximum(day_spend, 0).mean())
    return Market(Quintiles.of(recency, days, year), ValueCurve.of(year), usual, len(recency), max(s.longest_days for s in samples))
