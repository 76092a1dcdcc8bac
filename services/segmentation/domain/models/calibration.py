"""What outcomes have taught about the risk: how much each sign of defection shifts its log-odds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit

from services.segmentation.domain.arrays import Floats, Mask

_SURE = 1e-9
"""Probabilities nearer to 0 or 1 than this have no log-odds to shift."""
ENOUGH_OUTCOMES = 200
"""Of each kind: fewer teach more about themselves than about anybody else."""
PENALTY = 1e-4
"""On standardised weights: holds those that the outcomes do not fix near zero."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Log-odds of the risk are `intercept + slope * log-odds of the model + weights . strengths of the signs`."""

    intercept: float = 0.0
    slope: float = 1.0
    weights: tuple[float, ...] = ()
    """By sign, at full strength, and never below 0; none until outcomes have taught them."""

    def risk(self, base: Floats, strengths: Floats) -> Floats:
        """The model's risk, shifted by the signs."""
        if self == UNTAUGHT:
            return base
        shifted: Floats = expit(self.intercept + self.slope * _log_odds(base) + strengths @ np.array(self.weights))
        return shifted


UNTAUGHT = Calibration()


def learn_calibration(base: Floats, strengths: Floats, gone: Mask) -> Calibration:
    """Penalised logistic regression of who was gone on the model's risk and the signs, all as of before; UNTAUGHT on too few outcomes.

    Slope and weights are never below 0: a sign of defection that lowers the risk would be a reason against itself, and counts for nothing.
    """
    if min(int(gone.sum()), int((~gone).sum())) < ENOUGH_OUTCOMES:
        return UNTAUGHT
    columns = np.column_stack([_log_odds(base), strengths])
    middle, spread = columns.mean(axis=0), columns.std(axis=0)
    known = spread > 0
    scaled = np.column_stack([np.ones(len(base)), (columns[:, known] - middle[known]) / spread[known]])

    def cost(weights: Floats) -> tuple[float, Floats]:
        log_odds = scaled @ weights
        value = np.logaddexp(0.0, np.where(gone, -log_odds, log_odds)).mean() + PENALTY * (weights[1:] ** 2).sum()
        slope = scaled.T @ (expit(log_odds) - gone) / len(gone)
        slope[1:] += 2.0 * PENALTY * weights[1:]
        return float(value), slope

    bounds = [(None, None), *[(0.0, None)] * (scaled.shape[1] - 1)]
    found = minimize(cost, np.zeros(scaled.shape[1]), jac=True, method="L-BFGS-B", bounds=bounds).x
    weights = np.zeros(len(known))
    weights[known] = found[1:] / spread[known]
    return Calibration(float(found[0] - weights @ middle), float(weights[0]), tuple(weights[1:].tolist()))


def _log_odds(probability: Floats) -> Floats:
    odds: Floats = logit(np.clip(probability, _SURE, 1.0 - _SURE))
    return odds
