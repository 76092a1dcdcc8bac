"""BG/NBD, the "counting your customers the easy way" model (Fader, Hardie and Lee 2005): when do they buy again?

While a customer lives he buys at his own Poisson rate; after each purchase he may be gone for good. Times are weeks, as the published
parameters are. `x` is repeat purchase days, `t_x` the time from the first to the newest, `age` the time since the first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import betaln, expit, gammaln, hyp2f1, psi

from services.segmentation.domain.arrays import Floats

_BOUND = 8.0
"""Log-parameters stay in [-8, 8]: beyond, the fit is not identified and `hyp2f1` can kill the process (scipy 1.17.1)."""
_LARGEST_EXPONENT = 700.0


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
        """E[purchases in the next `horizon` weeks]; nan where the inputs are not finite."""
        return self.alive(x, t_x, age) * self.expected_of_living(x, age, horizon)

    def expected_of_living(self, x: Floats, age: Floats, horizon: float) -> Floats:
        """The same of who still lives.

        Euler's transformation of the textbook form: the same number, twice as fast, and its arguments do not grow with x.
        """
        a = self.a if abs(self.a - 1.0) > 1e-6 else 1.0 + 1e-6
        c = a + self.b + x - 1.0
        z = horizon / (self.alpha + age + horizon)
        safe = np.isfinite(c) & np.isfinite(z) & (z >= 0) & (z < 1)
        series = hyp2f1(a + self.b - 1.0 - self.r, a - 1.0, np.where(safe, c, 1.0), np.where(safe, z, 0.0))
        bought = c / (a - 1.0) * (1.0 - np.power(1.0 - np.where(safe, z, 0.0), a - 1.0) * series)
        return np.where(safe, bought, np.nan)

    def log_likelihood(self, x: Floats, t_x: Floats, age: Floats) -> Floats:
        """Of each history."""
        r, alpha, a, b = self.r, self.alpha, self.a, self.b
        rate = gammaln(r + x) - gammaln(r) + r * np.log(alpha)
        stay = betaln(a, b + x) - betaln(a, b)
        lives = -(r + x) * np.log(alpha + age)
        left = np.log(a) - np.log(b + np.maximum(x, 1) - 1.0) - (r + x) * np.log(alpha + t_x)
        likelihood: Floats = rate + stay + np.where(x > 0, np.logaddexp(lives, left), lives)
        return likelihood


def fit_bg_nbd(x: Floats, t_x: Floats, age: Floats, penalty: float = 0.0) -> BgNbd:
    """The likeliest parameters; `penalty` holds log-parameters near zero."""
    slopes_at = _Slopes(x, t_x, age)

    def cost(logs: Floats) -> tuple[float, Floats]:
        parameters = np.exp(logs)
        likelihood, slopes = slopes_at(BgNbd(*parameters))
        return -likelihood + penalty * float((logs**2).sum()), -slopes * parameters + 2.0 * penalty * logs

    found = minimize(cost, np.zeros(4), jac=True, method="L-BFGS-B", bounds=[(-_BOUND, _BOUND)] * 4, options={"ftol": 1e-13, "gtol": 1e-8})
    return BgNbd(*(float(value) for value in np.exp(found.x)))


class _Slopes:
    """The mean log-likelihood of histories and its derivatives by r, alpha, a and b.

    A million customers have some hundred thousand histories, and those few distinct counts and days: equal histories are counted together,
    logarithms and gamma functions are computed once for each distinct value.
    """

    def __init__(self, x: Floats, t_x: Floats, age: Floats) -> None:
        (self._known, count), (self._seen, at_seen), (self._ages, at_age) = (
            np.unique(values, return_inverse=True) for values in (x, t_x, age)
        )
        shape = (len(self._known), len(self._seen), len(self._ages))
        keys, times = np.unique(np.ravel_multi_index((count, at_seen, at_age), shape), return_counts=True)
        self._count, self._at_seen, self._at_age = np.unravel_index(keys, shape)
        self._share = times / times.sum()
        self._x = self._known[self._count]

    def __call__(self, model: BgNbd) -> tuple[float, Floats]:
        """At these parameters."""
        r, alpha, a, b = model.r, model.alpha, model.a, model.b
        known, count, share = self._known, self._count, self._share
        log_age = np.log(alpha + self._ages)[self._at_age]
        waited = log_age - np.log(alpha + self._seen)[self._at_seen]
        each = r + self._x
        constant = gammaln(r + known) - gammaln(r) + r * np.log(alpha) + betaln(a, b + known) - betaln(a, b)
        stays = b + np.maximum(known, 1) - 1.0
        # The odds that somebody left after his newest purchase; nobody leaves before the first repeat.
        first_odds = np.where(known > 0, a / stays, 0.0)[count]
        odds = first_odds * np.exp(np.minimum(each * waited, _LARGEST_EXPONENT))
        gone = share * (odds / (1.0 + odds))
        by_count, gone_by_count = np.bincount(count, share, len(known)), np.bincount(count, gone, len(known))
        likelihood = by_count @ constant - share @ (each * log_age) + share @ np.log1p(odds)
        by_r = by_count @ (psi(r + known) - psi(r) + np.log(alpha)) - share @ log_age + gone @ waited
        still = (1.0 / (alpha + self._ages))[self._at_age]
        then = (1.0 / (alpha + self._seen))[self._at_seen]
        by_alpha = r / alpha - (each * share) @ still + (each * gone) @ (still - then)
        by_a = by_count @ (psi(a + b) - psi(a + b + known)) + gone_by_count.sum() / a
        by_b = by_count @ (psi(b + known) - psi(a + b + known) - psi(b) + psi(a + b)) - gone_by_count @ (1.0 / stays)
        return float(likelihood), np.array([by_r, by_alpha, by_a, by_b])
