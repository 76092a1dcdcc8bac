"""Who read or changed what: changes are written down before they happen, reads within half a second after."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from shared.access import metrics, store
from shared.mongo import in_store
from shared.streaming.errors import Unavailable

log = logging.getLogger(__name__)

FLUSH_SECONDS = 0.5
FLUSH_ENTRIES = 500
WAITING_MAX = 10_000
NAMED_MAX = 1000
"""An entry names so many customers; of more, it says how many."""
BEGUN = "begun"
"""The outcome of a change that was about to be made; the entry with its status has the same `request`."""


class Action(StrEnum):
    """What was done with the data."""

    READ = "read"
    CHANGE = "change"


@dataclass(slots=True)
class Trail:
    """What one request does, while it is answered."""

    who: str = ""
    action: Action | None = None
    """None: nothing that is to be written down."""
    method: str = ""
    route: str = ""
    headers: Sequence[tuple[bytes, bytes]] = ()
    """What the caller is told of his rate limit."""
    request: str = ""
    """The same in all entries of one request."""
    subjects: dict[str, None] = field(default_factory=dict)


_trail: ContextVar[Trail | None] = ContextVar("trail", default=None)


def begin_trail(trail: Trail) -> None:
    """The request in hand leaves this trail from now on."""
    _trail.set(trail)


def current_trail() -> Trail:
    """The trail of the request in hand."""
    return _trail.get() or Trail()


def about(*customer_ids: str) -> None:
    """Say whose data the request in hand reads or changes, where its path does not say so. Ids only, never references."""
    current_trail().subjects.update(dict.fromkeys(customer_ids))


def about_all(customer_ids: Iterable[str]) -> None:
    """The same of many."""
    about(*customer_ids)


class AuditLog:
    """The log of one service. `database` is its name, and the alias of its connection."""

    def __init__(self, database: str) -> None:
        self.database = database
        self._waiting: deque[dict[str, Any]] = deque()
        self._wake = asyncio.Event()

    @property
    def is_full(self) -> bool:
        """The database has been away for long: nothing may be read that cannot be written down."""
        return len(self._waiting) >= WAITING_MAX

    async def write_ahead(self, trail: Trail) -> None:
        """Write that a change is about to be made. Raises Unavailable, and then it must not be made."""
        await in_store(store.append, self.database, [_entry(trail, BEGUN)])
        metrics.AUDITED.labels(Action.CHANGE.value).inc()

    def note(self, trail: Trail, status: int) -> None:
        """Have it written soon; costs the request nothing."""
        self._waiting.append(_entry(trail, str(status)))
        metrics.AUDIT_WAITING.set(len(self._waiting))
        if len(self._waiting) >= FLUSH_ENTRIES:
            self._wake.set()

    async def keep(self) -> None:
        """Write what waits, until cancelled."""
        await self._until_available(self._prepare)
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), FLUSH_SECONDS)
            self._wake.clear()
            with suppress(Unavailable):
                await self.flush()

    async def flush(self) -> None:
        """Write everything that waits. Raises Unavailable; what was not written waits on, and writing it twice leaves one."""
        while self._waiting:
            # A copy, because requests go on while the database writes.
            some = [self._waiting[index] for index in range(min(len(self._waiting), FLUSH_ENTRIES))]
            await in_store(store.append, self.database, some)
            for entry in some:
                self._waiting.popleft()
                metrics.AUDITED.labels(entry["action"]).inc()
            metrics.AUDIT_WAITING.set(len(self._waiting))

    async def finish(self) -> None:
        """Write the rest before leaving, and say how many could not be."""
        try:
            await self.flush()
        except Unavailable as away:
            metrics.AUDIT_LOST.inc(len(self._waiting))
            log.error("%d entries of the audit log are lost: %s", len(self._waiting), away)

    async def _prepare(self) -> None:
        await in_store(store.prepare, self.database)

    async def _until_available(self, attempt: Any) -> None:
        while True:
            try:
                await attempt()
            except Unavailable:
                await asyncio.sleep(FLUSH_SECONDS)
            else:
                return


def _entry(trail: Trail, outcome: str) -> dict[str, Any]:
    at = datetime.now(UTC)
    trail.request = trail.request or secrets.token_hex(8)
    subjects = list(trail.subjects)
    return {
        "_id": store.id_of(at, f"-{secrets.token_hex(6)}"),
        "at": at,
        "request": trail.request,
        "who": trail.who,
        "action": str(trail.action),
        "method": trail.method,
        "route": trail.route,
        "about": subjects[:NAMED_MAX],
        "shown": len(subjects),
        "outcome": outcome,
    }
