"""Which scoring model there is to use: the newest accepted fit, before that the shipped one, and ranks alone while the data is small."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date

from services.segmentation.domain.models.bg_nbd import BgNbd
from services.segmentation.domain.models.calibration import UNTAUGHT, Calibration
from services.segmentation.domain.models.gamma_gamma import GammaGamma
from services.segmentation.domain.models.scoring_model import Market, ScoringModel
from services.segmentation.domain.models.season import NO_SEASON, PERIODS, Season
from services.segmentation.domain.signs import SIGNS
from shared.contracts.scores import ScoringModelPublished

FITTED = "fitted"
"""The name, and so the key in scoring-models-v1, of what a deployment fits to its own customers."""
RANKS = "rank-sum"

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
