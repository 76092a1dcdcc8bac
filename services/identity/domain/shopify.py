"""Shopify's webhooks: orders and refunds, and the customer inside them, as CloudEvents of ours."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.identity.domain.money import spread
from services.identity.domain.reading import (
    Json,
    a_flag,
    a_list,
    a_moment,
    a_quantity,
    a_text,
    an_object,
    minor_units,
    reference,
    text_or_none,
    write_json,
)
from services.identity.domain.rejects import Ignored, IgnoreReason
from shared.contracts.customers import ConsentChanged, CustomerIdentified
from shared.contracts.envelope import derived_id
from shared.contracts.purchases import PurchaseRecorded, PurchaseRefunded

SOURCE = "shopify"
"""Of every shop: Shopify's ids are its own, and the header that names the shop is not signed."""
_NEVER_PAID = ("pending", "authorized", "expired", "voided")
"""Of an order that is over, the states in which its money never came."""
_MONEY_BACK = ("success", "pending")
"""Of a transaction that gives money back: on its way counts, for nothing is told when it has arrived."""
_CONSENTS = {"subscribed": True, "unsubscribed": False, "redacted": False}
"""What Shopify says of a channel that is somebody's word; never asked, not confirmed and undeliverable are nobody's."""
_USER = "user"
_NOT_GOODS = "shipping"
"""The line of what an order costs beyond its goods: shipping, duties, tips."""


@dataclass(frozen=True, slots=True)
class Shop:
    """Whose webhook it is, and the currency that Dear counts in."""

    domain: str
    currency: str


@dataclass(frozen=True, slots=True)
class Sold:
    """The purchase that an order was when it was created, as Dear keeps it."""

    reference: str | None


@dataclass(frozen=True, slots=True)
class Told:
    """What a webhook says: of money, and of the customer."""

    money: list[bytes]
    customer: list[bytes]


def is_signed(body: bytes, signature: str, secrets: Sequence[str]) -> bool:
    """Is the body signed with one of the secrets? Every secret is tried, so the time taken tells nothing."""
    return bool(sum(hmac.compare_digest(signature.encode(), _signature(body, secret)) for secret in secrets))


def _signature(body: bytes, secret: str) -> bytes:
    return base64.b64encode(hmac.digest(secret.encode(), body, hashlib.sha256))


def order_name(order: object) -> str:
    """The id of the purchase that an order is. Raises Refused."""
    return f"order/{a_text(order, 'order id')}"


def on_order_created(order: Json, shop: Shop) -> Told:
    """A purchase, paid or not: what becomes of it later are events of their own. Raises Refused and Ignored."""
    _check_is_meant(order)
    return Told([write_json(_purchase(order, shop))], _said_of_customer(order))


def on_order_updated(order: Json, shop: Shop, sold: Sold | None) -> Told:
    """The refunds that the order lists, and all of it where it is over and was never paid. Never a purchase. Raises Refused and Ignored."""
    _check_is_meant(order)
    who = sold.reference if sold else _reference(order)
    purchase = order_name(order.get("id"))
    refunds = [an_object(each, "refunds") for each in a_list(order.get("refunds"), "refunds")]
    money = [write_json(event) for each in refunds for event in _refunded(each, purchase, who, shop)]
    if _is_over_unpaid(order):
        money.append(write_json(_taken_back(order, purchase, who, shop)))
    customer = _said_of_customer(order)
    if not money and not customer:
        raise Ignored(IgnoreReason.NO_CHANGE)
    return Told(money, customer)


def on_refund_created(refund: Json, shop: Shop, sold: Sold | None) -> Told:
    """Money given back; a refund names no customer, its order does. Raises Refused and Ignored."""
    purchase = order_name(refund.get("order_id"))
    money = [write_json(event) for event in _refunded(refund, purchase, sold.reference if sold else None, shop)]
    if not money:
        raise Ignored(IgnoreReason.NO_MONEY)
    return Told(money, [])


def moment_of(found: Json) -> datetime:
    """When it happened; a shop that brings its history along says so in `processed_at`. Raises Refused."""
    return a_moment(found.get("processed_at") or found.get("created_at"), "created_at")


def _check_is_meant(order: Json) -> None:
    if a_flag(order.get("test"), "test"):
        raise Ignored(IgnoreReason.TEST)


