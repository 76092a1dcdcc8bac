"""Fits the scoring models that ship with Dear to the shipped data: `python scripts/fit_shipped_model.py`."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from services.segmentation.domain.arrays import Integers
from services.segmentation.domain.models.bg_nbd import fit_bg_nbd
from services.segmentation.domain.models.gamma_gamma import fit_gamma_gamma
from services.segmentation.domain.models.history import histories
from stack.datasets import load_basket_totals, load_cdnow

MODELS = Path(__file__).parents[1] / "services" / "segmentation" / "models"
EPOCH = date(1970, 1, 1)
PENALTY = 1e-4
"""Holds parameters that the data does not fix (few grocers' customers leave for good) without moving those it does."""

Log = tuple[Integers, Integers, Integers]


def main() -> None:
    """Write both models."""
    totals = load_basket_totals()
    groceries = (totals.household, totals.at_seconds // 86_400, totals.amount_minor)
    source = "Complete Journey basket totals, all 2,469 households (data/complete_journey_baskets.npz)"
    write("groceries", fitted(groceries, date(2017, 12, 2)), source)
    rows = np.array([(row.customer_id, (row.day - EPOCH).days, row.amount_minor) for row in load_cdnow()])
    music = (rows[:, 0], rows[:, 1], rows[:, 2])
    write("music", fitted(music, date(1998, 3, 31)), "CDNOW, all 23,570 customers (data/cdnow.npz)")


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
