"""Segment's HTTP API. Its SDKs expect 200 and send again what was not answered."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from services.identity.api.edge import (
    BATCH_LIMIT_BYTES,
    REFUSALS,
    Edge,
    Verdict,
    answered,
    decode,
    items,
    raise_if_away,
    read_body,
    refused,
    translated,
)
from services.identity.domain.events import EVENT_LIMIT_BYTES
from services.identity.domain.rejects import Refusal, RejectReason
from services.identity.domain.segment import MESSAGE_TYPES, Receipt, translate
from shared.access.gate import needs
from shared.access.scopes import Scope
from shared.problems import Problem

_message: msgspec.json.Decoder[dict[str, Any]] = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal)


class _Batch(msgspec.Struct):
    batch: list[msgspec.Raw]
    sentAt: Any = None  # noqa: N815 - Segment's spelling
    writeKey: Any = None  # noqa: N815


_batch = msgspec.json.Decoder(_Batch)


def create_router(edge: Edge) -> APIRouter:
    """`POST /track`, `/identify`, `/page`, `/screen`, `/group`, `/alias`, `/batch`."""
    router = APIRouter(tags=["ingest"], responses=REFUSALS, dependencies=[needs(Scope.INGEST, key_in_body=True)])

    @router.post("/track")
    async def track(request: Request) -> Response:
        """Something happened: an order completed is a purchase, one refunded or cancelled a refund, anything else an interaction."""
        return await answered("segment", _single(request, edge, "track"))

    @router.post("/identify")
    async def identify(request: Request) -> Response:
        """Who somebody is: references, traits, consents and wishes."""
        return await answered("segment", _single(request, edge, "identify"))

    @router.post("/page")
    async def page(request: Request) -> Response:
        """Somebody looked at a page of a web site."""
        return await answered("segment", _single(request, edge, "page"))

    @router.post("/screen")
    async def screen(request: Request) -> Response:
        """Somebody looked at a screen of an app."""
        return await answered("segment", _single(request, edge, "screen"))

    @router.post("/group")
    async def group(request: Request) -> Response:
        """The firm that somebody belongs to, as traits of the person."""
        return await answered("segment", _single(request, edge, "group"))

    @router.post("/alias")
    async def alias(request: Request) -> Response:
        """Two names for one person."""
        return await answered("segment", _single(request, edge, "alias"))

    @router.post("/batch")
    async def batch(request: Request) -> Response:
        """Several messages, with a verdict per item."""
        return await answered("segment", _several(request, edge))

    return router


async def _single(request: Request, edge: Edge, kind: str) -> Response:
    body = await read_body(request, EVENT_LIMIT_BYTES)
    message = decode(_message, body, "A JSON object")
    edge.authorize(request, message.get("writeKey"))
    receipt = _receipt(edge, message.get("sentAt"))
    [verdict] = await edge.accept_all(translated(lambda: [translate(message, kind, receipt)]))
    if verdict.problem is not None:
        raise verdict.problem
    return JSONResponse({"success": True, **verdict.item(0)})


async def _several(request: Request, edge: Edge) -> Response:
    body = await read_body(request, BATCH_LIMIT_BYTES)
    batch = decode(_batch, body, 'A JSON object {"batch": [...]}')
    edge.authorize(request, batch.writeKey)
    receipt = _receipt(edge, batch.sentAt)
    verdicts = await edge.accept_all([_item(bytes(raw), receipt) for raw in batch.batch])
    raise_if_away(verdicts)
    accepted = sum(verdict.problem is None for verdict in verdicts)
    if verdicts and not accepted:
        raise Problem(400, "No item is valid", "Each item says what is wrong with it.", items=items(verdicts))
    return JSONResponse({"success": accepted == len(verdicts), "accepted": accepted, "items": items(verdicts)})


def _receipt(edge: Edge, sent_at: object) -> Receipt:
    return Receipt(edge.wall.now(), sent_at, edge.currency)


def _item(raw: bytes, receipt: Receipt) -> bytes | Verdict:
    if len(raw) > EVENT_LIMIT_BYTES:
        return refused(Refusal(RejectReason.OVERSIZED, f"the message has {len(raw)} bytes; at most {EVENT_LIMIT_BYTES} are taken"))
    try:
        message = _message.decode(raw)
    except (ValueError, RecursionError) as error:
        return refused(Refusal(RejectReason.MALFORMED_JSON, f"a JSON object is expected: {error}"))
    kind = message.get("type")
    if kind not in MESSAGE_TYPES:
        return refused(Refusal(RejectReason.UNKNOWN_TYPE, f"type: {', '.join(MESSAGE_TYPES)} are taken"))
    [item] = translated(lambda: [translate(message, kind, receipt)])
    return item
