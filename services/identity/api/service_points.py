"""Where customers are served, and the nearest place for one of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query

from services.identity.api.customers import by_id
from services.identity.domain.service_points import Place, ServicePoint, nearest, place_of
from shared.access.audit import about
from shared.access.gate import needs
from shared.access.scopes import Scope
from shared.clock import Clock
from shared.mongo import in_store
from shared.problems import Problem

_UNKNOWN: dict[int | str, dict[str, Any]] = {
    404: {"description": "No such customer."},
    422: {"description": "No place is known to measure from."},
}


def create_router(points: Sequence[ServicePoint], clock: Clock) -> APIRouter:
    """Service points."""
    router = APIRouter(prefix="/service-points", tags=["service points"], dependencies=[needs(Scope.PROFILES_READ)])

    @router.get("/nearest", responses=_UNKNOWN)
    async def find_nearest(
        customer_id: str | None = None,
        latitude: Annotated[float | None, Query(ge=-90, le=90)] = None,
        longitude: Annotated[float | None, Query(ge=-180, le=180)] = None,
        is_open: bool = False,
        limit: Annotated[int, Query(ge=1, le=100)] = 3,
    ) -> dict[str, Any]:
        """The nearest to a customer, by its traits `latitude` and `longitude`, or to a place; with `is_open` of those that are open now."""
        given = Place(latitude, longitude) if latitude is not None and longitude is not None else None
        place = given or (await in_store(_place_of, customer_id) if customer_id is not None else None)
        if place is None:
            raise Problem(422, "No place", "Give latitude and longitude, or a customer_id whose traits have both in degrees.")
        now = clock.now()
        found = nearest(points, place, now if is_open else None)[:limit]
        return {"service_points": [{**_shown(point, now), "distance_km": round(away, 3)} for away, point in found]}

    @router.get("")
    async def every() -> dict[str, Any]:
        """All of them, and whether they are open now."""
        now = clock.now()
        return {"service_points": [_shown(point, now) for point in points]}

    return router


def _place_of(customer_id: str) -> Place | None:
    state = by_id(customer_id)
    about(state.customer_id)
    return place_of(state)


def _shown(point: ServicePoint, now: datetime) -> dict[str, Any]:
    where = {"latitude": point.place.latitude, "longitude": point.place.longitude, "time_zone": point.zone.key}
    today = point.hours_on(now.astimezone(point.zone).date())
    hours = [f"{each.opens:%H:%M}-{each.closes:%H:%M}" for each in today]
    return {"id": point.point_id, "name": point.name, **where, "hours_today": hours, "is_open": point.is_open(now)}
