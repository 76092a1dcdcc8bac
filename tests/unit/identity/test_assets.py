"""What is owned falls due by the calendar, by the odometer, or by its papers."""

from __future__ import annotations

import json
from datetime import date
from functools import reduce
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.identity.domain.assets import DueReason, OwnedAsset, assets_of, due
from services.identity.domain.customers import READINGS_KEPT, CustomerState, decision_makers_of, join, what_it_says
from services.identity.domain.events import SourceEvent, read_event
from services.identity.domain.rejects import Refusal, RejectReason
from tests.identity.world import CARD, day, identify


def said(id: str, number: int, **data: Any) -> CustomerState:
    event = read_event(json.dumps(identify(id, (CARD,), at=day(number), **data)).encode(), "USD")
    assert isinstance(event, SourceEvent), event
    return what_it_says(event, "p", "p", event.references)


def car(**told: Any) -> OwnedAsset:
    return OwnedAsset("car", "vehicle", **told)


SPRING, SUMMER = date(2026, 3, 1), date(2026, 6, 1)


@pytest.mark.parametrize(
    ("asset", "expected"),
    [
        (car(since=SPRING, service_every_days=365), [(date(2027, 3, 1), DueReason.SERVICE_BY_DATE)]),
        (car(since=SPRING, serviced_on=SUMMER, service_every_days=30), [(date(2026, 7, 1), DueReason.SERVICE_BY_DATE)]),
        (car(service_every_days=30), []),
        (car(service_every_km=10_000, readings={SPRING: 0, date(2026, 3, 11): 1_000}), [(date(2026, 6, 9), DueReason.SERVICE_BY_ODOMETER)]),
        (car(service_every_km=500, serviced_at_km=900, readings={SPRING: 1000, SUMMER: 1400}), [(SUMMER, DueReason.SERVICE_BY_ODOMETER)]),
        (car(service_every_km=10_000, readings={SPRING: 500}), []),
        (car(service_every_km=10_000, readings={SPRING: 500, SUMMER: 500}), []),
        (car(service_every_km=10_000, readings={SPRING: 500, SUMMER: 501}), []),
        (OwnedAsset("tv", "device", warranty_ends_on=SUMMER), [(SUMMER, DueReason.WARRANTY_ENDS)]),
        (OwnedAsset("plan", "contract", renews_on=SUMMER), [(SUMMER, DueReason.CONTRACT_RENEWS)]),
        (OwnedAsset("plan", "contract", renews_on=SUMMER, is_gone=True), []),
        (car(since=date(9999, 12, 1), service_every_days=365), []),
    ],
)  # fmt: skip
def test_what_is_due_when(asset: OwnedAsset, expected: list[tuple[date, DueReason]]) -> None:
    assert [(each.on, each.reason) for each in due(asset)] == expected


def test_a_service_is_due_by_date_or_odometer_whichever_comes_first() -> None:
    driven_little = car(since=SPRING, service_every_days=90, service_every_km=10_000, readings={SPRING: 0, SUMMER: 1_000})
    assert [each.reason for each in due(driven_little)] == [DueReason.SERVICE_BY_DATE]
    read_often = car(since=SPRING, service_every_days=90, service_every_km=10_000, readings={SPRING: 0, date(2026, 3, 8): 10_000})
    assert [(each.on, each.reason) for each in due(read_often)] == [(date(2026, 3, 8), DueReason.SERVICE_BY_ODOMETER)]


def test_an_odometer_is_read_again_without_saying_the_rest_again() -> None:
    state = join(
        said("1", 0, assets=[{"asset_id": "car", "kind": "vehicle", "label": "D-Max", "odometer_km": 100}]),
        said("2", 5, assets=[{"asset_id": "car", "odometer_km": 600}]),
    )
    (asset,) = assets_of(state)
    assert (asset.label, asset.odometer_km, list(asset.readings.values())) == ("D-Max", 600, [100, 600])


def test_a_reading_that_was_wrong_is_corrected_on_its_own_day() -> None:
    wrong = join(
        said("1", 0, assets=[{"asset_id": "car", "odometer_km": 999_999}]), said("2", 5, assets=[{"asset_id": "car", "odometer_km": 600}])
    )
    right = join(wrong, said("3", 9, assets=[{"asset_id": "car", "odometer_km": 100, "read_on": "2026-03-01"}]))
    (asset,) = assets_of(right)
    assert (asset.odometer_km, asset.readings) == (600, {SPRING: 100, date(2026, 3, 6): 600})
    newest = said("4", 10, assets=[{"asset_id": "car", "odometer_km": 650, "read_on": "2026-03-06"}])
    assert assets_of(join(right, newest))[0].odometer_km == 650


def test_an_odometer_was_not_read_in_the_future() -> None:
    for read_on, expected in (("2026-03-02", SourceEvent), ("2026-03-03", Refusal)):
        sent = identify("1", assets=[{"asset_id": "car", "odometer_km": 1, "read_on": read_on}])
        assert isinstance(read_event(json.dumps(sent).encode(), "USD"), expected)


def test_a_customer_owns_several_things() -> None:
    state = said("1", 0, assets=[{"asset_id": "tv", "kind": "device"}, {"asset_id": "car", "kind": "vehicle"}])
    assert [(each.asset_id, each.kind) for each in assets_of(state)] == [("car", "vehicle"), ("tv", "device")]


READINGS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 1000)), min_size=1, max_size=30)


@given(READINGS, st.randoms())
def test_readings_in_any_order_end_in_the_newest_few(readings: list[tuple[int, int]], random: Any) -> None:
    told = [said(f"{index}", on, assets=[{"asset_id": "car", "odometer_km": km}]) for index, (on, km) in enumerate(readings)]
    shuffled = told + told[:3]
    random.shuffle(shuffled)
    assert reduce(join, shuffled) == reduce(join, told)
    (asset,) = assets_of(reduce(join, told))
    assert sorted(asset.readings) == [day(on).date() for on in sorted({on for on, _ in readings})][-READINGS_KEPT:]


def test_a_day_that_no_calendar_has_is_refused() -> None:
    wrong = identify("1", assets=[{"asset_id": "car", "since": "2026-02-30"}])
    found = read_event(json.dumps(wrong).encode(), "USD")
    assert isinstance(found, Refusal)
    assert (found.reason, found.detail) == (RejectReason.INVALID, "data/assets: since is no day of the calendar")


def test_decision_makers_come_change_their_role_and_leave() -> None:
    state = said(
        "1",
        0,
        customer_type="wholesaler",
        decision_makers=[{"person_id": "g", "name": "Grace", "role": "buyer"}, {"person_id": "h", "name": "Hal"}],
    )
    state = join(
        state, said("2", 1, decision_makers=[{"person_id": "g", "role": "owner", "channel": "call"}, {"person_id": "h", "has_left": True}])
    )
    assert decision_makers_of(state) == [{"person_id": "g", "name": "Grace", "role": "owner", "channel": "call"}]
