"""How fast models are fitted and asked: `make peers && .venv/bin/python -m benchmarks.models [--customers N] [--json]`.

Beside `lifetimes`, in the same run on the same histories; wall seconds, the best of five.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.rows import a_year_of, known_ids
from services.segmentation.domain.fitting import fit_model, window_before
from services.segmentation.domain.models.bg_nbd import fit_bg_nbd
from services.segmentation.domain.models.gamma_gamma import fit_gamma_gamma
from services.segmentation.domain.models.history import histories
from stack.backtests import SETTINGS, cdnow

WEEKS = 52.0


def best_of(work: Callable[[], object], rounds: int = 5) -> float:
    """Seconds of the fastest of some rounds."""
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def against_lifetimes() -> dict[str, float]:
    """Seconds for CDNOW: both fits, and the next year of every customer."""
    from lifetimes import BetaGeoFitter, GammaGammaFitter

    log = cdnow()
    end = (SETTINGS["cdnow"].from_date - type(SETTINGS["cdnow"].from_date)(1970, 1, 1)).days
    of = histories(log.customer, log.day, log.amount_minor, end)
    spenders = (of.x > 0) & (of.repeat_mean > 0)
    x, mean = of.x[spenders], of.repeat_mean[spenders] / 100
    theirs, their_amounts = BetaGeoFitter(), GammaGammaFitter()
    ours = fit_bg_nbd(of.x, of.t_x, of.age)
    return {
        "customers": len(of.x),
        "bg_nbd_fit": best_of(lambda: fit_bg_nbd(of.x, of.t_x, of.age)),
        "bg_nbd_fit_lifetimes": best_of(lambda: theirs.fit(of.x, of.t_x, of.age)),
        "gamma_gamma_fit": best_of(lambda: fit_gamma_gamma(x, mean)),
        "gamma_gamma_fit_lifetimes": best_of(lambda: their_amounts.fit(x, mean)),
        "expected_purchases": best_of(lambda: ours.expected_purchases(of.x, of.t_x, of.age, WEEKS)),
        "expected_purchases_lifetimes": best_of(
            lambda: theirs.conditional_expected_number_of_purchases_up_to_time(WEEKS, of.x, of.t_x, of.age)
        ),
    }


def refit(customers: int) -> dict[str, float]:
    """Seconds to fit both models to so many rows, and to rewind a sample for the back-test."""
    state = a_year_of(known_ids(customers), 12)
    today = int(state.last_day[: state.count].max())
    return {
        "customers": customers,
        "fit": best_of(lambda: fit_model("refit", state, today), 3),
        "rewind": best_of(lambda: window_before(state, today, 90), 3),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--customers", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    with np.errstate(all="ignore"):
        found: dict[str, Any] = {"cdnow": against_lifetimes(), "refit": refit(chosen.customers)}
    if chosen.json:
        print(json.dumps(found))
        return
    of = found["cdnow"]
    for name in ("bg_nbd_fit", "gamma_gamma_fit", "expected_purchases"):
        ours, theirs = of[name], of[f"{name}_lifetimes"]
        print(
            f"{name:20} {ours * 1000:9.1f} ms   lifetimes {theirs * 1000:9.1f} ms   {theirs / ours:6.1f} x as fast   ({of['customers']:,})"
        )
    print(f"refit of {found['refit']['customers']:,} rows: {found['refit']['fit']:.2f} s; rewind: {found['refit']['rewind']:.2f} s")


if __name__ == "__main__":
    main()
