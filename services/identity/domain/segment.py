"""Segment's dialect: its messages as CloudEvents of ours."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.identity.domain.reading import (
    Json,
    a_moment,
    a_quantity,
    a_text,
    an_object,
    invalid,
    minor_units,
    reference,
    scalars,
    write_json,
)
from services.identity.domain.rejects import Refused, RejectReason
from shared.contracts.customers import CustomerIdentified
from shared.contracts.envelope import derived_id
from shared.contracts.interactions import InteractionRecorded
from shared.contracts.purchases import PurchaseRecorded, PurchaseRefunded

SOURCE = "segment"
PURCHASE_NAMES = ("Order Completed", "Completed Order")
REFUND_NAMES = ("Order Refunded", "Order Cancelled")
FIRST_NAMES = {
    "Viewed Product": "ProductViewed",
    "Viewed Product Category": "ProductListViewed",
    "Added Product": "ProductAdded",
    "Removed Product": "ProductRemoved",
}
"""What the first version of the e-commerce specification called what the second calls otherwise."""
_OF_THE_WAY = ("sentAt", "receivedAt", "writeKey", "context")
_REFERENCE_TRAITS = ("loyalty_card", "email", "phone")
_WISHES = ("preferred_channel", "language", "time_zone", "customer_type")
_TITLE_CASE = re.compile(r"[A-Z][A-Za-z0-9]*(?: [A-Z0-9][A-Za-z0-9]*)+")
_GENERATED = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)
_WHO = "give a userId or an anonymousId"

Translated = tuple[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Receipt:
    """How a message came: when, when its sender sent it by the sender's clock, and the currency of those that name none."""

    received_at: datetime
    sent_at: object
    currency: str


def translate(message: Json, kind: str, receipt: Receipt) -> bytes:
    """A Segment message as an event in CloudEvents' JSON, to be validated like any other. Raises Refused."""
    event_type, data = _DIALECT[kind](message, receipt)
    corrected, written = _times(message, receipt)
    event = {
        "specversion": "1.0",
        "id": a_text(message["messageId"], "messageId") if message.get("messageId") else _content_id(message, kind),
        "source": SOURCE,
        "type": event_type,
        "time": corrected.isoformat(),
        "sourcetime": written,
        "data": data,
    }
    return write_json(event)


def _content_id(message: Json, kind: str) -> str:
    content = {name: value for name, value in message.items() if name not in _OF_THE_WAY}
    return derived_id(SOURCE, write_json({**content, "type": kind}))


def _times(message: Json, receipt: Receipt) -> tuple[datetime, str]:
    """`receivedAt - (sentAt - originalTimestamp)`, and the time as the source wrote it, which a retry does not change."""
    written = message.get("originalTimestamp") or message.get("timestamp")
    if written is None:
        return receipt.received_at, ""
    original = a_moment(written, "timestamp")
    sent = message.get("sentAt") or receipt.sent_at
    if sent is None:
        return original, str(written)
    try:
        return receipt.received_at - (a_moment(sent, "sentAt") - original), str(written)
    except OverflowError as error:
        raise invalid("timestamp", "outside the years 1 to 9999") from error


def _identified(message: Json, receipt: Receipt) -> Translated:
    traits = an_object(message.get("traits"), "traits")
    known = [reference("user", message.get("userId")), *_references_in(traits)]
    # Last: a device knows least who uses it.
    references = list(filter(None, (*known, reference("anonymous", message.get("anonymousId")))))
    if not references:
        raise Refused(RejectReason.MISSING_REFERENCE, "give a userId, an anonymousId, or a trait email, phone or loyalty_card")
    wishes = {name: traits[name] for name in _WISHES if traits.get(name) is not None}
    rest = scalars(traits, leave_out=(*_REFERENCE_TRAITS, *_WISHES, "consents"))
    data = {"references": references, "traits": rest, "consents": traits.get("consents") or [], **wishes}
    return CustomerIdentified.event_type, data


def _grouped(message: Json, receipt: Receipt) -> Translated:
    """The firm that somebody belongs to is what is known of the person: who the customer is does not change."""
    traits = an_object(message.get("traits"), "traits")
    firm = {"company_id": a_text(message.get("groupId"), "groupId")} | ({"company": traits["name"]} if traits.get("name") else {})
    rest = {f"company_{name}": value for name, value in traits.items() if name not in ("name", "id")}
    references = _known_by(message)
    if not references:
        raise Refused(RejectReason.MISSING_REFERENCE, _WHO)
    return CustomerIdentified.event_type, {"references": references, "traits": scalars({**rest, **firm})}


def _aliased(message: Json, receipt: Receipt) -> Translated:
    """Two names for one person. Whether that merges two customers is not decided here."""
    previous = message.get("previousId")
    kind = "anonymous" if isinstance(previous, str) and _GENERATED.fullmatch(previous) else "user"
    now, before = reference("user", message.get("userId")), reference(kind, previous) or reference("anonymous", message.get("anonymousId"))
    if now is None or before is None:
        raise Refused(RejectReason.MISSING_REFERENCE, "give a userId and a previousId")
    return CustomerIdentified.event_type, {"references": [now, before]}


