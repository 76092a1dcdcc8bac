"""Keys as they are presented, kept and checked. A secret is kept nowhere: only its hash, keyed with a pepper that no database holds."""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from datetime import datetime

import msgspec

ID_BYTES = 8
SECRET_BYTES = 24
"""Too many to guess, so one fast keyed hash is enough: slow hashes are for what people can remember."""
_SERVICE = "svc-"
_PRESENTED = re.compile(r"dear_([0-9a-f]{16}|svc-[a-z-]{1,40})_([0-9a-f]{48,64})")


class Key(msgspec.Struct, frozen=True):
    """One key, as identity tells the other services of it."""

    id: str
    digest: bytes
    scopes: tuple[str, ...]
    rate: int
    """Requests a second, on each process that is asked."""
    expires_at: datetime | None = None
    revoked: bool = False


class Roster(msgspec.Struct, frozen=True):
    """Every key that was ever made. While there is none, what listens on loopback is open."""

    keys: tuple[Key, ...] = ()


@dataclass(frozen=True, slots=True)
class Presented:
    """A key as a caller sends it."""

    id: str
    secret: str

    @property
    def service(self) -> str | None:
        """The service that it names itself; None for keys that were made for others."""
        return self.id.removeprefix(_SERVICE) if self.id.startswith(_SERVICE) else None


def read_presented(text: str) -> Presented | None:
    """`dear_<id>_<secret>`; None where it is nothing of the kind."""
    match = _PRESENTED.fullmatch(text)
    return Presented(match[1], match[2]) if match else None


def presented(key_id: str, secret: str) -> str:
    """As the holder keeps it."""
    return f"dear_{key_id}_{secret}"


def digest_of(pepper: bytes, key_id: str, secret: str) -> bytes:
    """What is kept of a secret."""
    return hmac.digest(pepper, f"key\0{key_id}\0{secret}".encode(), "sha256")


def service_key(pepper: bytes, name: str) -> str:
    """The credential by which one of our own processes names itself: whoever holds the pepper can make it, and any key besides."""
    return presented(_SERVICE + name, hmac.digest(pepper, f"service\0{name}".encode(), "sha256").hex())


def is_service_key(pepper: bytes, given: Presented) -> bool:
    """Did a holder of the pepper make it?"""
    expected = service_key(pepper, given.service or "")
    return hmac.compare_digest(expected.encode(), presented(given.id, given.secret).encode())
