"""What people state through the routes on customers: appended as what any source says, and once for each Idempotency-Key."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.identity.api.edge import Edge, Verdict
from services.identity.domain.events import SourceEvent
from services.identity.store import timeline
from shared.clock import Clock
from shared.contracts.envelope import EventData, envelope
from shared.mongo import in_store
from shared.problems import Problem

API_SOURCE = "dear/identity/api"


@dataclass(frozen=True, slots=True)
class Statement:
    """An event on its way to customer-updates-v1."""

    source: str
    id: str
    raw: bytes
    may_be_a_retry: bool


def stated(data: EventData, key: str | None, clock: Clock, *, at: datetime | None = None, source: str = API_SOURCE) -> Statement:
    """The event that says so. Where nobody said when, a retry comes with another time and has to be the same all the same."""
    event = envelope(data, id=key or uuid.uuid4().hex, source=source, time=at or clock.now())
    undated: dict[str, Any] = {} if at else {"sourcetime": ""}
    raw = json.dumps({**event.model_dump(mode="json"), **undated}).encode()
    return Statement(source, event.id, raw, key is not None)


async def append(statement: Statement, edge: Edge, own: bool = False) -> SourceEvent:
    """Append the statement unless it was; returns it as it was said first. `own`: only Dear's routes may ask for it.

    Raises the edge's problems, and 409 where the key was used for something else.
    """
    if statement.may_be_a_retry:
        before = await in_store(_said_before, _event(edge.read(statement.raw, own)), edge)
        if before is not None:
            return before
    return _event(await (edge.accept_request if own else edge.accept)(statement.raw))


def as_first_said(event: SourceEvent, edge: Edge) -> SourceEvent:
    """The event as it is kept, once it is: of a retry that was sent before, the first one's time counts."""
    kept = timeline.event_under(event.key)
    return event if kept is None else _event(edge.read(kept, own=True))


def _event(verdict: Verdict) -> SourceEvent:
    if verdict.problem is not None:
        raise verdict.problem
    assert verdict.event is not None
    return verdict.event


def _said_before(event: SourceEvent, edge: Edge) -> SourceEvent | None:
    kept = timeline.kept_under((event.key,)).get(event.key)
    if kept is None:
        return None
    if kept.content_hash != event.content_hash:
        detail = "The Idempotency-Key was used for another request. Send this one with a key of its own."
        raise Problem(409, "Another request", detail)
    return as_first_said(event, edge)
