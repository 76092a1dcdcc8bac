"""The ingest edge: what every way in has in common."""

from __future__ import annotations

import asyncio
import zlib
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from fastapi import Request, Response

from services.identity import metrics
from services.identity.domain.events import EVENT_LIMIT_BYTES, NAMING, REQUESTS, SourceEvent, read_event
from services.identity.domain.references import Naming
from services.identity.domain.rejects import Ignored, IgnoreReason, Refusal, Refused, RejectReason
from shared.access.gate import gate_of
from shared.clock import Clock
from shared.contracts.topics import Topic
from shared.problems import Problem
from shared.service import Publisher
from shared.streaming.errors import MessageTooLarge, NotSent, Unavailable
from shared.streaming.records import Message

BATCH_LIMIT_BYTES = 500_000
READ_AT_ONCE = 500
REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"description": "Not JSON, or not packed as it says."},
    401: {"description": "A key or a signature is needed, or it is not valid."},
    413: {"description": "More than is taken at once."},
    415: {"description": "Of a type or in an encoding that is not read."},
    422: {"description": "Not a valid event; the reason and the place are in the answer."},
    429: {"description": "The key asks too often, or too much waits for the broker; send it again after Retry-After."},
    503: {"description": "The broker is away; send it again after Retry-After."},
}
"""What every way in may answer, as problem documents."""
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
    RejectReason.NAMES_NOBODY: "Names nobody",
}
T = TypeVar("T")


class Verdict(msgspec.Struct, frozen=True):
    """What became of one item."""

    event: SourceEvent | None = None
    problem: Problem | None = None
    ignored: IgnoreReason | None = None
    """It was understood, and changes nothing."""

    def item(self, index: int) -> dict[str, Any]:
        """As a batch's answer shows it."""
        if self.ignored is not None:
            return {"index": index, "status": 200, "ignored": self.ignored.value}
        name = {"source": self.event.source, "id": self.event.id} if self.event else {}
        if self.problem is None:
            return {"index": index, "status": 202, **name}
        return {"index": index, "status": self.problem.status, **name, "problem": self.problem.body()}


class Waiting:
    """How many events of this process wait for the broker, and how many may.

    Without a limit a slow broker fills the memory with requests that have long given up; one that is told to come back loses nothing.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._count = 0

    @contextmanager
    def place_for(self, events: int) -> Iterator[None]:
        """Wait with so many. Raises 429 where others fill the room; whoever comes alone is let in, however many they are."""
        if self._count and self._count + events > self._limit:
            detail = f"{self._count} events wait for the broker. Nothing was accepted; send it again after the time in Retry-After."
            raise Problem(429, "Too many requests", detail, {"Retry-After": "1"})
        self._count += events
        metrics.WAITING.set(self._count)
        try:
            yield
        finally:
            self._count -= events
            metrics.WAITING.set(self._count)


@dataclass(frozen=True, slots=True)
class Edge:
    """Lets in what is valid and known to be kept."""

    publisher: Publisher
    currency: str
    wall: Clock
    waiting: Waiting
    naming: Naming = NAMING

    def authorize(self, request: Request, key_in_body: object = None) -> None:
        """A key that may send events, in the request's header or its body. Raises 401, 403 and 429."""
        gate_of(request).check(request, key_in_body)

    def read(self, raw: bytes, own: bool = False) -> Verdict:
        """Is it an event that identity will accept? `own`: from a route that asks for more than the right to send events."""
        read = read_event(raw, self.currency, naming=self.naming)
        if isinstance(read, Refusal):
            return refused(read)
        if read.type in REQUESTS and not own:
            detail = f"type: {read.type} is not taken here; ask for it at POST /v1/customers/{{id}}/merge or /split"
            return refused(Refusal(RejectReason.UNKNOWN_TYPE, detail))
        if self.wall.is_ahead(read.at):
            return refused(Refusal(RejectReason.AHEAD_OF_CLOCK, f"time: {read.at.isoformat()} is more than 24 hours ahead"))
        return Verdict(event=read)

    async def accept(self, raw: bytes) -> Verdict:
        """Read one event and append it; without a problem, the broker has acknowledged it. Raises 429."""
        with self.waiting.place_for(1):
            return await self._append(self.read(raw), raw)

    async def accept_request(self, raw: bytes) -> Verdict:
        """The same of what only Dear's own routes may ask for."""
        with self.waiting.place_for(1):
            return await self._append(self.read(raw, own=True), raw)

    async def accept_all(self, items: Sequence[bytes | Verdict]) -> list[Verdict]:
        """Accept the items that are events; one that is not never stands in the way of its neighbours. Raises 429."""
        with self.waiting.place_for(len(items)):
            verdicts = await self._read_all(items)
            places: defaultdict[Topic, list[int]] = defaultdict(list)
            for place, verdict in enumerate(verdicts):
                if verdict.event is not None and verdict is not items[place]:
                    places[verdict.event.topic].append(place)
            await asyncio.gather(*(self._append_all(topic, each, items, verdicts) for topic, each in places.items()))
        return verdicts

    async def _read_all(self, items: Sequence[bytes | Verdict]) -> list[Verdict]:
        """In slices, for half a megabyte may hold a hundred thousand items, and others ask meanwhile."""
        verdicts: list[Verdict] = []
        for first in range(0, len(items), READ_AT_ONCE):
            if first:
                await asyncio.sleep(0)
            verdicts += [item if isinstance(item, Verdict) else self.read(item) for item in items[first : first + READ_AT_ONCE]]
        return verdicts

    async def _append_all(self, topic: Topic, places: Sequence[int], items: Sequence[Any], verdicts: list[Verdict]) -> None:
        """Append the events in these places; where the broker did not take one, its verdict says so instead."""
        messages = [Message(_key(verdicts[place].event), items[place]) for place in places]
        for place, fault in zip(places, await self.publisher.append_all(topic, messages), strict=True):
            if fault is not None:
                verdicts[place] = _not_sent(verdicts[place].event, fault)

    async def _append(self, verdict: Verdict, raw: bytes) -> Verdict:
        if verdict.event is None:
            return verdict
        try:
            await self.publisher.append(verdict.event.topic, Message(_key(verdict.event), raw))
        except (Unavailable, MessageTooLarge) as fault:
            return _not_sent(verdict.event, fault)
        return verdict


