"""The keys that a process knows, and its verdict on one that is presented."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from hmac import compare_digest

from shared.access import metrics
from shared.access.buckets import Bucket
from shared.access.keys import Key, Roster, digest_of, is_service_key, read_presented
from shared.access.scopes import Scope
from shared.streaming.errors import Unavailable

log = logging.getLogger(__name__)

REFRESH_SECONDS = 5.0
"""A key that was revoked works on for at most so long on the other services."""
ASK_AGAIN_SECONDS = 1.0
"""A key that nobody knows makes a process ask identity at once, but not more often than this."""

LearnKeys = Callable[[], Awaitable[Roster]]


class Refused(StrEnum):
    """Why a request is not let in: counted and shown."""

    NO_KEY = "no_key"
    UNKNOWN_KEY = "unknown_key"
    EXPIRED = "expired"
    REVOKED = "revoked"
    MISSING_SCOPE = "missing_scope"
    RATE_LIMITED = "rate_limited"
    KEYS_NOT_KNOWN = "keys_not_known"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as the audit log names him, and what he may."""

    who: str
    scopes: frozenset[str] = frozenset()
    may_all: bool = False
    bucket: Bucket | None = None

    def may(self, *any_of: str) -> bool:
        """Does one of these scopes lie within his?"""
        return self.may_all or not self.scopes.isdisjoint(any_of)


OPEN = Caller("open", may_all=True)
"""Whoever asks a process that listens on loopback while there is no key."""


async def no_keys() -> Roster:
    """For a service that stands alone."""
    return Roster()


@dataclass
class Keyring:
    """What identity last said. It is used until identity says something else, however long that takes."""

    pepper: bytes | None
    learn: LearnKeys
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    steady: Callable[[], float] = time.monotonic
    _keys: dict[str, Key] = field(default_factory=dict)
    _buckets: dict[str, Bucket] = field(default_factory=dict)
    _learnt_at: float | None = None
    _asked_at: float | None = None
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def is_known(self) -> bool:
        """Did identity ever say which keys there are?"""
        return self._learnt_at is not None

    @property
    def is_empty(self) -> bool:
        """Was no key ever made?"""
        return self.is_known and not self._keys

    def use(self, roster: Roster) -> None:
        """Go by these keys from now on. Buckets stay as full as they are unless the rate changed."""
        self._keys = {key.id: key for key in roster.keys}
        self._buckets = {id: bucket for id, bucket in self._buckets.items() if id in self._keys and self._keys[id].rate == bucket.rate}
        self._learnt_at = self.steady()
        metrics.KEYS.set(sum(self._lapsed(key) is None for key in roster.keys))

    async def refresh(self) -> None:
        """Ask which keys there are. Raises Unavailable; what was known stays."""
        async with self._asking:
            self._asked_at = self.steady()
            self.use(await self.learn())

    async def refresh_for(self, presented: str) -> None:
        """Ask again where that may help: nothing is known yet, or not this key."""
        given = read_presented(presented)
        is_news = not self.is_known or (given is not None and given.service is None and given.id not in self._keys)
        asked_at = self._asked_at
        if is_news and (asked_at is None or self.steady() - asked_at >= ASK_AGAIN_SECONDS):
            with suppress(Unavailable):
                await self.refresh()

    async def follow(self, on_known: Callable[[], object]) -> None:
        """Keep up with identity until cancelled; `on_known` is called whenever it answered."""
        said = ""
        while True:
            try:
                await self.refresh()
            except Unavailable as away:
                if str(away) != said:
                    said = str(away)
                    log.warning("which keys there are is not known anew: %s", away)
            else:
                said = ""
                on_known()
            if self._learnt_at is not None:
                metrics.KEYS_AGE_SECONDS.set(self.steady() - self._learnt_at)
            await asyncio.sleep(self._pause_seconds())

    def _pause_seconds(self) -> float:
        """The first key closes what was open: it is looked for more often."""
        if not self.is_known:
            return ASK_AGAIN_SECONDS / 4
        return ASK_AGAIN_SECONDS if self.is_empty else REFRESH_SECONDS

    def judge(self, presented: str) -> Caller | Refused:
        """Whose key it is. The same work is done for keys that are known and that are not, so the time taken tells nothing."""
        given = read_presented(presented)
        if given is None or self.pepper is None:
            return Refused.UNKNOWN_KEY if presented else Refused.NO_KEY
        if given.service is not None:
            return Caller(f"service:{given.service}", may_all=True) if is_service_key(self.pepper, given) else Refused.UNKNOWN_KEY
        key = self._keys.get(given.id)
        digest = digest_of(self.pepper, given.id, given.secret)
        if not compare_digest(digest, key.digest if key else bytes(len(digest))) or key is None:
            return Refused.UNKNOWN_KEY
        return self._lapsed(key) or Caller(f"key:{key.id}", frozenset(key.scopes), bucket=self._bucket(key))

    def _lapsed(self, key: Key) -> Refused | None:
        if key.revoked:
            return Refused.REVOKED
        return Refused.EXPIRED if key.expires_at is not None and key.expires_at <= self.now() else None

    def _bucket(self, key: Key) -> Bucket:
        if key.id not in self._buckets:
            self._buckets[key.id] = Bucket(key.rate, self.steady())
        return self._buckets[key.id]


def write_key_callers(write_keys: Iterable[str]) -> Mapping[bytes, Caller]:
    """The keys of DEAR_INGEST_WRITE_KEYS: they send events and do nothing else. The log knows them by their place in the list."""
    scopes = frozenset({Scope.INGEST.value})
    return {key.encode(): Caller(f"write-key:{place}", scopes) for place, key in enumerate(write_keys, 1)}
