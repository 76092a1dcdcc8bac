"""What segmentation answers over HTTP."""

from __future__ import annotations

from fastapi import APIRouter

from services.segmentation.api.models import add_models
from services.segmentation.api.scores import add_scores, add_totals
from services.segmentation.api.segments import add_own_segments, add_questions, add_segments
from shared.clock import Clock


def create_router(clock: Clock) -> APIRouter:
    """The routes of segmentation."""
    router = APIRouter(tags=["segmentation"])
    add_totals(router)
    add_scores(router)
    add_segments(router)
    add_own_segments(router, clock)
    add_questions(router)
    add_models(router)
    return router
