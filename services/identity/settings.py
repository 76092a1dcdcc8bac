"""What identity is told from outside."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from services.identity.domain.privacy import Retained, Rules
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
    erasure_settle_seconds: Annotated[float, Field(ge=0)] = 120.0
    """How long an erasure waits before it looks a second time: longer than a worker may take over a batch."""
    archive_days: Annotated[float, Field(gt=0)] = 14.0
    """How long the archive of an access request may be fetched."""
    retention_days: dict[Retained, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    """How long each kind of data is kept; what is not named is kept for ever."""

    @property
    def privacy_rules(self) -> Rules:
        """What the clerk goes by."""
        return Rules(timedelta(seconds=self.erasure_settle_seconds), timedelta(days=self.archive_days))

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
