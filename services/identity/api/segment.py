"""Segment's HTTP API. Its SDKs expect 200 and send again what was not answered."""

from __future__ import annotations

import json
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from services.identity.api.bodies import SEGMENT, answers
from services.identity.api.edge import (
    BATCH_LIMIT_BYTES,
    REFUSALS,
    Edge,
    Verdict,
    decode,
    items,
    raise_if_away,
    read_body,
    refused,
)
from services.identity.api.origins import Origins
from services.identity.domain.events import EVENT_LIMIT_BYTES, SEPARATOR
from services.identity.domain.reading import Json
from services.identity.domain.rejects import Refusal, Refused, RejectReason
from services.identity.domain.segment import MESSAGE_TYPES, SOURCE, Receipt, Told, happened_at, translate
from services.identity.domain.segment_orders import Order, UnknownOrder
from services.identity.store import timeline
from shared.access.gate import needs, public
from shared.access.scopes import Scope
from shared.mongo import in_store
from shared.problems import Problem
from shared.remembered import Remembered

PATIENCE = timedelta(hours=1)
"""How long what gives a whole order back waits for the order, which may come after it."""
_LINKS = 100_000
"""About 8 MB."""
Endpoint = Callable[[Request], Awaitable[Response]]
_message: msgspec.json.Decoder[dict[str, Any]] = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal)


class _Batch(msgspec.Struct):
    batch: list[msgspec.Raw]
    sentAt: Any = None  # noqa: N815 - Segment's spelling
    writeKey: Any = None  # noqa: N815


_batch = msgspec.json.Decoder(_Batch)


@dataclass(frozen=True, slots=True)
class _Way:
    """What these routes share: the edge, the pages that may ask, and which links this process has said already."""

    edge: Edge
    origins: Origins
    linked: Remembered[bool] = field(default_factory=lambda: Remembered(_LINKS))

    def receipt(self, sent_at: object) -> Receipt:
        """Of a request that came now."""
        return Receipt(self.edge.wall.now(), sent_at, self.edge.currency, self.edge.naming, _new_id)

    async def accept(self, found: Sequence[Told | Verdict]) -> list[Verdict]:
        """One verdict for each, of its first event or of the one that is not accepted. What links people is said where it is news."""
        links = {
            each.link.name: each.link for each in found if isinstance(each, Told) and each.link and not self.linked.get(each.link.name)
        }
        parts = [each.events if isinstance(each, Told) else [each] for each in found]
        answered = iter(
            await self.edge.accept_all([*(part for some in parts for part in some), *(link.event() for link in links.values())])
        )
        verdicts = [[next(answered) for _ in some] for some in parts]
        said = dict(zip(links, answered, strict=True))
        # Once the broker has it: what was not kept is said again.
        for name in (name for name, verdict in said.items() if verdict.problem is None):
            self.linked.put(name, True)
        return [_worst([*own, *_of_link(each, said)]) for each, own in zip(found, verdicts, strict=True)]


def _of_link(found: Told | Verdict, said: Mapping[str, Verdict]) -> list[Verdict]:
    return [said[found.link.name]] if isinstance(found, Told) and found.link is not None and found.link.name in said else []


def _worst(verdicts: Sequence[Verdict]) -> Verdict:
    return next((each for each in verdicts if each.problem is not None), verdicts[0])


def _new_id() -> str:
    return secrets.token_hex(16)


_SAYS = {
    "track": "Something happened: an order completed is a purchase, one refunded or cancelled a refund, anything else an interaction.",
    "identify": "Who somebody is: references, traits, consents and wishes.",
    "page": "Somebody looked at a page of a web site.",
    "screen": "Somebody looked at a screen of an app.",
    "group": "The firm that somebody belongs to: a customer of its own, and traits of the person.",
    "alias": "Two names for one person.",
    "batch": "Several messages, with a verdict per item.",
}


def create_router(edge: Edge, origins: Origins) -> APIRouter:
    """`POST /track`, `/identify`, `/page`, `/screen`, `/group`, `/alias`, `/batch`; and `/t` and so on, as browsers' libraries ask."""
    ways = APIRouter(tags=["ingest"], responses=REFUSALS, dependencies=[needs(Scope.INGEST, key_in_body=True)])
    asked_first = APIRouter(dependencies=[public])
    way = _Way(edge, origins)
    for call, says in _SAYS.items():
        for path, said in ((f"/{call}", says), (f"/{call[0]}", f"The same as `/v1/{call}`.")):
            _add(ways, path, _endpoint(way, call), call, said)
            if origins.allowed:
                asked_first.add_api_route(path, _preflight(origins), methods=["OPTIONS"], include_in_schema=False)
    router = APIRouter()
    for each in (ways, asked_first):
        router.include_router(each)
    return router


