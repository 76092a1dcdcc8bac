"""Identity's HTTP: the ingest edge, customers and their consents, what became of events, and the timeline."""

from __future__ import annotations

from fastapi import APIRouter

from services.identity.api import customers, events, export, overview, segment, timeline
from services.identity.api.edge import Edge
from services.identity.settings import IdentitySettings
from shared.clock import Clock
from shared.service import Publisher


def create_router(publisher: Publisher, settings: IdentitySettings, clock: Clock, wall: Clock) -> APIRouter:
    """All routes; nothing is connected yet."""
    edge = Edge(publisher.append, settings.reporting_currency, settings.ingest_write_keys, wall)
    router = APIRouter(prefix="/v1")
    parts = (events.create_router(edge), segment.create_router(edge), customers.create_router(edge, clock))
    for part in (*parts, overview.router, timeline.router, export.router):
        router.include_router(part)
    return router
