"""API keys by name: two of a name may be active at once, so that one can be put in the other's place without a pause."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

ACTIVE_MAX = 2


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """One key; its secret is not here."""

    id: str
    digest: bytes
    scopes: tuple[str, ...]
    rate: int
    created_at: datetime
    created_by: str
    expires_at: datetime | None = None
    revoked_at: datetime | None = None

    def is_active(self, at: datetime) -> bool:
        """Does it open anything?"""
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > at)


class TooManyActive(Exception):
    """The name has as many active keys as it may; `ids` are theirs."""

    def __init__(self, ids: tuple[str, ...]) -> None:
        super().__init__(f"{len(ids)} active keys")
        self.ids = ids


def with_key(keys: tuple[KeyRecord, ...], new: KeyRecord) -> tuple[KeyRecord, ...]:
    """The keys of a name and a new one. Raises TooManyActive."""
    active = tuple(key.id for key in keys if key.is_active(new.created_at))
    if len(active) >= ACTIVE_MAX:
        raise TooManyActive(active)
    return (*keys, new)


def revoked(keys: tuple[KeyRecord, ...], key_id: str, at: datetime) -> tuple[KeyRecord, ...]:
    """The keys with one of them revoked; revoking it again keeps the first time."""
    return tuple(replace(key, revoked_at=key.revoked_at or at) if key.id == key_id else key for key in keys)
