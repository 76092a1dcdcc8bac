"""What others use to tell who is leaving: rules of thumb, and models learned with scikit-learn where it is installed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from services.segmentation.domain.arrays import Floats, Mask

Features = dict[str, Floats]
"""By name: recency and age in days, frequency in purchase days, monetary and mean spend in minor units."""

_LOG_FEATURES = ("recency", "frequency", "monetary", "mean_spend", "age")


@dataclass(frozen=True, slots=True)
class Forecaster:
    """A peer's opinion of who is leaving: higher means rather gone."""

    risk: Callable[[Features], Floats]
    is_probability: bool = False


def simple_peers() -> dict[str, Forecaster]:
    """Rules that need no learning."""
    return {
        "recency": Forecaster(lambda of: of["recency"]),
        "RFM rank sum": Forecaster(_rank_sum),
        "hiatus": Forecaster(_hiatus),
    }


def learned_peers(features: Features, gone: Mask) -> dict[str, Forecaster]:
    """Models learned from one window's outcome; none where scikit-learn is not installed (`make peers`)."""
    try:
        from sklearn.ensemble import HistGradientBoostingClassifier
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError:
        return {}
    logistic = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(_logs(features), gone)
    trees = HistGradientBoostingClassifier(random_state=0, max_iter=100, learning_rate=0.05).fit(_rfm(features), gone)
    return {
        "logistic, 5 log RFM features": Forecaster(lambda of: _probability(logistic, _logs(of)), is_probability=True),
        "boosted trees on R, F, M": Forecaster(lambda of: _probability(trees, _rfm(of)), is_probability=True),
    }


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
