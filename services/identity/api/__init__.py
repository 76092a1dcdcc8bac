"""Identity's HTTP: the ingest edge, customers and their consents, what became of events, the timeline, and API keys."""

from __future__ import annotations

from zoneinfo import ZoneInfo

from fastapi import APIRouter

from services.identity.api import (
    consent_texts,
    customers,
    events,
    export,
    keys,
    merges,
    overview,
    poslog,
    privacy,
    segment,
    service_points,
    shopify,
    timeline,
)
from services.identity.api.edge import Edge, Waiting
from services.identity.api.origins import Origins
from services.identity.domain.poslog import Stores
from services.identity.settings import IdentitySettings
from shared.clock import Clock
from shared.service import Publisher


def create_router(publisher: Publisher, settings: IdentitySettings, clock: Clock, wall: Clock) -> APIRouter:
    """All routes; nothing is connected yet."""
    edge = Edge(publisher, settings.reporting_currency, wall, Waiting(settings.ingest_waiting_limit), settings.naming)
    ways_in = (
        events.create_router(edge),
        segment.create_router(edge, Origins(frozenset(settings.cors_origins))),
        poslog.create_router(edge, _stores(settings)),
        shopify.create_router(edge, settings.shopify_webhook_secrets),
    )
    people = (
        customers.create_router(edge, clock),
        merges.create_router(edge, clock),
        consent_texts.create_router(clock),
        privacy.create_router(settings.naming, clock, wall, settings.master is not None),
    )
    rest = (
        service_points.create_router(settings.places, clock),
        overview.router,
        timeline.router,
        export.router,
        keys.create_router(settings.pepper, wall),
    )
    router = APIRouter(prefix="/v1")
    for part in (*ways_in, *people, *rest):
        router.include_router(part)
    return router


def _stores(settings: IdentitySettings) -> Stores:
    zones = {store: ZoneInfo(name) for store, name in settings.store_time_zones.items()}
    return Stores(zones, ZoneInfo(settings.home_time_zone), settings.reporting_currency, settings.poslog_customer)