def _key(event: SourceEvent | None) -> bytes:
    assert event is not None
    key: str = event.data.customer_id if event.type in REQUESTS else event.references[0] if event.references else event.id
    return key.encode()


def _not_sent(event: SourceEvent | None, fault: NotSent) -> Verdict:
    if isinstance(fault, MessageTooLarge):
        return refused(Refusal(RejectReason.OVERSIZED, str(fault)))
    detail = f"{fault}. The event was not accepted; send it again."
    return Verdict(event, Problem(503, "Unavailable", detail, {"Retry-After": "1"}))


def translated(translate: Callable[[], list[bytes]]) -> list[bytes | Verdict]:
    """What a dialect makes of a message: events, or one verdict that says why there is none."""
    try:
        return list(translate())
    except Refused as error:
        return [refused(error.refusal)]
    except Ignored as nothing:
        metrics.IGNORED.labels(nothing.reason.value).inc()
        return [Verdict(ignored=nothing.reason)]


def refused(refusal: Refusal) -> Verdict:
    """The problem document of a refusal."""
    metrics.REJECTED.labels(refusal.reason.value, "edge").inc()
    title = _TITLES.get(refusal.reason, "Invalid event")
    return Verdict(problem=Problem(_STATUS.get(refusal.reason, 422), title, refusal.detail, reason=refusal.reason.value))


async def read_body(request: Request, limit: int) -> bytes:
    """The body, unpacked where it is packed. Raises 413 as soon as it is too large, 415 for another encoding than gzip."""
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip"):
        raise Problem(415, "Unknown content encoding", "Send the body as it is, or with Content-Encoding: gzip.")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limit:
        raise _too_large(limit)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise _too_large(limit)
    return _unpacked(bytes(body), limit) if encoding == "gzip" else bytes(body)


def _unpacked(packed: bytes, limit: int) -> bytes:
    unpacking = zlib.decompressobj(wbits=31)
    try:
        body = unpacking.decompress(packed, limit + 1)
    except zlib.error as error:
        raise _not_gzip(str(error)) from error
    if len(body) > limit:
        raise _too_large(limit)
    if not unpacking.eof or unpacking.unused_data:
        raise _not_gzip("it ends too early, or something follows it")
    return body


def _not_gzip(why: str) -> Problem:
    metrics.REJECTED.labels(RejectReason.MALFORMED_JSON.value, "edge").inc()
    return Problem(400, "Not gzip", f"Content-Encoding says gzip, and the body is none: {why}", reason=RejectReason.MALFORMED_JSON.value)


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


async def answered(way: str, answering: Awaitable[Response]) -> Response:
    """The answer, counted by its way in and its status, refusals too."""
    try:
        answer = await answering
    except Problem as problem:
        metrics.INGESTED.labels(way, str(problem.status)).inc()
        raise
    metrics.INGESTED.labels(way, str(answer.status_code)).inc()
    return answer
