"""What campaigns answers over HTTP."""

from __future__ import annotations

from fastapi import APIRouter

from services.campaigns.api import export, loyalty, offers, programs
from services.campaigns.settings import CampaignsSettings
from shared.clock import Clock


def create_router(clock: Clock, settings: CampaignsSettings) -> APIRouter:
    """All endpoints of campaigns."""
    router = APIRouter(prefix="/v1")
    router.include_router(loyalty.create_router(settings.point_value_minor))
    router.include_router(offers.create_router())
    router.include_router(programs.create_router(clock))
    router.include_router(export.router)
    return router
