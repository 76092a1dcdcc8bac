"""The nearest place where a customer is served, and whether it is open there now."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from services.identity.domain.customers import CustomerState, Said
from services.identity.domain.service_points import Hours, Place, ServicePoint, distance_km, nearest, place_of
from services.identity.settings import IdentitySettings

BANGKOK, CHIANG_MAI, LONDON, NEW_YORK = Place(13.7563, 100.5018), Place(18.7883, 98.9853), Place(51.5074, -0.1278), Place(40.7128, -74.0060)
DAY = (Hours(time(9), time(18)),)
NIGHT = (Hours(time(20), time(2)),)


def point(name: str, place: Place, hours: tuple[Hours, ...] = DAY, **more: Any) -> ServicePoint:
    return ServicePoint(name, name, place, ZoneInfo("Asia/Bangkok"), (hours,) * 6 + ((),), **more)


@pytest.mark.parametrize(
    ("one", "other", "km"),
    [(LONDON, NEW_YORK, 5570), (BANGKOK, CHIANG_MAI, 583), (BANGKOK, BANGKOK, 0), (Place(0, 179.5), Place(0, -179.5), 111)],
)
def test_distances_are_along_the_earth(one: Place, other: Place, km: float) -> None:
    assert distance_km(one, other) == pytest.approx(km, rel=0.005, abs=0.001)
    assert distance_km(one, other) == distance_km(other, one)


@pytest.mark.parametrize(
    ("utc", "is_open"),
    [
        ("2026-03-02T02:00", True),
        ("2026-03-02T01:59", False),
        ("2026-03-02T10:59", True),
        ("2026-03-02T11:00", False),
        ("2026-03-01T05:00", False),
    ],
)
def test_it_is_open_by_the_clock_on_its_wall(utc: str, is_open: bool) -> None:
    assert point("a", BANGKOK).is_open(datetime.fromisoformat(utc).replace(tzinfo=UTC)) is is_open


@pytest.mark.parametrize(
    ("bangkok", "is_open"),
    [
        ("2026-03-02T21:00", True),
        ("2026-03-03T01:59", True),
        ("2026-03-03T02:00", False),
        ("2026-03-02T01:00", False),
        ("2026-03-08T01:00", True),
    ],
)
def test_a_night_belongs_to_the_day_on_which_it_begins(bangkok: str, is_open: bool) -> None:
    assert point("a", BANGKOK, NIGHT).is_open(datetime.fromisoformat(bangkok).replace(tzinfo=ZoneInfo("Asia/Bangkok"))) is is_open


def test_a_holiday_has_hours_of_its_own() -> None:
    noon = datetime(2026, 3, 2, 5, tzinfo=UTC)
    assert not point("a", BANGKOK, other_days={date(2026, 3, 2): ()}).is_open(noon)
    assert point("a", BANGKOK, other_days={date(2026, 3, 1): DAY}).is_open(noon.replace(day=1))


def test_the_nearest_is_first_and_a_closed_one_is_passed_over() -> None:
    north, here = point("north", CHIANG_MAI, NIGHT), point("here", BANGKOK)
    assert [each.name for _, each in nearest([north, here], BANGKOK)] == ["here", "north"]
    evening = datetime(2026, 3, 2, 14, tzinfo=UTC)
    assert [each.name for _, each in nearest([north, here], BANGKOK, evening)] == ["north"]


@pytest.mark.parametrize(
    ("latitude", "longitude", "place"),
    [
        ("13.7563", "100.5018", BANGKOK),
        (13, 100, Place(13, 100)),
        ("13.7563", None, None),
        ("north", "east", None),
        ("91", "0", None),
        ("nan", "0", None),
    ],
)
def test_a_customer_is_where_its_traits_say(latitude: Any, longitude: Any, place: Place | None) -> None:
    traits = {name: Said(0, "e", value) for name, value in (("latitude", latitude), ("longitude", longitude))}
    assert place_of(CustomerState("c", frozenset("c"), frozenset(), 0, traits)) == place


SHOP = {
    "id": "120",
    "name": "Silom",
    "latitude": 13.7,
    "longitude": 100.5,
    "time_zone": "Asia/Bangkok",
    "hours": {"mon": ["09:00-12:00", "13:00-18:00"]},
}


def test_service_points_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEAR_SERVICE_POINTS", json.dumps([{**SHOP, "other_days": {"2026-04-13": []}}]))
    (found,) = IdentitySettings().places
    assert found.week == ((Hours(time(9), time(12)), Hours(time(13), time(18))), (), (), (), (), (), ())
    assert (found.zone.key, found.other_days) == ("Asia/Bangkok", {date(2026, 4, 13): ()})


@pytest.mark.parametrize(
    "wrong", [{"latitude": 91}, {"time_zone": "Bangkok"}, {"hours": {"monday": []}}, {"hours": {"mon": ["9-18"]}}, {"fax": "1"}]
)
def test_a_service_point_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="service_points"):
        IdentitySettings(service_points=({**SHOP, **wrong},))
