"""What others use to tell who is leaving: rules of thumb, and where they are installed (`make peers`) scikit-learn and `lifetimes`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from services.segmentation.domain.arrays import Floats, Mask
from services.segmentation.domain.models.history import DAYS_PER_WEEK

Features = dict[str, Floats]
"""By name: recency and age in days, frequency in purchase days; in minor units all spend, the mean of a purchase day, and that of the days
after the first."""

_LOG_FEATURES = ("recency", "frequency", "monetary", "mean_spend", "age")


@dataclass(frozen=True, slots=True)
class Forecaster:
    """A peer's opinion of who is leaving: higher means rather gone. What it does not forecast is None."""

    risk: Callable[[Features], Floats]
    is_probability: bool = False
    purchases: Callable[[Features], Floats] | None = None
    """Purchase days within the horizon."""
    value: Callable[[Features], Floats] | None = None
    """Spend within the horizon."""


def simple_peers(horizon_days: int) -> dict[str, Forecaster]:
    """Rules that need no learning."""

    def naive(of: Features) -> Floats:
        """As often as so far: repeat purchases by the time since the first."""
        return (of["frequency"] - 1) / np.maximum(of["age"], 1) * horizon_days

    return {
        "recency": Forecaster(lambda of: of["recency"]),
        "RFM rank sum": Forecaster(_rank_sum),
        "hiatus": Forecaster(_hiatus),
        "naive rate": Forecaster(lambda of: -naive(of), purchases=naive, value=lambda of: naive(of) * of["mean_spend"]),
    }


def fitted_peers(features: Features, horizon_days: int) -> dict[str, Forecaster]:
    """`lifetimes` as its own documentation uses it, fitted as ours is to the same histories; none where it is not installed."""
    try:
        from lifetimes import BetaGeoFitter, GammaGammaFitter
    except ImportError:
        return {}
    x, t_x, age = _history(features)
    spenders = (x > 0) & (features["repeat_mean_spend"] > 0)
    purchases, amounts = BetaGeoFitter(), GammaGammaFitter()
    purchases.fit(x, t_x, age)
    amounts.fit(x[spenders], features["repeat_mean_spend"][spenders] / 100)

    def expected(of: Features) -> Floats:
        weeks = horizon_days / DAYS_PER_WEEK
        return np.asarray(purchases.conditional_expected_number_of_purchases_up_to_time(weeks, *_history(of)))

    def value(of: Features) -> Floats:
        mean: Floats = np.asarray(amounts.conditional_expected_average_profit(_history(of)[0], of["repeat_mean_spend"] / 100))
        return expected(of) * mean

    return {"lifetimes, BG/NBD × gamma-gamma": Forecaster(lambda of: -expected(of), purchases=expected, value=value)}


def learned_peers(features: Features, gone: Mask, horizon_days: int) -> dict[str, Forecaster]:
    """Models learned from one window's outcome; none where scikit-learn is not installed.

    They forecast P(buys) and nothing else. Who buys is taken to buy as often as his own rate says, once at least, and for his mean spend.
    """
    try:
        from sklearn.ensemble import HistGradientBoostingClassifier
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError:
        return {}
    logistic = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(_logs(features), gone)
    trees = HistGradientBoostingClassifier(random_state=0, max_iter=100, learning_rate=0.05).fit(_rfm(features), gone)

    def learned(risk: Callable[[Features], Floats]) -> Forecaster:
        def purchases(of: Features) -> Floats:
            return (1 - risk(of)) * np.maximum(of["frequency"] / np.maximum(of["age"], horizon_days) * horizon_days, 1)

        return Forecaster(risk, is_probability=True, purchases=purchases, value=lambda of: purchases(of) * of["mean_spend"])

    return {
        "logistic, 5 log RFM features": learned(lambda of: _probability(logistic, _logs(of))),
        "boosted trees on R, F, M": learned(lambda of: _probability(trees, _rfm(of))),
    }


def _history(of: Features) -> tuple[Floats, Floats, Floats]:
    """As BG/NBD wants it, in weeks."""
    return of["frequency"] - 1, (of["age"] - of["recency"]) / DAYS_PER_WEEK, of["age"] / DAYS_PER_WEEK


def _rank_sum(of: Features) -> Floats:
    """Quintiles of recency, frequency and money, added; the more the better."""
    return -sum((_quintile(values) for values in (-of["recency"], of["frequency"], of["monetary"])), np.zeros(len(of["recency"])))


def _quintile(values: Floats) -> Floats:
    cuts = np.quantile(values, (0.2, 0.4, 0.6, 0.8), method="inverted_cdf")
    return np.searchsorted(cuts, values, side="left").astype(np.float64)


def _hiatus(of: Features) -> Floats:
    """The silence by the customer's own mean interval; who bought once gets everybody's mean."""
    repeats = of["frequency"] - 1
    own = (of["age"] - of["recency"]) / np.maximum(repeats, 1)
    everybody = float(own[repeats > 0].mean()) if (repeats > 0).any() else 1.0
    return of["recency"] / np.maximum(np.where(repeats > 0, own, everybody), 1)


def _logs(of: Features) -> Floats:
    return np.column_stack([np.log1p(of[name]) for name in _LOG_FEATURES])


def _rfm(of: Features) -> Floats:
    return np.column_stack([of["recency"], of["frequency"], of["monetary"]])


def _probability(model: Any, columns: Floats) -> Floats:
    chances: Floats = model.predict_proba(columns)[:, 1]
    return chances
