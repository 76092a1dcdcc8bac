"""What customers own, and when it needs care."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import date, timedelta
from enum import StrEnum
from math import ceil
from typing import Any

from services.identity.domain.customers import READING, CustomerState

_DAYS = ("since", "serviced_on", "warranty_ends_on", "renews_on")
_FARTHEST = timedelta(days=3650)
"""Beyond ten years no odometer says anything."""


class DueReason(StrEnum):
    """Why something is due."""

    SERVICE_BY_DATE = "service_by_date"
    SERVICE_BY_ODOMETER = "service_by_odometer"
    WARRANTY_ENDS = "warranty_ends"
    CONTRACT_RENEWS = "contract_renews"


@dataclass(frozen=True, slots=True)
class Due:
    """What is due, and on which day."""

    on: date
    reason: DueReason
    asset_id: str


@dataclass(frozen=True, slots=True)
class OwnedAsset:
    """One thing, as far as it was told."""

    asset_id: str
    kind: str | None = None
    label: str | None = None
    since: date | None = None
    service_every_days: int | None = None
    service_every_km: int | None = None
    serviced_on: date | None = None
    serviced_at_km: int | None = None
    odometer_km: int | None = None
    warranty_ends_on: date | None = None
    renews_on: date | None = None
    is_gone: bool = False
    readings: Mapping[date, int] = field(default_factory=dict)
    """Of the odometer: kilometres on a day."""


def assets_of(state: CustomerState) -> tuple[OwnedAsset, ...]:
    """Everything that was ever told of, in the order of the ids."""
    told: dict[str, dict[str, Any]] = {}
    readings: dict[str, dict[date, int]] = {}
    for (kind, name, of), said in state.details.items():
        if kind == "asset":
            told.setdefault(name, {})[of] = date.fromisoformat(str(said.value)) if of in _DAYS else said.value
        elif kind == READING and isinstance(said.value, int):
            readings.setdefault(name, {})[date.fromisoformat(of)] = said.value
    for name, of_it in readings.items():
        # What was said last may correct what was read long ago.
        told[name]["odometer_km"] = of_it[max(of_it)]
    known = {each.name for each in fields(OwnedAsset)}
    return tuple(
        OwnedAsset(name, readings=readings.get(name, {}), **{of: value for of, value in told[name].items() if of in known})
        for name in sorted(told)
    )


def due(asset: OwnedAsset) -> tuple[Due, ...]:
    """What becomes due, or became due and was not done, soonest first; a service by day or by odometer, whichever comes first."""
    if asset.is_gone:
        return ()
    service = min(_services(asset), default=None)
    ends = ((asset.warranty_ends_on, DueReason.WARRANTY_ENDS), (asset.renews_on, DueReason.CONTRACT_RENEWS))
    found = [(day, reason) for day, reason in ends if day is not None]
    return tuple(Due(day, reason, asset.asset_id) for day, reason in sorted([*found, *([service] if service else [])]))


def _services(asset: OwnedAsset) -> Iterator[tuple[date, DueReason]]:
    began = asset.serviced_on or asset.since
    if asset.service_every_days is not None and began is not None and (day := _later(began, asset.service_every_days)) is not None:
        yield day, DueReason.SERVICE_BY_DATE
    if asset.service_every_km is not None and (day := _reaches(asset, (asset.serviced_at_km or 0) + asset.service_every_km)) is not None:
        yield day, DueReason.SERVICE_BY_ODOMETER


def _reaches(asset: OwnedAsset, target_km: int) -> date | None:
    """The day on which the odometer shows so much, as read or at the pace of the readings; None where it cannot be told."""
    readings = sorted(asset.readings.items())
    passed = [day for day, km in readings if km >= target_km]
    if passed:
        return passed[0]
    if len(readings) < 2:
        return None
    (first_day, first_km), (last_day, last_km) = readings[0], readings[-1]
    driven = last_km - first_km
    if driven <= 0:
        return None
    days = ceil((target_km - last_km) * (last_day - first_day).days / driven)
    return _later(last_day, days) if days <= _FARTHEST.days else None


def _later(day: date, days: int) -> date | None:
    try:
        return day + timedelta(days=days)
    except OverflowError:
        return None