def _is_over_unpaid(order: Json) -> bool:
    status = order.get("financial_status")
    return status == "voided" or (order.get("cancelled_at") is not None and status in _NEVER_PAID)


def _purchase(order: Json, shop: Shop) -> dict[str, Any]:
    currency = _currency(order, shop)
    lines = _lines(order, currency)
    if not lines:
        raise Ignored(IgnoreReason.NO_SALE)
    data = {"reference": _reference(order), "store": shop.domain, "currency": currency, "lines": lines}
    return _event(order_name(order.get("id")), PurchaseRecorded.event_type, moment_of(order), data)


def _lines(order: Json, currency: str) -> list[dict[str, Any]]:
    """The goods at what was paid for them, and what the order costs beside; together the order's total to the minor unit."""
    taxed = a_flag(order.get("taxes_included"), "taxes_included")
    items = [an_object(each, f"line_items/{index}") for index, each in enumerate(a_list(order.get("line_items"), "line_items"))]
    goods = [_line(each, f"line_items/{index}", currency, taxed) for index, each in enumerate(items)]
    amounts = [line["amount_minor"] for line in goods]
    beside = minor_units(order.get("total_price"), "total_price", currency) - sum(amounts)
    if beside > 0:
        return [*goods, {"sku": _NOT_GOODS, "quantity": 1, "amount_minor": beside}]
    return [{**line, "amount_minor": amount} for line, amount in zip(goods, spread(-beside, amounts), strict=True)]


def _line(item: Json, path: str, currency: str, taxed: bool) -> dict[str, Any]:
    quantity = a_quantity(item.get("quantity"), f"{path}/quantity")
    amount = minor_units(item.get("price"), f"{path}/price", currency, quantity)
    amount -= _sum(item.get("discount_allocations"), "amount", f"{path}/discount_allocations", currency)
    amount += 0 if taxed else _sum(item.get("tax_lines"), "price", f"{path}/tax_lines", currency)
    sku = next((item[name] for name in ("sku", "variant_id", "product_id", "title", "id") if item.get(name)), None)
    return {"sku": a_text(sku, f"{path}/sku"), "quantity": quantity, "amount_minor": max(amount, 0)}


def _sum(found: object, name: str, path: str, currency: str) -> int:
    return sum(minor_units(an_object(each, path).get(name) or 0, f"{path}/{name}", currency) for each in a_list(found, path))


def _refunded(refund: Json, purchase: str, who: str | None, shop: Shop) -> Iterator[dict[str, Any]]:
    """The refund as an event, where it gave money back."""
    amount = _money_back(refund, shop.currency)
    if amount > 0:
        name = f"refund/{a_text(refund.get('id'), 'refund id')}"
        yield _event(name, PurchaseRefunded.event_type, moment_of(refund), _refund(amount, purchase, who, shop))


def _money_back(refund: Json, currency: str) -> int:
    """What its transactions gave back; of a customer who paid in another currency, what came back in the shop's."""
    found = [an_object(each, "transactions") for each in a_list(refund.get("transactions"), "transactions")]
    gave = [each for each in found if each.get("kind") == "refund" and each.get("status") in _MONEY_BACK and each.get("test") is not True]
    if all(each.get("currency") in (None, currency) for each in gave):
        return sum(minor_units(each.get("amount"), "transactions/amount", currency) for each in gave)
    returned = sum(_in_shop_money(refund, "refund_line_items", name, currency) for name in ("subtotal", "total_tax"))
    adjusted = sum(_in_shop_money(refund, "order_adjustments", name, currency) for name in ("amount", "tax_amount"))
    # Adjustments are of the shop's balance: shipping given back stands below 0.
    return returned - adjusted


def _in_shop_money(refund: Json, part: str, name: str, currency: str) -> int:
    total = 0
    for each in a_list(refund.get(part), part):
        found = an_object(each, part)
        money = an_object(an_object(found.get(f"{name}_set"), f"{part}/{name}_set").get("shop_money"), f"{part}/shop_money")
        amount = money.get("amount") if money.get("amount") is not None else found.get(name)
        total += minor_units(amount or 0, f"{part}/{name}", currency)
    return total


