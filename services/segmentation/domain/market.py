"""Looks at all customers at once, slice by slice: where the quintiles, the value classes and the usual spend of each kind lie today."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from services.segmentation.domain.arrays import Integers, Mask
from services.segmentation.domain.models.rfm import Quintiles
from services.segmentation.domain.models.scoring_model import NO_CROWD, Crowd, Market
from services.segmentation.domain.models.spread import NO_ONE, Spread, sorted_runs
from services.segmentation.domain.models.value_curve import ValueCurve
from services.segmentation.domain.scoring import ScoreBatch

ENOUGH_OF_A_KIND = 100
"""Fewer consumers, or fewer traders, than this have no fifths of their own: they are judged among all buyers together."""


@dataclass(frozen=True, slots=True)
class Buyers:
    """What the market needs to know of the buyers of one kind."""

    recency_days: Spread = NO_ONE
    purchase_days: Spread = NO_ONE
    year_spend: Spread = NO_ONE
    """Of what customers are ranked by: a year's spend, or profit."""
    day_spend_minor: int = 0
    """The sum over buyers of what a purchase day brings."""
    longest_days: int = 0
    """Since the first purchase of all."""

    @staticmethod
    def together(parts: Sequence[Buyers]) -> Buyers:
        """Of all parts."""
        return Buyers(
            Spread.together([part.recency_days for part in parts]),
            Spread.together([part.purchase_days for part in parts]),
            Spread.together([part.year_spend for part in parts]),
            sum(part.day_spend_minor for part in parts),
            max((part.longest_days for part in parts), default=0),
        )

    def thinned(self) -> Buyers:
        """The same in few bins."""
        thin = (self.recency_days.thinned(), self.purchase_days.thinned(), self.year_spend.thinned())
        return Buyers(*thin, self.day_spend_minor, self.longest_days)

    @property
    def count(self) -> int:
        """How many they are."""
        return self.recency_days.size


NOBODY = Buyers()


@dataclass(frozen=True, slots=True)
class Sample:
    """The buyers of some rows, by kind."""

    consumers: Buyers = NOBODY
    traders: Buyers = NOBODY

    def thinned(self) -> Sample:
        """In few bins: what is sent to others."""
        return Sample(self.consumers.thinned(), self.traders.thinned())


@dataclass(slots=True)
class _Runs:
    """Columns of one kind, slice by slice."""

    recency_days: list[Integers] = field(default_factory=list)
    purchase_days: list[Integers] = field(default_factory=list)
    year_spend: list[Integers] = field(default_factory=list)
    day_spend_minor: int = 0
    longest_days: int = 0

    def add(self, scores: ScoreBatch, who: Mask) -> None:
        self.recency_days.append(scores.recency_days[who])
        self.purchase_days.append(scores.day_count[who])
        self.year_spend.append(np.sort(scores.year_worth_minor[who]))
        self.day_spend_minor += int(np.maximum(scores.monetary_minor[who], 0).sum())
        self.longest_days = max(self.longest_days, int(scores.age_days[who].max(initial=0)))

    def buyers(self) -> Buyers:
        if not self.year_spend:
            return NOBODY
        recency, days = (Spread.of_counts(np.bincount(np.concatenate(runs))) for runs in (self.recency_days, self.purchase_days))
        return Buyers(recency, days, Spread.of_ascending(sorted_runs(self.year_spend)), self.day_spend_minor, self.longest_days)


@dataclass(slots=True)
class Gathering:
    """Takes in scored rows slice by slice; `sample` says how they are spread, exactly."""

    _consumers: _Runs = field(default_factory=_Runs)
    _traders: _Runs = field(default_factory=_Runs)

    def add(self, scores: ScoreBatch) -> None:
        """The buyers among scored rows."""
        traders = scores.bought & scores.trader
        self._consumers.add(scores, scores.bought & ~scores.trader)
        if traders.any():
            self._traders.add(scores, traders)

    def sample(self) -> Sample:
        """All that was taken in."""
        return Sample(self._consumers.buyers(), self._traders.buyers())


def sample_of(scores: ScoreBatch) -> Sample:
    """The buyers among scored rows."""
    gathering = Gathering()
    gathering.add(scores)
    return gathering.sample()


def market_of(samples: Iterable[Sample]) -> Market:
    """The market of all buyers in the samples: traders are compared with traders, consumers with consumers, where there are enough."""
    samples = list(samples)
    consumers, traders = Buyers.together([each.consumers for each in samples]), Buyers.together([each.traders for each in samples])
    buyers = consumers.count + traders.count
    if not buyers:
        return Market()
    apart = [ENOUGH_OF_A_KIND <= kind.count < buyers for kind in (consumers, traders)]
    everyone = NO_CROWD if all(apart) else _crowd(Buyers.together([consumers, traders]))
    one, other = (_crowd(kind) if is_apart else everyone for kind, is_apart in zip((consumers, traders), apart, strict=True))
    return Market(one, other, buyers, max(consumers.longest_days, traders.longest_days))


def _crowd(buyers: Buyers) -> Crowd:
    quintiles = Quintiles.of(buyers.recency_days, buyers.purchase_days, buyers.year_spend)
    return Crowd(quintiles, ValueCurve.of(buyers.year_spend), buyers.day_spend_minor / buyers.count, buyers.count)