def _references_in(traits: Json) -> list[str | None]:
    return [reference(kind, traits.get(kind)) for kind in _REFERENCE_TRAITS]


def _known_by(message: Json) -> list[str]:
    """Everything that the message calls the person, strongest first."""
    context = an_object(message.get("context"), "context")
    inside = _references_in(an_object(context.get("traits"), "context/traits"))
    return list(filter(None, (reference("user", message.get("userId")), *inside, reference("anonymous", message.get("anonymousId")))))


def _tracked(message: Json, receipt: Receipt) -> Translated:
    name = message.get("event")
    if not isinstance(name, str) or not name:
        raise invalid("event", "the name of what happened is expected")
    properties = an_object(message.get("properties"), "properties")
    who = _who(message, properties)
    if name in PURCHASE_NAMES:
        return PurchaseRecorded.event_type, {"reference": who, **_purchase(properties, receipt.currency)}
    if name in REFUND_NAMES:
        return PurchaseRefunded.event_type, {"reference": who, **_refund(properties, receipt.currency)}
    return InteractionRecorded.event_type, {"reference": who, "kind": _kind(name), "properties": scalars(properties)}


def _kind(name: str) -> str:
    """`Product Viewed` is our `ProductViewed`; a name that is not written so stays as it is."""
    return FIRST_NAMES.get(name) or (name.replace(" ", "") if _TITLE_CASE.fullmatch(name) else name)


def _viewed(kind: str) -> Callable[[Json, Receipt], Translated]:
    def viewed(message: Json, receipt: Receipt) -> Translated:
        properties = an_object(message.get("properties"), "properties")
        named = {name: message[name] for name in ("name", "category") if message.get(name) is not None}
        data = {"reference": _who(message, properties), "kind": kind, "properties": scalars({**properties, **named})}
        return InteractionRecorded.event_type, data

    return viewed


def _who(message: Json, properties: Json) -> str:
    context = an_object(message.get("context"), "context")
    candidates = (
        reference("user", message.get("userId")),
        *_references_in(an_object(context.get("traits"), "context/traits")),
        *_references_in(properties),
        reference("anonymous", message.get("anonymousId")),
    )
    found = next(filter(None, candidates), None)
    if found is None:
        raise Refused(RejectReason.MISSING_REFERENCE, _WHO)
    return found


def _purchase(properties: Json, reporting: str) -> dict[str, Any]:
    currency = _currency(properties, reporting)
    return {"store": _store(properties), "currency": currency, "lines": _lines(properties, currency)}


def _lines(properties: Json, currency: str) -> list[dict[str, Any]]:
    products = properties.get("products")
    if not isinstance(products, list) or not products:
        raise invalid("properties/products", "at least one product is expected")
    return [_line(an_object(each, f"properties/products/{index}"), index, currency) for index, each in enumerate(products)]


def _line(product: Json, index: int, currency: str) -> dict[str, Any]:
    path = f"properties/products/{index}"
    quantity = a_quantity(product.get("quantity", 1), f"{path}/quantity")
    sku = product.get("sku") or product.get("product_id") or product.get("id")
    if sku is None:
        raise invalid(path, "a sku or product_id is expected")
    amount = minor_units(product.get("price"), f"{path}/price", currency, quantity)
    line = {"sku": a_text(sku, f"{path}/sku"), "quantity": quantity, "amount_minor": amount}
    return line | {name: a_text(product[name], f"{path}/{name}") for name in ("category", "department") if product.get(name)}


def _refund(properties: Json, reporting: str) -> dict[str, Any]:
    """What was given back: `total`, `revenue` or `value`, or else the products that came back."""
    currency = _currency(properties, reporting)
    said = next((name for name in ("total", "revenue", "value") if properties.get(name) is not None), None)
    if said is None and properties.get("products") is None:
        raise invalid("properties/total", "the amount given back is expected, or the products that came back")
    if said is None:
        amount = sum(line["amount_minor"] for line in _lines(properties, currency))
    else:
        amount = minor_units(properties[said], f"properties/{said}", currency)
    return {"store": _store(properties), "currency": currency, "amount_minor": amount}


def _currency(properties: Json, reporting: str) -> str:
    return a_text(properties.get("currency") or reporting, "properties/currency").upper()


def _store(properties: Json) -> str:
    return a_text(properties.get("store") or properties.get("affiliation") or "web", "properties/affiliation")


_DIALECT: dict[str, Callable[[Json, Receipt], Translated]] = {
    "track": _tracked,
    "identify": _identified,
    "page": _viewed("PageViewed"),
    "screen": _viewed("ScreenViewed"),
    "group": _grouped,
    "alias": _aliased,
}
MESSAGE_TYPES = tuple(_DIALECT)