def _taken_back(order: Json, purchase: str, who: str | None, shop: Shop) -> dict[str, Any]:
    """The whole order. Nothing was paid, so nothing was refunded: every later update says the same, whatever its time."""
    currency = _currency(order, shop)
    amount = minor_units(order.get("total_price"), "total_price", currency)
    at = a_moment(order.get("cancelled_at") or order.get("updated_at"), "cancelled_at")
    return _event(f"{purchase}/void", PurchaseRefunded.event_type, at, _refund(amount, purchase, who, shop, currency), source_time="void")


def _refund(amount: int, purchase: str, who: str | None, shop: Shop, currency: str | None = None) -> dict[str, Any]:
    money = {"currency": currency or shop.currency, "amount_minor": amount, "purchase_id": purchase}
    return {"reference": who, "store": shop.domain, **money}


def _currency(order: Json, shop: Shop) -> str:
    return a_text(order.get("currency") or shop.currency, "currency")


def _reference(order: Json) -> str | None:
    """Whose order it is: the shop's customer, else the address or number that the order was made with, else nobody's."""
    customer = an_object(order.get("customer"), "customer")
    candidates = ((_USER, customer.get("id")), ("email", order.get("email") or order.get("contact_email")), ("phone", order.get("phone")))
    return next((found for kind, value in candidates if (found := _named(kind, text_or_none(value, kind)))), None)


def _named(kind: str, value: str | None) -> str | None:
    """Shopify's ids are users of a system of their own: somebody else has the same number at the web shop or the till."""
    return reference(kind, value and f"{SOURCE}/{value}" if kind == _USER else value)


def _said_of_customer(order: Json) -> list[bytes]:
    """Who the customer is, and what they allowed, each at its own time: an order states no consent anew."""
    customer = an_object(order.get("customer"), "customer")
    identity = text_or_none(customer.get("id"), "customer/id")
    if identity is None:
        return []
    return [write_json(_identified(customer, identity, order)), *(write_json(each) for each in _consents(customer, identity))]


def _identified(customer: Json, identity: str, order: Json) -> dict[str, Any]:
    values = {kind: text_or_none(customer.get(kind), f"customer/{kind}") for kind in ("email", "phone")}
    address = an_object(customer.get("default_address"), "customer/default_address")
    traits = {name: customer.get(name) for name in ("first_name", "last_name")}
    traits |= {name: address.get(name) for name in ("company", "city", "province", "country", "zip")}
    language = (text_or_none(order.get("customer_locale"), "customer_locale") or "").partition("-")[0]
    data = {
        "references": list(filter(None, (_named(_USER, identity), *(reference(kind, value) for kind, value in values.items())))),
        # An empty field is one that nobody filled in; null would remove what is known.
        "traits": {name: text for name, value in traits.items() if (text := text_or_none(value, f"customer/{name}"))},
        "language": language or None,
    }
    at = a_moment(customer.get("updated_at") or order.get("updated_at") or order.get("created_at"), "customer/updated_at")
    return _event(f"customer/{identity}/{_digest(at, data)}", CustomerIdentified.event_type, at, data)


def _consents(customer: Json, identity: str) -> Iterator[dict[str, Any]]:
    for channel in ("email", "sms"):
        said = an_object(customer.get(f"{channel}_marketing_consent"), f"customer/{channel}_marketing_consent")
        granted = _CONSENTS.get(str(said.get("state")))
        # Without its time a consent could undo a later withdrawal that Shopify does not know of.
        if granted is None or said.get("consent_updated_at") is None:
            continue
        at = a_moment(said["consent_updated_at"], f"customer/{channel}_marketing_consent/consent_updated_at")
        statement = {"purpose": "marketing", "channel": channel, "granted": granted}
        data = {"reference": _named(_USER, identity), "consents": [statement]}
        yield _event(f"customer/{identity}/{channel}/{_digest(at, data)}", ConsentChanged.event_type, at, data)


def _digest(at: datetime, data: dict[str, Any]) -> str:
    return derived_id(at.isoformat(), write_json(data).decode())


def _event(name: str, kind: str, at: datetime, data: dict[str, Any], source_time: str | None = None) -> dict[str, Any]:
    frame = {"specversion": "1.0", "id": name, "source": SOURCE, "type": kind, "time": at.isoformat(), "sourcetime": source_time}
    return {**frame, "data": data}
