"""Shopify's webhooks: signed, once, and answered 200 for whatever needs no second delivery."""

from __future__ import annotations

import json
from datetime import timedelta

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from services.identity import metrics
from services.identity.api.bodies import SHOPIFY, answers
from services.identity.api.edge import BATCH_LIMIT_BYTES, REFUSALS, Edge, Verdict, answered, items, raise_if_away, read_body, refused
from services.identity.domain import shopify
from services.identity.domain.events import SEPARATOR
from services.identity.domain.reading import Json, an_object, read_json
from services.identity.domain.rejects import Ignored, IgnoreReason, Refused
from services.identity.domain.shopify import Shop, Sold, Told
from services.identity.store import timeline
from shared.access.gate import public
from shared.mongo import in_store
from shared.problems import Problem

PATIENCE = timedelta(hours=1)
"""How long a refund waits for its order, which Shopify may deliver after it. Shopify tries again for four hours."""


def create_router(edge: Edge, secrets: tuple[str, ...]) -> APIRouter:
    """`POST /shopify/webhooks`."""
    # The signature is the guard: Shopify sends no key.
    router = APIRouter(tags=["ingest"], responses=REFUSALS, dependencies=[public])

    @router.post("/shopify/webhooks", responses=answers(200, "What it says of money is kept, or changes nothing."), openapi_extra=SHOPIFY)
    async def accept_webhook(request: Request) -> Response:
        """`orders/create`, `orders/updated` and `refunds/create`, signed with a secret of ours; other topics change nothing."""
        return await answered("shopify", _answer(request, edge, secrets))

    return router


async def _answer(request: Request, edge: Edge, secrets: tuple[str, ...]) -> Response:
    body = await read_body(request, BATCH_LIMIT_BYTES)
    _check_signature(request, body, secrets)
    shop = Shop(request.headers.get("x-shopify-shop-domain") or shopify.SOURCE, edge.currency)
    try:
        told = await _told(request.headers.get("x-shopify-topic", ""), an_object(read_json(body), "the body"), shop, edge)
    except Refused as error:
        return _verdicts([refused(error.refusal)], 1)
    except Ignored as nothing:
        metrics.IGNORED.labels(nothing.reason.value).inc()
        return _verdicts([Verdict(ignored=nothing.reason)], 0)
    return _verdicts(await edge.accept_all([*told.money, *told.customer]), len(told.money))


def _check_signature(request: Request, body: bytes, secrets: tuple[str, ...]) -> None:
    if not secrets:
        raise Problem(401, "No secret", "Set DEAR_SHOPIFY_WEBHOOK_SECRETS to the secret that Shopify signs your webhooks with.")
    if not shopify.is_signed(body, request.headers.get("x-shopify-hmac-sha256", ""), secrets):
        raise Problem(401, "Not signed", "X-Shopify-Hmac-Sha256 does not fit the body and any of DEAR_SHOPIFY_WEBHOOK_SECRETS.")


async def _told(topic: str, found: Json, shop: Shop, edge: Edge) -> Told:
    if topic == "orders/create":
        return shopify.on_order_created(found, shop)
    if topic == "orders/updated":
        return shopify.on_order_updated(found, shop, await _sold(found.get("id")))
    if topic == "refunds/create":
        return await _refunded(found, shop, edge)
    raise Ignored(IgnoreReason.OTHER_TOPIC)


async def _refunded(refund: Json, shop: Shop, edge: Edge) -> Told:
    """Under the customer of its order; one whose order Dear never heard of is counted by shop, as an anonymous sale is."""
    nobodys = shopify.on_refund_created(refund, shop, None)
    sold = await _sold(refund.get("order_id"))
    if sold is not None:
        return shopify.on_refund_created(refund, shop, sold)
    if edge.wall.now() - shopify.moment_of(refund) < PATIENCE:
        detail = "The order of this refund is not known yet, and with it whose it is. Send the refund again."
        raise Problem(503, "Order not known yet", detail, {"Retry-After": "60"})
    return nobodys


async def _sold(order: object) -> Sold | None:
    """The purchase that the order was, where the timeline has it."""
    event = await in_store(timeline.event_under, shopify.SOURCE + SEPARATOR + shopify.order_name(order))
    return None if event is None else Sold(json.loads(event)["data"].get("reference"))


def _verdicts(verdicts: list[Verdict], money: int) -> Response:
    """200, unless the broker was away or what was said of money is refused: what is wrong with the customer's data stops no sale."""
    raise_if_away(verdicts)
    problem = next((each.problem for each in verdicts[:money] if each.problem is not None), None)
    if problem is not None:
        raise problem
    return JSONResponse({"accepted": sum(each.event is not None for each in verdicts), "items": items(verdicts)})
