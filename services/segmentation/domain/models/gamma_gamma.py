"""Gamma-gamma (Fader and Hardie 2013): what will a purchase be worth? Assumes that how much and how often are unrelated."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize
from scipy.special import gammaln, psi

from services.segmentation.domain.arrays import Floats

_BOUND = 8.0


@dataclass(frozen=True, slots=True)
class GammaGamma:
    """Amounts are gamma(p, nu), and nu is gamma(q, v) over customers; `v` bears the unit of money."""

    p: float
    q: float
    v: float

    def mean_spend(self, x: Floats, mean: Floats) -> Floats:
        """E[a customer's true mean spend], given `x` purchases of that mean: near everybody's at first, near his own later."""
        return self.p * (self.v + x * np.maximum(mean, 0.0)) / (self.p * x + self.q - 1.0)

    @property
    def population_mean(self) -> float:
        """What a purchase of somebody unknown is worth."""
        return self.p * self.v / (self.q - 1.0)

    def scaled_to(self, population_mean: float) -> GammaGamma:
        """The same shape in another shop's money."""
        return replace(self, v=population_mean * (self.q - 1.0) / self.p)

    def log_likelihood(self, x: Floats, mean: Floats) -> Floats:
        """Of each customer's mean over x purchases; both above 0."""
        p, q, v = self.p, self.q, self.v
        likelihood: Floats = (
            gammaln(p * x + q)
            - gammaln(p * x)
            - gammaln(q)
            + q * np.log(v)
            + (p * x - 1.0) * np.log(mean)
            + p * x * np.log(x)
            - (p * x + q) * np.log(v + x * mean)
        )
        return likelihood


def fit_gamma_gamma(x: Floats, mean: Floats) -> GammaGamma:
    """The likeliest parameters from customers with x > 0 and mean > 0."""
    known, count = np.unique(x, return_inverse=True)
    share = np.bincount(count) / len(x)
    total = x * mean
    own = np.bincount(count, np.log(total)) / len(x)
    constant = -float(np.log(mean).mean())

    def cost(logs: Floats) -> tuple[float, Floats]:
        p, q, v = np.exp(logs)
        log_sum, whole = np.log(v + total), p * known + q
        # By number of purchases: what depends on the amounts, averaged.
        logs_by_count, ratio_by_count = (np.bincount(count, values) / len(x) for values in (log_sum, 1.0 / (v + total)))
        gammas = gammaln(whole) - gammaln(p * known) - gammaln(q) + q * np.log(v)
        likelihood = share @ gammas + (p * known) @ own - whole @ logs_by_count + constant
        digamma = psi(whole)
        by_p = known @ (share * (digamma - psi(p * known)) + own - logs_by_count)
        by_q = share @ (digamma - psi(q) + np.log(v)) - logs_by_count.sum()
        by_v = q / v - whole @ ratio_by_count
        return -float(likelihood), -np.array([by_p, by_q, by_v]) * np.array([p, q, v])

    start = np.array([0.0, 1.0, np.log(mean.mean())])
    options = {"ftol": 1e-14, "gtol": 1e-8, "maxiter": 2000}
    bounds = [(-_BOUND, _BOUND), (0.01, _BOUND), (-_BOUND, 20.0)]
    found = minimize(cost, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return GammaGamma(*(float(value) for value in np.exp(found.x)))
