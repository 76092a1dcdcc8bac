"""The ingest edge: what every way in has in common."""

from __future__ import annotations

import asyncio
import base64
import binascii
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from fastapi import Request

from services.identity import metrics
from services.identity.domain.events import EVENT_LIMIT_BYTES, SourceEvent, read_event
from services.identity.domain.rejects import Refusal, RejectReason
from shared.clock import Clock
from shared.contracts.topics import Topic
from shared.problems import Problem
from shared.streaming.errors import MessageTooLarge, Unavailable
from shared.streaming.records import Message

BATCH_LIMIT_BYTES = 500_000
_STATUS = {RejectReason.MALFORMED_JSON: 400, RejectReason.OVERSIZED: 413}
_TITLES = {
    RejectReason.MALFORMED_JSON: "Not JSON",
    RejectReason.MISSING_REFERENCE: "No reference",
    RejectReason.NEGATIVE_AMOUNT: "Negative amount",
    RejectReason.UNKNOWN_TYPE: "Unknown event type",
    RejectReason.OVERSIZED: "Event too large",
    RejectReason.FOREIGN_CURRENCY: "Foreign currency",
    RejectReason.AHEAD_OF_CLOCK: "Ahead of the clock",
    RejectReason.TIME_OUT_OF_RANGE: "Impossible time",
}
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one item."""

    event: SourceEvent | None = None
    problem: Problem | None = None

    def item(self, index: int) -> dict[str, Any]:
        """As a batch's answer shows it."""
        name = {"source": self.event.source, "id": self.event.id} if self.event else {}
        if self.problem is None:
            return {"index": index, "status": 202, **name}
        return {"index": index, "status": self.problem.status, **name, "problem": self.problem.body()}


@dataclass(frozen=True, slots=True)
class Edge:
    """Lets in what is valid and known to be kept."""

    append: Callable[[Topic, Message], Awaitable[None]]
    currency: str
    write_keys: tuple[str, ...]
    wall: Clock

    def authorize(self, request: Request, key_in_body: object = None) -> None:
        """The write key, as Basic user name or Bearer token. Raises 401. Without keys the edge is open to this machine."""
        given = _given_key(request) or (key_in_body if isinstance(key_in_body, str) else "")
        # Every key is compared, so the time taken tells nothing.
        if self.write_keys and not sum(secrets.compare_digest(given.encode(), key.encode()) for key in self.write_keys):
            detail = "Send a write key as the user name of Basic authentication, or as a Bearer token."
            raise Problem(401, "Write key needed", detail, {"WWW-Authenticate": 'Basic realm="dear"'})

    def read(self, raw: bytes) -> Verdict:
        """Is it an event that identity will accept?"""
        read = read_event(raw, self.currency)
        if isinstance(read, Refusal):
            return refused(read)
        if self.wall.is_ahead(read.at):
            return refused(Refusal(RejectReason.AHEAD_OF_CLOCK, f"time: {read.at.isoformat()} is more than 24 hours ahead"))
        return Verdict(event=read)

    async def accept(self, raw: bytes) -> Verdict:
        """Read one event and append it; without a problem, the broker has acknowledged it."""
        verdict = self.read(raw)
        return await self._append(verdict.event, raw) if verdict.event else verdict

    async def accept_all(self, items: Sequence[bytes | Verdict]) -> list[Verdict]:
        """Accept the items that are events; one that is not never stands in the way of its neighbours."""
        return list(await asyncio.gather(*(_as_is(item) if isinstance(item, Verdict) else self.accept(item) for item in items)))

    async def _append(self, event: SourceEvent, raw: bytes) -> Verdict:
        key = event.references[0] if event.references else event.id
        try:
            await self.append(event.topic, Message(key.encode(), raw))
        except Unavailable as error:
            detail = f"{error}. The event was not accepted; send it again."
            return Verdict(event, Problem(503, "Unavailable", detail, {"Retry-After": "1"}))
        except MessageTooLarge as error:
            return refused(Refusal(RejectReason.OVERSIZED, str(error)))
        return Verdict(event)


async def _as_is(verdict: Verdict) -> Verdict:
    return verdict


def refused(refusal: Refusal) -> Verdict:
    """The problem document of a refusal."""
    metrics.REJECTED.labels(refusal.reason.value, "edge").inc()
    title = _TITLES.get(refusal.reason, "Invalid event")
    return Verdict(problem=Problem(_STATUS.get(refusal.reason, 422), title, refusal.detail, reason=refusal.reason.value))


def _given_key(request: Request) -> str:
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(value, validate=True).decode().partition(":")[0]
    except (binascii.Error, UnicodeDecodeError):
        return ""


async def read_body(request: Request, limit: int) -> bytes:
    """The body. Raises 413 as soon as it is too large."""
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limit:
        raise _too_large(limit)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise _too_large(limit)
    return bytes(body)


def _too_large(limit: int) -> Problem:
    metrics.REJECTED.labels(RejectReason.OVERSIZED.value, "edge").inc()
    detail = f"At most {limit} bytes are taken at once, and {EVENT_LIMIT_BYTES} an event: send less, or in several requests."
    return Problem(413, "Too large", detail, reason=RejectReason.OVERSIZED.value)


def decode(decoder: msgspec.json.Decoder[T], body: bytes, expected: str) -> T:
    """Decode the frame around events. Raises 400."""
    try:
        return decoder.decode(body)
    except (ValueError, RecursionError) as error:
        metrics.REJECTED.labels(RejectReason.MALFORMED_JSON.value, "edge").inc()
        raise Problem(400, "Not JSON", f"{expected} is expected: {error}", reason=RejectReason.MALFORMED_JSON.value) from error


def raise_if_away(verdicts: Sequence[Verdict]) -> None:
    """503 where the broker did not take an item. Sending everything again is safe: what was accepted is known by its id."""
    away = next((each.problem for each in verdicts if each.problem and each.problem.status == 503), None)
    if away is not None:
        detail = "Not everything was accepted. Send all of it again: nothing counts twice."
        raise Problem(503, "Unavailable", detail, away.headers, items=items(verdicts))


def items(verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    """The verdicts as an answer shows them."""
    return [verdict.item(index) for index, verdict in enumerate(verdicts)]
