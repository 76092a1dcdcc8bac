"""Which models there are to use: the newest accepted fits, before that the shipped one, and ranks alone while the data is small."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from itertools import chain, count

from services.segmentation.domain.models.bg_nbd import BgNbd
from services.segmentation.domain.models.calibration import UNTAUGHT, Calibration
from services.segmentation.domain.models.gamma_gamma import GammaGamma
from services.segmentation.domain.models.scoring_model import Market, ScoringModel
from services.segmentation.domain.models.season import NO_SEASON, PERIODS, Season
from services.segmentation.domain.need_labels import NeedLabels
from services.segmentation.domain.signs import SIGNS
from services.segmentation.need_contract import need_labels_from
from shared.contracts.scores import NeedModelPublished, ScoringModelPublished
from shared.streaming.partitions import partition_for

FITTED = "fitted"
"""The name, and so the key in scoring-models-v1, of what a deployment fits to its own customers."""
RANKS = "rank-sum"
NEEDS_KEY = next(
    key for key in chain([b"needs"], (f"needs-{n}".encode() for n in count())) if partition_for(key) == partition_for(FITTED.encode())
)
"""The key of need models there: the first of its kind that falls where the fits are, so that one reader hears of both."""

_SIGN = "sign."
_SEASON = "season."
_PERIODS = tuple(f"{_SEASON}{period:02}" for period in range(PERIODS))


@dataclass(slots=True)
class Models:
    """What can be scored with."""

    shipped: ScoringModel
    shipped_until: date
    """The last day of its data."""
    risk_by_rank_sum: tuple[float, ...]
    """Empty where ranks are never to be used."""
    fitted: ScoringModel | None = None
    version: int = 0
    """Of the newest accepted fit; 0 before there is one."""
    fitted_until: date | None = None
    needs: NeedLabels | None = None
    """The newest need model; None before there is one: needs are this deployment's own, and none ship."""

    def best_for(self, market: Market) -> ScoringModel:
        """Ranks below 500 buyers or 180 days of history; then this deployment's own fit, or the shipped one until there is one."""
        if market.is_small and self.risk_by_rank_sum:
            return replace(self.shipped, name=RANKS, calibration=UNTAUGHT, risk_by_rank_sum=self.risk_by_rank_sum)
        return self.fitted or self.shipped

    @property
    def data_until(self) -> date:
        """The last day of the data behind the newest model."""
        return self.fitted_until or self.shipped_until

    def take(self, published: ScoringModelPublished) -> None:
        """A fit was published; an older one than the newest changes nothing."""
        if published.model == FITTED and published.version > self.version:
            self.fitted, self.version = model_from(published), published.version
            self.fitted_until = date.fromisoformat(published.data_until)

    def take_needs(self, published: NeedModelPublished) -> None:
        """The same of a need model. Raises ValueError where its parts do not fit together."""
        if self.needs is None or published.version > self.needs.version:
            self.needs = need_labels_from(published)


def model_from(published: ScoringModelPublished) -> ScoringModel:
    """A model from its parameters. Raises KeyError where one is missing."""
    of = published.parameters
    weights = tuple(of.get(_SIGN + sign, 0.0) for sign in SIGNS)
    taught = Calibration(of["intercept"], of["slope"], weights) if "slope" in of else UNTAUGHT
    season = Season(tuple(of.get(name, 1.0) for name in _PERIODS)) if any(name in of for name in _PERIODS) else NO_SEASON
    name = f"{published.model}-{published.version}"
    return ScoringModel(name, BgNbd(of["r"], of["alpha"], of["a"], of["b"]), GammaGamma(of["p"], of["q"], of["v"]), taught, season)


def parameters_of(model: ScoringModel) -> dict[str, float]:
    """What `model_from` reads."""
    purchases, amounts, taught = model.purchases, model.amounts, model.calibration
    parameters = {
        "r": purchases.r, "alpha": purchases.alpha, "a": purchases.a, "b": purchases.b,
        "p": amounts.p, "q": amounts.q, "v": amounts.v,
    }  # fmt: skip
    parameters |= dict(zip(_PERIODS, model.season.indexes, strict=False))
    if taught == UNTAUGHT:
        return parameters
    signs = {_SIGN + sign: weight for sign, weight in zip(SIGNS, taught.weights, strict=True)}
    return parameters | {"intercept": taught.intercept, "slope": taught.slope} | signs
