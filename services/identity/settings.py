"""What identity is told from outside."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import date, time, timedelta
from functools import cached_property
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_settings import NoDecode

from services.identity.domain import privacy
from services.identity.domain.references import REFERENCE_TYPES, Naming, is_region, naming
from services.identity.domain.service_points import Hours, Place, ServicePoint
from services.identity.domain.trust import DEFAULT_LIMITS, DEFAULT_MERGE_BY, Limit, Rules
from shared.retained import Retained
from shared.settings import Settings

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEK: tuple[Weekday, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_OPENING = re.compile(r"([01]\d|2[0-3]):[0-5]\d-(([01]\d|2[0-3]):[0-5]\d|24:00)")


def _as_hours(written: str) -> str:
    if not _OPENING.fullmatch(written):
        raise ValueError(f"{written!r} are no hours; such as 09:00-18:00, 22:00-02:00 (until the next day) or 00:00-24:00 are expected")
    return written.replace("-24:00", "-00:00")


Opening = Annotated[str, AfterValidator(_as_hours)]


class PointSetting(BaseModel):
    """One service point, as a shopkeeper writes it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    name: str
    latitude: Annotated[float, Field(ge=-90, le=90)]
    longitude: Annotated[float, Field(ge=-180, le=180)]
    time_zone: str
    hours: dict[Weekday, tuple[Opening, ...]] = Field(default_factory=dict)
    """A day that is absent is closed."""
    other_days: dict[date, tuple[Opening, ...]] = Field(default_factory=dict)
    """Days with hours of their own; empty: closed."""

    @field_validator("time_zone")
    @classmethod
    def _known(cls, value: str) -> str:
        _check_zones((value,))
        return value

    def point(self) -> ServicePoint:
        """The same as the domain knows it."""
        week = tuple(_hours(self.hours.get(day, ())) for day in WEEK)
        other_days = {day: _hours(hours) for day, hours in self.other_days.items()}
        return ServicePoint(self.id, self.name, Place(self.latitude, self.longitude), ZoneInfo(self.time_zone), week, other_days)


def _hours(written: Iterable[str]) -> tuple[Hours, ...]:
    return tuple(Hours(*map(time.fromisoformat, each.split("-"))) for each in written)


