"""POSLog over HTTP: the transactions of tills, with a verdict per transaction."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter, Request, Response

from services.identity.api.edge import BATCH_LIMIT_BYTES, REFUSALS, Edge, accept_documents, answered, read_body, refused, translated
from services.identity.domain.poslog import Stores, transactions, translate
from services.identity.domain.reading import read_json
from services.identity.domain.rejects import Refused


def create_router(edge: Edge, stores: Stores) -> APIRouter:
    """`POST /poslog`."""
    router = APIRouter(tags=["ingest"], responses=REFUSALS)

    @router.post("/poslog", status_code=202, responses={207: {"description": "Some were accepted; each item says its own."}})
    async def accept_poslog(request: Request) -> Response:
        """One transaction of POSLog 6 in JSON, or several.

        202: the broker has all of them. 207: it has those whose item says 202. 429, 503: send all again.
        """
        return await answered("poslog", _answer(request, edge, stores))

    return router


async def _answer(request: Request, edge: Edge, stores: Stores) -> Response:
    edge.authorize(request)
    body = await read_body(request, BATCH_LIMIT_BYTES)
    try:
        found = transactions(read_json(body))
    except Refused as error:
        problem = refused(error.refusal).problem
        assert problem is not None
        raise problem from error
    return await accept_documents([translated(partial(translate, each, stores)) for each in found], edge)
