"""CloudEvents over HTTP: one event, or a batch with a verdict per item."""

from __future__ import annotations

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from services.identity import metrics
from services.identity.api.edge import BATCH_LIMIT_BYTES, Edge, decode, items, raise_if_away, read_body
from services.identity.domain.events import EVENT_LIMIT_BYTES
from shared.access.gate import needs
from shared.access.scopes import Scope
from shared.problems import Problem

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
_items = msgspec.json.Decoder(list[msgspec.Raw])


def create_router(edge: Edge) -> APIRouter:
    """`POST /events`."""
    router = APIRouter(tags=["ingest"], dependencies=[needs(Scope.INGEST, key_in_body=True)])

    @router.post("/events", status_code=202)
    async def accept_events(request: Request) -> Response:
        """One CloudEvent (`application/cloudevents+json`) or several (`application/cloudevents-batch+json`).

        202: the broker has all of them. 207: it has those whose item says 202. 503: send all again.
        """
        edge.authorize(request)
        media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media not in (STRUCTURED, BATCH):
            raise Problem(415, "Unknown content type", f"Send {STRUCTURED} or {BATCH}.")
        answer = await (_one if media == STRUCTURED else _several)(request, edge)
        metrics.INGESTED.labels("cloudevents", str(answer.status_code)).inc()
        return answer

    return router


async def _one(request: Request, edge: Edge) -> Response:
    verdict = await edge.accept(await read_body(request, EVENT_LIMIT_BYTES))
    if verdict.problem is not None:
        raise verdict.problem
    return JSONResponse(verdict.item(0), 202)


async def _several(request: Request, edge: Edge) -> Response:
    body = await read_body(request, BATCH_LIMIT_BYTES)
    raws = decode(_items, body, "A JSON array of events")
    verdicts = await edge.accept_all([bytes(raw) for raw in raws])
    raise_if_away(verdicts)
    accepted = sum(verdict.problem is None for verdict in verdicts)
    return JSONResponse({"accepted": accepted, "items": items(verdicts)}, 202 if accepted == len(verdicts) else 207)
