"""Segment's HTTP API: `track`, `identify`, and `batch` of both. Its SDKs expect 200 and send again what was not answered."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from services.identity import metrics
from services.identity.api.edge import BATCH_LIMIT_BYTES, Edge, Verdict, decode, items, raise_if_away, read_body, refused
from services.identity.domain.events import EVENT_LIMIT_BYTES
from services.identity.domain.rejects import Refusal, Refused, RejectReason
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
    """`POST /track`, `/identify`, `/batch`."""
    router = APIRouter(tags=["ingest"], dependencies=[needs(Scope.INGEST, key_in_body=True)])

    @router.post("/track")
    async def track(request: Request) -> Response:
        """Something happened: `Order Completed` is a purchase, `Order Refunded` a refund, anything else an interaction."""
        return await _single(request, edge, "track")

    @router.post("/identify")
    async def identify(request: Request) -> Response:
        """Who somebody is: references, traits, consents and wishes."""
        return await _single(request, edge, "identify")

    @router.post("/batch")
    async def batch(request: Request) -> Response:
        """Several messages, with a verdict per item."""
        return await _several(request, edge)

    return router


async def _single(request: Request, edge: Edge, kind: str) -> Response:
    body = await read_body(request, EVENT_LIMIT_BYTES)
    message = decode(_message, body, "A JSON object")
    edge.authorize(request, message.get("writeKey"))
    [verdict] = await edge.accept_all([_translated(message, kind, _receipt(edge, message.get("sentAt")))])
    if verdict.problem is not None:
        raise verdict.problem
    metrics.INGESTED.labels("segment", "200").inc()
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
    metrics.INGESTED.labels("segment", "200").inc()
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
    return _translated(message, kind, receipt)


def _translated(message: Mapping[str, Any], kind: str, receipt: Receipt) -> bytes | Verdict:
    try:
        return translate(message, kind, receipt)
    except Refused as error:
        return refused(error.refusal)
