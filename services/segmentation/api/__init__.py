"""What segmentation answers over HTTP."""

from __future__ import annotations

from fastapi import APIRouter

from services.segmentation.api.changes import add_changes
from services.segmentation.api.export import add_export
from services.segmentation.api.models import add_models
from services.segmentation.api.needs import add_needs
from services.segmentation.api.scores import add_scores, add_totals
from services.segmentation.api.segments import add_own_segments, add_questions, add_segments
from services.segmentation.live_changes import LiveChanges
from services.segmentation.settings import SegmentationSettings
from shared.clock import Clock


def create_router(clock: Clock, live: LiveChanges, settings: SegmentationSettings) -> APIRouter:
    """The routes of segmentation."""
    router = APIRouter(tags=["segmentation"])
    add_totals(router)
    add_scores(router)
    add_segments(router)
    add_changes(router, live)
    add_own_segments(router, clock)
    add_questions(router)
    add_models(router, settings)
    add_needs(router)
    add_export(router)
    return router
