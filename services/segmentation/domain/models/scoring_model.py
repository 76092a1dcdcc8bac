"""What scores are computed with: a fitted model, and what all customers tell about each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from services.segmentation.domain.arrays import Floats, Mask
from services.segmentation.domain.models.bg_nbd import BgNbd
from services.segmentation.domain.models.calibration import UNTAUGHT, Calibration
from services.segmentation.domain.models.gamma_gamma import GammaGamma
from services.segmentation.domain.models.history import DAYS_PER_WEEK
from services.segmentation.domain.models.rfm import NO_QUINTILES, Quintiles
from services.segmentation.domain.models.season import NO_SEASON, Season
from services.segmentation.domain.models.value_curve import NO_CURVE, ValueCurve

Column = TypeVar("Column", bound=NDArray[Any])

QUARTERS = (13.0, 26.0, 39.0, 52.0)
"""Weeks; four horizons give the year's discounted value within 1e-3 of a monthly sum."""


_MOST_REPEATS, _MOST_DAYS = 256, 2048
"""Rarer customers are computed each time: 4 MB a model."""
ENOUGH_BUYERS = 500
ENOUGH_DAYS = 180


@dataclass(frozen=True, slots=True)
class ScoringModel:
    """When they buy (BG/NBD, in weeks), how much (gamma-gamma, in minor units), what the season does, and how signs shift the risk."""

    name: str
    purchases: BgNbd
    amounts: GammaGamma
    calibration: Calibration = UNTAUGHT
    """What this deployment's own outcomes have taught about the signs."""
    season: Season = NO_SEASON
    """What last year has taught about the time of the year."""
    risk_by_rank_sum: tuple[float, ...] = ()
    """By rank sum, from 3 to 15: used instead of BG/NBD where the data is too small for it; empty where it is not."""

    @property
    def ranks_only(self) -> bool:
        """Does it know nothing but ranks?"""
        return bool(self.risk_by_rank_sum)

    def horizon_weeks(self, horizon_days: int, day: int) -> float:
        """The horizon after a day as steady customers would need it: longer where that time of the year is busy."""
        return horizon_days * self.season.at(day) / DAYS_PER_WEEK

    def amounts_in(self, crowd: Crowd) -> GammaGamma:
        """How much these spend: a fit in dollars says nothing about the level in baht, nor one of households about shopkeepers."""
        return self.amounts.scaled_to(crowd.mean_spend_minor) if crowd.mean_spend_minor > 0 else self.amounts

    def year_value_minor(self, x: Floats, t_x: Floats, age: Floats, mean_spend: Floats, discount_per_year: float) -> Floats:
        """Expected spend over the next 52 weeks, discounted. Each quarter's share is discounted from its middle month's end."""
        living = _year_of(self.purchases, discount_per_year).purchases(x, age)
        return living * self.purchases.alive(x, t_x, age) * mean_spend


class YearOfLiving:
    """Discounted purchases of the next 52 weeks of who still lives. They depend on repeats and age alone, which customers share: each
    pair is computed once, whenever it first comes, and kept as long as the model is in use.
    """

    def __init__(self, purchases: BgNbd, discount_per_year: float) -> None:
        self._purchases, self._discount = purchases, discount_per_year
        self._known = np.full((_MOST_REPEATS, _MOST_DAYS), np.nan)

    def purchases(self, x: Floats, age: Floats) -> Floats:
        """By customer: `x` repeat purchase days, `age` in weeks."""
        if not np.isfinite(x).all() or not np.isfinite(age).all():
            return self._computed(x, age)
        days = np.rint(age * DAYS_PER_WEEK)
        kept = (x >= 0) & (x < _MOST_REPEATS) & (days >= 0) & (days < _MOST_DAYS) & (days / DAYS_PER_WEEK == age) & (np.rint(x) == x)
        found = np.empty(len(x))
        found[~kept] = self._computed(x[~kept], age[~kept])
        place = x[kept].astype(np.int64) * _MOST_DAYS + days[kept].astype(np.int64)
        known = self._known.reshape(-1)
        missing = np.unique(place[np.isnan(known[place])])
        known[missing] = self._computed((missing // _MOST_DAYS).astype(float), (missing % _MOST_DAYS) / DAYS_PER_WEEK)
        found[kept] = known[place]
        return found

    def _computed(self, x: Floats, age: Floats) -> Floats:
        total = np.zeros_like(x)
        before = np.zeros_like(x)
        for quarter, weeks in enumerate(QUARTERS):
            until = np.maximum(self._purchases.expected_of_living(x, age, weeks), before)
            total += (until - before) / (1.0 + self._discount) ** ((3 * quarter + 2) / 12)
            before = until
        return total


@lru_cache(maxsize=4)
def _year_of(purchases: BgNbd, discount_per_year: float) -> YearOfLiving:
    return YearOfLiving(purchases, discount_per_year)


@dataclass(frozen=True, slots=True)
class Crowd:
    """Whom a customer is compared with."""

    quintiles: Quintiles = NO_QUINTILES
    curve: ValueCurve = NO_CURVE
    mean_spend_minor: float = 0.0
    """Mean over buyers of what a purchase day brings; 0 before there are any."""
    buyers: int = 0


NO_CROWD = Crowd()


@dataclass(frozen=True, slots=True)
class Market:
    """Where a customer stands among the others of his kind: refreshed whenever everyone is re-scored."""

    consumers: Crowd = NO_CROWD
    """Whom consumers are compared with."""
    traders: Crowd = NO_CROWD
    """Whom retailers and wholesalers are compared with."""
    buyers: int = 0
    """Of both kinds."""
    history_days: int = 0
    """Since the first purchase of all."""

    @property
    def is_small(self) -> bool:
        """Is there too little to trust a model of purchase rates?"""
        return self.buyers < ENOUGH_BUYERS or self.history_days < ENOUGH_DAYS

    def by_kind(self, trader: Mask, judge: Callable[[Crowd, Any], Column]) -> Column:
        """What `judge` says of rows, given their crowd and which they are: traders' where `trader` is set, consumers' elsewhere."""
        found = judge(self.consumers, slice(None))
        if self.traders is not self.consumers and trader.any():
            found[trader] = judge(self.traders, trader)
        return found
