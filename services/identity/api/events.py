"""CloudEvents over HTTP: one event in the body or in headers and body, or a batch with a verdict per item."""

from __future__ import annotations

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from services.identity.api.bodies import BATCH, EVENTS, answers
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
)
from services.identity.domain.cloudevents import STRUCTURED, from_http, media_type
from services.identity.domain.events import EVENT_LIMIT_BYTES
from services.identity.domain.rejects import Refused
from shared.access.gate import needs
from shared.access.scopes import Scope
from shared.problems import Problem

_items = msgspec.json.Decoder(list[msgspec.Raw])


def create_router(edge: Edge) -> APIRouter:
    """`POST /events`."""
    router = APIRouter(tags=["ingest"], responses=REFUSALS, dependencies=[needs(Scope.INGEST, key_in_body=True)])

    taken = {
        **answers(202, "The broker has all of them.", is_one=True),
        **answers(207, "Some were accepted; each item says its own."),
    }

    @router.post("/events", status_code=202, responses=taken, openapi_extra=EVENTS)
    async def accept_events(request: Request) -> Response:
        """One CloudEvent (`application/cloudevents+json`, or with `ce-` headers) or several (`application/cloudevents-batch+json`).

        202: the broker has all of them. 207: it has those whose item says 202. 429, 503: send all again.
        """
        return await answered("cloudevents", _answer(request, edge))

    return router


async def _answer(request: Request, edge: Edge) -> Response:
    edge.authorize(request)
    media = media_type(request.headers.get("content-type", ""))
    if media == BATCH:
        return await _several(request, edge)
    verdict = await _one(await read_body(request, EVENT_LIMIT_BYTES), request, edge, media)
    if verdict.problem is not None:
        raise verdict.problem
    return JSONResponse(verdict.item(0), 202)


async def _one(body: bytes, request: Request, edge: Edge, media: str) -> Verdict:
    if media == STRUCTURED:
        return await edge.accept(body)
    try:
        event = from_http(request.headers.raw, body)
    except Refused as error:
        return refused(error.refusal)
    if event is None:
        raise Problem(415, "Unknown content type", f"Send {STRUCTURED} or {BATCH}, or the event's attributes in ce- headers.")
    return await edge.accept(event)


async def _several(request: Request, edge: Edge) -> Response:
    body = await read_body(request, BATCH_LIMIT_BYTES)
    raws = decode(_items, body, "A JSON array of events")
    verdicts = await edge.accept_all([bytes(raw) for raw in raws])
    raise_if_away(verdicts)
    accepted = sum(verdict.problem is None for verdict in verdicts)
    return JSONResponse({"accepted": accepted, "items": items(verdicts)}, 202 if accepted == len(verdicts) else 207)
