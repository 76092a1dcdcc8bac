"""What identity is told from outside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from services.identity.domain.references import REFERENCE_TYPES, normalise
from services.identity.domain.trust import DEFAULT_LIMITS, DEFAULT_MERGE_BY, Limit, Rules
from shared.settings import Settings


class IdentitySettings(Settings):
    """Identity's own choices."""

    port: Annotated[int, Field(ge=1, le=65535)] = 8081
    reference_cache: Annotated[int, Field(ge=1000)] = 100_000
    """How many references a process keeps in memory; about 300 bytes each."""
    ingest_waiting_limit: Annotated[int, Field(ge=1)] = 10_000
    """Events that may wait for the broker in one process; whoever brings more is told to come again (429)."""
    home_time_zone: str = "UTC"
    """Of tills whose store is not among `store_time_zones`."""
    store_time_zones: dict[str, str] = Field(default_factory=dict)
    """Of tills that write no zone: the store, as tills name it, and its IANA zone."""
    shopify_webhook_secrets: Annotated[tuple[str, ...], NoDecode] = ()
    """What Shopify signs with; several, because a secret is changed while both are in use."""

    merge_references: Annotated[tuple[str, ...], NoDecode] = DEFAULT_MERGE_BY
    """Kinds of references that merge two customers when one event names both by them; none: only people merge."""
    reference_limits: dict[str, Limit] = Field(default_factory=dict)
    """How many references of a kind a customer may have, where the default is to be another one."""
    blocked_references: Annotated[tuple[str, ...], NoDecode] = ()
    """References that name nobody, such as a shop's own number or the device of a kiosk."""
    profile_limit: Annotated[int, Field(ge=2, le=64)] = 32
    """How many profiles a customer may consist of."""

    def rules(self) -> Rules:
        """How far references are believed."""
        limits: Mapping[str, Limit] = {**DEFAULT_LIMITS, **self.reference_limits}
        return Rules(frozenset(self.merge_references), limits, frozenset(self.blocked_references), self.profile_limit)

    @field_validator("merge_references", "blocked_references", mode="before")
    @classmethod
    def _split_by_commas(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("merge_references", "reference_limits")
    @classmethod
    def _kinds(cls, value: Iterable[str]) -> Iterable[str]:
        for kind in value:
            if kind not in REFERENCE_TYPES:
                raise ValueError(f"{kind!r} is no kind of reference; one of {', '.join(REFERENCE_TYPES)} is expected")
        return value

    @field_validator("blocked_references")
    @classmethod
    def _in_one_spelling(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        normalised = [normalise(reference) for reference in value]
        for reference, known in zip(value, normalised, strict=True):
            if known is None:
                raise ValueError(f"{reference!r} is no reference; a kind and a value are expected, such as phone:+6621234567")
        return tuple(filter(None, normalised))

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

    @field_validator("shopify_webhook_secrets", mode="before")
    @classmethod
    def _split_secrets(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _check_zones(names: Iterable[str]) -> None:
    for name in names:
        try:
            ZoneInfo(name)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError(f"{name!r} is no time zone; one such as Asia/Bangkok is expected") from error