class IdentitySettings(Settings):
    """Identity's own choices."""

    port: Annotated[int, Field(ge=1, le=65535)] = 8081
    reference_cache: Annotated[int, Field(ge=1000)] = 100_000
    """How many references a process keeps in memory; about 300 bytes each."""
    ingest_waiting_limit: Annotated[int, Field(ge=1)] = 10_000
    """Events that may wait for the broker in one process; whoever brings more is told to come again (429)."""
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """Web pages, such as https://shop.example, from which browsers may send Segment's messages; `*` is every page, and without any none."""
    home_time_zone: str = "UTC"
    """Of tills whose store is not among `store_time_zones`."""
    store_time_zones: dict[str, str] = Field(default_factory=dict)
    """Of tills that write no zone: the store, as tills name it, and its IANA zone."""
    poslog_customer: str = "user:poslog/"
    """What is put before the number of a till's customer who shows no card: a kind of reference, and the system whose number it is."""
    home_region: str | None = None
    """The country (ISO 3166) of numbers without a country code, where `store_regions` has none; without it they keep their digits."""
    store_regions: dict[str, str] = Field(default_factory=dict)
    """The countries of stores, as tills name them."""
    blocked_references: Annotated[tuple[str, ...], NoDecode] = ()
    """References that name nobody, beside zeros, `null` and the like: a shop's own number, a test card, the device of a kiosk."""
    service_points: tuple[PointSetting, ...] = ()
    """Where customers are served."""
    shopify_webhook_secrets: Annotated[tuple[str, ...], NoDecode] = ()
    """What Shopify signs with; several, because a secret is changed while both are in use."""
    erasure_settle_seconds: Annotated[float, Field(ge=0)] = 120.0
    """How long an erasure waits before it looks a second time: longer than a worker may take over a batch."""
    archive_days: Annotated[float, Field(gt=0)] = 14.0
    """How long the archive of an access request may be fetched."""
    merge_references: Annotated[tuple[str, ...], NoDecode] = DEFAULT_MERGE_BY
    """Kinds of references that merge two customers when one event names both by them; none: only people merge."""
    reference_limits: dict[str, Limit] = Field(default_factory=dict)
    """How many references of a kind a customer may have, where the default is to be another one."""
    profile_limit: Annotated[int, Field(ge=2, le=64)] = 32
    """How many profiles a customer may consist of."""

    @property
    def privacy_rules(self) -> privacy.Rules:
        """What the clerk goes by."""
        return privacy.Rules(timedelta(seconds=self.erasure_settle_seconds), timedelta(days=self.archive_days))

    @field_validator("merge_references", "reference_limits")
    @classmethod
    def _kinds(cls, value: Iterable[str]) -> Iterable[str]:
        for kind in value:
            if kind not in REFERENCE_TYPES:
                raise ValueError(f"{kind!r} is no kind of reference; one of {', '.join(REFERENCE_TYPES)} is expected")
        return value

    @field_validator("home_time_zone")
    @classmethod
    def _known(cls, value: str) -> str:
        _check_zones((value,))
        return value

    @field_validator("store_time_zones")
    @classmethod
    def _all_known(cls, value: dict[str, str]) -> dict[str, str]:
        _check_zones(value.values())
        return value

    @field_validator("cors_origins")
    @classmethod
    def _pages(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for each in value:
            if each != "*" and not _ORIGIN.fullmatch(each):
                raise ValueError(f"{each!r} is no origin of pages; one such as https://shop.example, without a path, is expected")
        return value

    @field_validator("poslog_customer")
    @classmethod
    def _begins_a_reference(cls, value: str) -> str:
        if value.partition(":")[0] not in REFERENCE_TYPES or ":" not in value or not value.isprintable():
            raise ValueError(f"{value!r} begins no reference; one such as loyalty_card: or user:crm/ is expected")
        return value

    @field_validator("home_region")
    @classmethod
    def _a_region(cls, value: str | None) -> str | None:
        _check_regions((value,) if value else ())
        return value or None

    @field_validator("store_regions")
    @classmethod
    def _regions(cls, value: dict[str, str]) -> dict[str, str]:
        _check_regions(value.values())
        return value

    @model_validator(mode="after")
    def _references(self) -> IdentitySettings:
        try:
            _ = self.naming
        except ValueError as error:
            raise ValueError(f"DEAR_BLOCKED_REFERENCES: {error}") from error
        return self

    @model_validator(mode="after")
    def _can_erase(self) -> IdentitySettings:
        if Retained.INACTIVE_CUSTOMERS in self.retention_days and self.master is None:
            raise ValueError("retention_days: inactive_customers are erased, which needs DEAR_MASTER_KEY; set it, or leave the kind out")
        return self

    @cached_property
    def places(self) -> tuple[ServicePoint, ...]:
        """The service points."""
        return tuple(each.point() for each in self.service_points)

    @cached_property
    def naming(self) -> Naming:
        """How references are read."""
        return naming(self.home_region, self.store_regions, self.blocked_references)

    @cached_property
    def rules(self) -> Rules:
        """How far references are believed."""
        limits: Mapping[str, Limit] = {**DEFAULT_LIMITS, **self.reference_limits}
        return Rules(frozenset(self.merge_references), limits, self.profile_limit)

    @field_validator("shopify_webhook_secrets", "blocked_references", "merge_references", "cors_origins", mode="before")
    @classmethod
    def _split_list(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


_ORIGIN = re.compile(r"https?://[a-z0-9.\-]+(:\d{1,5})?|https?://\[[0-9a-f:]+\](:\d{1,5})?")


def _check_zones(names: Iterable[str]) -> None:
    for name in names:
        try:
            ZoneInfo(name)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError(f"{name!r} is no time zone; one such as Asia/Bangkok is expected") from error


def _check_regions(codes: Iterable[str]) -> None:
    for code in codes:
        if not is_region(code):
            raise ValueError(f"{code!r} is no country; a code of two capital letters such as TH is expected")