def _add(router: APIRouter, path: str, endpoint: Endpoint, call: str, said: str) -> None:
    if call == "batch":
        taken = answers(200, "At least one is accepted; each item says its own.")
    else:
        taken = answers(200, "The broker has it.", is_one=True, is_many=False)
    router.add_api_route(path, endpoint, methods=["POST"], name=call, description=said, responses=taken, openapi_extra=SEGMENT[call])


def _endpoint(way: _Way, call: str) -> Endpoint:
    """One for each path, by which it is counted."""

    async def endpoint(request: Request) -> Response:
        answering = _several(request, way) if call == "batch" else _single(request, way, call)
        return await way.origins.answered("segment", request, answering)

    return endpoint


def _preflight(origins: Origins) -> Endpoint:
    async def preflight(request: Request) -> Response:
        return origins.preflight(request)

    return preflight


async def _single(request: Request, way: _Way, kind: str) -> Response:
    body = await read_body(request, EVENT_LIMIT_BYTES)
    message = decode(_message, body, "A JSON object")
    way.edge.authorize(request, message.get("writeKey"))
    receipt = way.receipt(message.get("sentAt"))
    [verdict] = await way.accept([await _item(message, kind, receipt)])
    if verdict.problem is not None:
        raise verdict.problem
    return JSONResponse({"success": True, **verdict.item(0)})


async def _several(request: Request, way: _Way) -> Response:
    body = await read_body(request, BATCH_LIMIT_BYTES)
    batch = decode(_batch, body, 'A JSON object {"batch": [...]}')
    way.edge.authorize(request, batch.writeKey)
    receipt = way.receipt(batch.sentAt)
    verdicts = await way.accept([await _read(bytes(raw), receipt) for raw in batch.batch])
    raise_if_away(verdicts)
    accepted = sum(verdict.problem is None for verdict in verdicts)
    if verdicts and not accepted:
        raise Problem(400, "No item is valid", "Each item says what is wrong with it.", items=items(verdicts))
    return JSONResponse({"success": accepted == len(verdicts), "accepted": accepted, "items": items(verdicts)})


async def _read(raw: bytes, receipt: Receipt) -> Told | Verdict:
    if len(raw) > EVENT_LIMIT_BYTES:
        return refused(Refusal(RejectReason.OVERSIZED, f"the message has {len(raw)} bytes; at most {EVENT_LIMIT_BYTES} are taken"))
    try:
        message = _message.decode(raw)
    except (ValueError, RecursionError) as error:
        return refused(Refusal(RejectReason.MALFORMED_JSON, f"a JSON object is expected: {error}"))
    kind = message.get("type")
    if kind not in MESSAGE_TYPES:
        return refused(Refusal(RejectReason.UNKNOWN_TYPE, f"type: {', '.join(MESSAGE_TYPES)} are taken"))
    return await _item(message, kind, receipt)


async def _item(message: dict[str, Any], kind: str, receipt: Receipt) -> Told | Verdict:
    try:
        try:
            return translate(message, kind, receipt)
        except UnknownOrder as asked:
            order = await _order(asked.purchase)
            if order is None:
                return _too_early(asked.purchase, message, receipt)
            return translate(message, kind, receipt, order)
    except Refused as error:
        return refused(error.refusal)


async def _order(purchase: str) -> Order | None:
    """The purchase that the order was, where the timeline has it."""
    event = await in_store(timeline.event_under, SOURCE + SEPARATOR + purchase)
    if event is None:
        return None
    data = json.loads(event)["data"]
    return Order(data["store"], data["currency"], sum(line["amount_minor"] for line in data["lines"]))


def _too_early(purchase: str, message: Json, receipt: Receipt) -> Verdict:
    """Its order may come yet, for a while; then only the amount helps."""
    if receipt.received_at - happened_at(message, receipt) < PATIENCE:
        detail = f"All of {purchase} is given back, and it is not known yet. Send it again, or say the total that was given back."
        return Verdict(problem=Problem(503, "Order not known yet", detail, {"Retry-After": "60"}))
    detail = f"properties/total: all of {purchase} is given back, and it is not known; say the total that was given back"
    return refused(Refusal(RejectReason.INVALID, detail))
