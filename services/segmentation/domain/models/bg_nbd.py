"""BG/NBD, the "counting your customers the easy way" model (Fader, Hardie and Lee 2005): when do they buy again?

While a customer lives he buys at his own Poisson rate; after each purchase he may be gone for good. Times are weeks, as the published
parameters are. `x` is repeat purchase days, `t_x` the time from the first to the newest, `age` the time since the first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import betaln, expit, gammaln, hyp2f1

from services.segmentation.domain.arrays import Floats

_BOUND = 8.0
"""Log-parameters stay in [-8, 8]: beyond, the fit is not identified and `hyp2f1` can kill the process (scipy 1.17.1)."""


@dataclass(frozen=True, slots=True)
class BgNbd:
    """Purchase rates are gamma(r, alpha), chances to leave after a purchase beta(a, b)."""

    r: float
    alpha: float
    a: float
    b: float

    def alive(self, x: Floats, t_x: Floats, age: Floats) -> Floats:
        """P(still a customer). 1 where there was no repeat purchase yet, which makes it a poor measure of risk."""
        # Clipping keeps the logarithm defined where x = 0, whose answer is fixed anyway.
        log_odds_gone = np.log(self.a / (self.b + np.maximum(x, 1) - 1)) + (self.r + x) * np.log((self.alpha + age) / (self.alpha + t_x))
        return np.where(x > 0, expit(-log_odds_gone), 1.0)

    def buys_within(self, x: Floats, t_x: Floats, age: Floats, horizon: float) -> Floats:
        """P(at least one purchase in the next `horizon` weeks); exact, because leaving happens only after a purchase."""
        return self.alive(x, t_x, age) * (1.0 - self.pauses(x, age, horizon))

    def pauses(self, x: Floats, age: Floats, horizon: float) -> Floats:
        """P(a customer who still lives buys nothing in the next `horizon` weeks)."""
        return np.exp((self.r + x) * np.log((self.alpha + age) / (self.alpha + age + horizon)))

    def silence(self, x: Floats, t_x: Floats, age: Floats) -> Floats:
        """P(a customer who still lives would have been silent this long): small means overdue."""
        return np.exp((self.r + x) * np.log((self.alpha + t_x) / (self.alpha + age)))

    def weeks_to_next(self, x: Floats, age: Floats) -> Floats:
        """Median time to the next purchase of a customer who still lives."""
        return (self.alpha + age) * (np.exp2(1.0 / (self.r + x)) - 1.0)

    def expected_purchases(self, x: Floats, t_x: Floats, age: Floats, horizon: float) -> Floats:
        """E[purchases in the next `horizon` weeks]; nan where the inputs are not finite.

        Euler's transformation of the textbook form: the same number, twice as fast, and its arguments do not grow with x.
        """
        a = self.a if abs(self.a - 1.0) > 1e-6 else 1.0 + 1e-6
        c = a + self.b + x - 1.0
        z = horizon / (self.alpha + age + horizon)
        safe = np.isfinite(c) & np.isfinite(z) & (z >= 0) & (z < 1)
        series = hyp2f1(a + self.b - 1.0 - self.r, a - 1.0, np.where(safe, c, 1.0), np.where(safe, z, 0.0))
        bought = c / (a - 1.0) * (1.0 - np.power(1.0 - np.where(safe, z, 0.0), a - 1.0) * series)
        return np.where(safe, self.alive(x, t_x, age) * bought, np.nan)

    def log_likelihood(self, x: Floats, t_x: Floats, age: Floats) -> Floats:
        """Of each history."""
        r, alpha, a, b = self.r, self.alpha, self.a, self.b
        rate = gammaln(r + x) - gammaln(r) + r * np.log(alpha)
        stay = betaln(a, b + x) - betaln(a, b)
        lives = -(r + x) * np.log(alpha + age)
        left = np.log(a) - np.log(b + np.maximum(x, 1) - 1.0) - (r + x) * np.log(alpha + t_x)
        likelihood: Floats = rate + stay + np.where(x > 0, np.logaddexp(lives, left), lives)
        return likelihood


def fit_bg_nbd(x: Floats, t_x: Floats, age: Floats, weight: Floats | None = None, penalty: float = 0.0) -> BgNbd:
    """The likeliest parameters; `weight` counts customers of equal history, `penalty` holds log-parameters near zero."""
    counted = np.ones_like(x) if weight is None else weight

    def cost(logs: Floats) -> float:
        likelihood = BgNbd(*np.exp(logs)).log_likelihood(x, t_x, age)
        return float(-(counted * likelihood).sum() / counted.sum() + penalty * (logs**2).sum())

    found = minimize(cost, np.zeros(4), method="L-BFGS-B", bounds=[(-_BOUND, _BOUND)] * 4, options={"ftol": 1e-13, "gtol": 1e-8})
    return BgNbd(*(float(value) for value in np.exp(found.x)))
