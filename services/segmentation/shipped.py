"""The models that ship with Dear: fitted parameters with the data and the window they come from, as JSON beside this file."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

from services.segmentation.domain.models.bg_nbd import BgNbd
from services.segmentation.domain.models.gamma_gamma import GammaGamma
from services.segmentation.domain.models.scoring_model import ScoringModel
from services.segmentation.models_in_use import Models

DIRECTORY = Path(__file__).parent / "models"


def load_shipped_models(name: str) -> Models:
    """Read `models/<name>.json`; `scripts/fit_shipped_model.py` writes it."""
    kept = json.loads((DIRECTORY / f"{name}.json").read_text())
    ranks = kept["risk_by_rank_sum"]
    purchases, amounts = BgNbd(**kept["bg_nbd"]), GammaGamma(**kept["gamma_gamma"])
    model = ScoringModel(f"{name}-{kept['version']}", purchases, amounts, ranked_days=ranks["horizon_days"])
    return Models(model, date.fromisoformat(kept["data"]["until"]), tuple(ranks["risk"]))
