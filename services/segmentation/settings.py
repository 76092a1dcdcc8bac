"""What a segmentation process is told from outside."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from shared.settings import Settings


class SegmentationSettings(Settings):
    """Segmentation's own choices beside the shared ones."""

    port: Annotated[int, Field(ge=1, le=65535)] = 8082
    scoring_model: Literal["groceries", "music"] = "groceries"
    """Which shipped model scores: weekly baskets, or occasional purchases."""
    defection_horizon_days: Annotated[int, Field(ge=7, le=365)] = 90
    """Who does not buy within this many days is counted as gone."""
    needs_by: Literal["department", "category"] = "department"
    """What needs are told apart by, and what rules call a category; fine ones take more memory, about 60 bytes a customer and category."""
    value_by: Literal["spend", "profit"] = "spend"
    """What value classes and monetary value go by; profit needs unit costs on lines or in the product list."""
    discount_per_year: Annotated[float, Field(ge=0.0, le=1.0)] = 0.1
    rescore_seconds: Annotated[float, Field(gt=0)] = 60.0
    """How often everyone is re-scored with the wall clock; a replay does it once a replayed day."""
    refit_days: Annotated[float, Field(ge=0)] = 7.0
    """How often the scoring model is fitted to this deployment's own customers; 0: never."""
    snapshot_seconds: Annotated[float, Field(gt=0)] = 300.0
