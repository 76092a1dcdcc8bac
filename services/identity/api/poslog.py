"""POSLog over HTTP: the transactions of tills, with a verdict per transaction."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Sequence
from functools import partial

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from services.identity import metrics
from services.identity.api.bodies import POSLOG, answers
from services.identity.api.edge import BATCH_LIMIT_BYTES, REFUSALS, Edge, Verdict, answered, raise_if_away, read_body, refused, translated
from services.identity.domain.cloudevents import media_type
from services.identity.domain.poslog import Stores, transactions, translate
from services.identity.domain.reading import read_json
from services.identity.domain.rejects import Refused, RejectReason
from shared.access.gate import needs
from shared.access.scopes import Scope
from shared.problems import Problem


def create_router(edge: Edge, stores: Stores) -> APIRouter:
    """`POST /poslog`."""
    router = APIRouter(tags=["ingest"], responses=REFUSALS, dependencies=[needs(Scope.INGEST, key_in_body=True)])

    taken = {
        **answers(202, "The broker has all that was sold or given back."),
        **answers(207, "Some were accepted; each item says its own."),
    }

    @router.post("/poslog", status_code=202, responses=taken, openapi_extra=POSLOG)
    async def accept_poslog(request: Request) -> Response:
        """One transaction of POSLog 6 in JSON, or several.

        202: the broker has all of them. 207: it has those whose item says 202. 429, 503: send all again.
        """
        return await answered("poslog", _answer(request, edge, stores))

    return router


async def _answer(request: Request, edge: Edge, stores: Stores) -> Response:
    edge.authorize(request)
    body = await read_body(request, BATCH_LIMIT_BYTES)
    _check_is_not_xml(request, body)
    try:
        found = transactions(read_json(body))
    except Refused as error:
        problem = refused(error.refusal).problem
        assert problem is not None
        raise problem from error
    return await _accept([translated(partial(translate, each, stores)) for each in found], edge)


def _check_is_not_xml(request: Request, body: bytes) -> None:
    if "xml" in media_type(request.headers.get("content-type", "")) or body.removeprefix(BOM_UTF8).lstrip().startswith(b"<"):
        metrics.REJECTED.labels(RejectReason.MALFORMED_JSON.value, "edge").inc()
        raise Problem(415, "XML is not read", "Send POSLog in JSON, application/json: the same elements under the same names.")


async def _accept(transactions: Sequence[Sequence[bytes | Verdict]], edge: Edge) -> Response:
    """An item per event, with the index of its transaction. Raises 503, and the problem of a transaction that came alone."""
    verdicts = await edge.accept_all([item for each in transactions for item in each])
    raise_if_away(verdicts)
    problems = [each.problem for each in verdicts if each.problem is not None]
    if problems and len(transactions) == 1:
        raise problems[0]
    indexes = [index for index, each in enumerate(transactions) for _ in each]
    accepted = sum(each.problem is None and each.ignored is None for each in verdicts)
    shown = [verdict.item(index) for index, verdict in zip(indexes, verdicts, strict=True)]
    return JSONResponse({"accepted": accepted, "items": shown}, 207 if problems else 202)
