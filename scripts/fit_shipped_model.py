"""Fits the scoring models that ship with Dear to the shipped data: `python scripts/fit_shipped_model.py`."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import isotonic_regression

from services.segmentation.domain.arrays import Integers
from services.segmentation.domain.fitting import PENALTY, fit_model, scored
from services.segmentation.domain.models.bg_nbd import fit_bg_nbd
from services.segmentation.domain.models.gamma_gamma import fit_gamma_gamma
from services.segmentation.domain.models.history import histories
from services.segmentation.domain.models.rfm import HIGHEST_RANK_SUM, LOWEST_RANK_SUM, Quintiles
from services.segmentation.domain.models.spread import Spread
from stack.backtests import PurchaseLog, cdnow, complete_journey, outcome_of, state_of
from stack.datasets import load_basket_totals, load_cdnow

MODELS = Path(__file__).parents[1] / "services" / "segmentation" / "models"
EPOCH = date(1970, 1, 1)
RANKED_DAYS = 90

Log = tuple[Integers, Integers, Integers]


def main() -> None:
    """Write both models."""
    totals = load_basket_totals()
    groceries = (totals.household, totals.at_seconds // 86_400, totals.amount_minor)
    source = "Complete Journey basket totals, all 2,469 households (data/complete_journey_baskets.npz)"
    write("groceries", fitted(groceries, date(2017, 12, 2)) | ranked(complete_journey(), date(2017, 10, 2)), source)
    rows = np.array([(row.customer_id, (row.day - EPOCH).days, row.amount_minor) for row in load_cdnow()])
    music = (rows[:, 0], rows[:, 1], rows[:, 2])
    write("music", fitted(music, date(1998, 3, 31)) | ranked(cdnow(), date(1998, 4, 1)), "CDNOW, all 23,570 customers (data/cdnow.npz)")


def fitted(log: Log, until: date) -> dict[str, Any]:
    """Both models of a purchase log up to and including a day, leaving the rest of the log for back-tests."""
    summary = histories(*log, (until - EPOCH).days)
    spenders = (summary.x > 0) & (summary.repeat_mean > 0)
    purchases = fit_bg_nbd(summary.x, summary.t_x, summary.age, penalty=PENALTY)
    amounts = fit_gamma_gamma(summary.x[spenders], summary.repeat_mean[spenders])
    return {
        "bg_nbd": {name: round(value, 6) for name, value in asdict(purchases).items()},
        "gamma_gamma": {name: round(value, 6) for name, value in asdict(amounts).items()},
        "data": {
            "from": (EPOCH + timedelta(days=int(log[1].min()))).isoformat(),
            "until": until.isoformat(),
            "customers": len(summary.x),
            "repeat_customers": int((summary.x > 0).sum()),
        },
    }


def ranked(log: PurchaseLog, until: date) -> dict[str, Any]:
    """By RFM rank sum from 3 to 15: who did not buy in the 90 days after, never rising with the sum."""
    day = (until - EPOCH).days
    state = state_of(log, day)
    everybody = scored(state, fit_model("ranked", state, day), day, RANKED_DAYS)
    columns = (everybody.recency_days, everybody.day_count, everybody.year_spend_minor)
    quintiles = Quintiles.of(*(Spread.of_ascending(np.sort(column)) for column in columns))
    sums = quintiles.rank_sums(*columns) - LOWEST_RANK_SUM
    gone = ~outcome_of(log, state, day, RANKED_DAYS).bought
    counts, happened = (np.bincount(sums, weights=of, minlength=HIGHEST_RANK_SUM - LOWEST_RANK_SUM + 1) for of in (None, gone))
    # One customer of even odds in each sum keeps the shares off 0 and 1.
    shares = isotonic_regression((happened + 0.5) / (counts + 1), weights=counts + 1, increasing=False).x
    risk = [round(float(each), 4) for each in shares]
    return {"risk_by_rank_sum": {"as_of": until.isoformat(), "horizon_days": RANKED_DAYS, "risk": risk}}


def write(name: str, model: dict[str, Any], source: str) -> None:
    """Keep a model with where it comes from."""
    model["data"]["source"] = source
    units = {"time_unit": "week", "money_unit": "minor USD; scaled to each shop's own mean"}
    about = {"name": name, "version": 1, **units, "bg_nbd_penalty": PENALTY}
    MODELS.mkdir(exist_ok=True)
    (MODELS / f"{name}.json").write_text(json.dumps(about | model, indent=2) + "\n")
    print(name, json.dumps(model["bg_nbd"]), json.dumps(model["gamma_gamma"]))


if __name__ == "__main__":
    main()
