"""Where customers are served: the nearest place, and whether it is open."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from math import asin, cos, radians, sin, sqrt
from zoneinfo import ZoneInfo

from services.identity.domain.customers import CustomerState

EARTH_KM = 6371.0088
"""The mean radius: a sphere is within half a per cent of the earth."""


@dataclass(frozen=True, slots=True)
class Place:
    """Degrees, north and east."""

    latitude: float
    longitude: float


@dataclass(frozen=True, slots=True)
class Hours:
    """Open from, and until; a closing time that is not later is of the next day."""

    opens: time
    closes: time


@dataclass(frozen=True, slots=True)
class ServicePoint:
    """One place. `week` begins on Monday; `other_days` overrule it: holidays, with no hours at all."""

    point_id: str
    name: str
    place: Place
    zone: ZoneInfo
    week: tuple[tuple[Hours, ...], ...]
    other_days: Mapping[date, tuple[Hours, ...]] = field(default_factory=dict)

    def hours_on(self, day: date) -> tuple[Hours, ...]:
        """When it opens on a day of its own calendar."""
        return self.other_days.get(day, self.week[day.weekday()])

    def is_open(self, at: datetime) -> bool:
        """At this moment, by the clock on its wall. Nights belong to the day on which they begin."""
        local = at.astimezone(self.zone)
        today, now = local.date(), local.time()
        if any(each.opens <= now and (now < each.closes or each.closes <= each.opens) for each in self.hours_on(today)):
            return True
        return any(each.closes <= each.opens and now < each.closes for each in self.hours_on(today - timedelta(days=1)))


def distance_km(one: Place, other: Place) -> float:
    """Along a great circle (haversine)."""
    north, east = radians(other.latitude - one.latitude), radians(other.longitude - one.longitude)
    half = sin(north / 2) ** 2 + cos(radians(one.latitude)) * cos(radians(other.latitude)) * sin(east / 2) ** 2
    return 2 * EARTH_KM * asin(min(1.0, sqrt(half)))


def nearest(points: Iterable[ServicePoint], place: Place, open_at: datetime | None = None) -> list[tuple[float, ServicePoint]]:
    """The points with their distances, the nearest first; with `open_at` those that are open then."""
    found = [(distance_km(place, point.place), point) for point in points if open_at is None or point.is_open(open_at)]
    return sorted(found, key=lambda each: (each[0], each[1].point_id))


def place_of(state: CustomerState) -> Place | None:
    """Where a customer is, by the traits `latitude` and `longitude`, which are texts or whole degrees."""
    said = [state.traits.get(name) for name in ("latitude", "longitude")]
    try:
        latitude, longitude = (float(str(each.value)) for each in said if each is not None)
    except ValueError:
        return None
    return Place(latitude, longitude) if -90 <= latitude <= 90 and -180 <= longitude <= 180 else None
