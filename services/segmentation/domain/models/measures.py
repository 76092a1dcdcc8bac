"""How good a forecast was, once the outcome is known."""

from __future__ import annotations

import numpy as np

from services.segmentation.domain.arrays import Floats, Integers, Mask

BINS = 10
_Z = 1.96


def auc(happened: Mask, forecast: Floats) -> float:
    """The chance that somebody to whom it happened was ranked above somebody to whom it did not; .5 where one kind is missing."""
    positive, negative = int(happened.sum()), int((~happened).sum())
    if not positive or not negative:
        return 0.5
    ranks = _ranks(forecast)
    return float((ranks[happened].sum() - positive * (positive + 1) / 2) / (positive * negative))


def auc_error(area: float, happened: Mask) -> float:
    """Roughly the standard error of an AUC (Hanley and McNeil 1982, bounded by the rarer kind)."""
    rarer = min(int(happened.sum()), int((~happened).sum()))
    return (area * (1.0 - area) / rarer) ** 0.5 if rarer else 0.5


def brier(happened: Mask, forecast: Floats) -> float:
    """Mean squared error of a probability."""
    return float(np.mean((forecast - happened) ** 2)) if len(happened) else 0.0


def calibration_error(happened: Mask, forecast: Floats) -> float:
    """How far forecast and realised shares lie apart on average, over ten groups of equal size by forecast."""
    if not len(happened):
        return 0.0
    groups = np.array_split(np.argsort(forecast, kind="stable"), min(BINS, len(happened)))
    apart = [abs(float(forecast[group].mean() - happened[group].mean())) * len(group) for group in groups]
    return sum(apart) / len(happened)


def total_error(actual: Floats, forecast: Floats) -> float:
    """Forecast total relative to the actual one, less 1; 0 where nothing happened."""
    whole = float(actual.sum())
    return float(forecast.sum()) / whole - 1.0 if whole else 0.0


def top_decile_share(value: Floats, forecast: Floats) -> float:
    """The share of all value that came from the tenth of customers with the highest forecast."""
    whole = float(value.sum())
    best = np.argsort(-forecast, kind="stable")[: max(len(forecast) // 10, 1)]
    return float(value[best].sum()) / whole if whole else 0.0


def realised_shares(happened: Mask, forecast: Floats, group: Integers, groups: int) -> list[tuple[int, float, float]]:
    """By group number: how many are in it, their mean forecast, and to what share of them it happened."""
    counts = np.bincount(group, minlength=groups)
    whole = np.maximum(counts, 1)
    means = np.bincount(group, weights=forecast, minlength=groups) / whole
    shares = np.bincount(group, weights=happened, minlength=groups) / whole
    return [(int(count), float(mean), float(share)) for count, mean, share in zip(counts, means, shares, strict=True)]


def likely_range(share: float, count: int) -> tuple[float, float]:
    """Where the true share lies, 19 times of 20, given that of so many (Wilson 1927); everywhere, given none."""
    if not count:
        return 0.0, 1.0
    middle = (share + _Z * _Z / (2 * count)) / (1 + _Z * _Z / count)
    half = _Z / (1 + _Z * _Z / count) * (share * (1 - share) / count + _Z * _Z / (4 * count * count)) ** 0.5
    return max(middle - half, 0.0), min(middle + half, 1.0)


def _ranks(values: Floats) -> Floats:
    """From 1 on; equal values share the mean of theirs. (`scipy.stats` has it too, and takes half a second to import.)"""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Floats = (np.cumsum(counts) - (counts - 1) / 2.0)[place]
    return ranks
