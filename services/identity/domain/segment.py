"""Segment's dialect: `track` and `identify` messages as CloudEvents of ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

import msgspec

from services.identity.domain.money import NoAmount, to_minor
from services.identity.domain.rejects import Refused, RejectReason
from shared.contracts.customers import CustomerIdentified
from shared.contracts.envelope import derived_id
from shared.contracts.interactions import InteractionRecorded
from shared.contracts.purchases import PurchaseRecorded, PurchaseRefunded

SOURCE = "segment"
MESSAGE_TYPES = ("track", "identify")
PURCHASE_NAMES = ("Order Completed", "Completed Order")
REFUND_NAMES = ("Order Refunded",)
_OF_THE_WAY = ("sentAt", "receivedAt", "writeKey", "context")
_REFERENCE_TRAITS = ("loyalty_card", "email", "phone")
_WISHES = ("preferred_channel", "language", "time_zone", "customer_type")
_encoder = msgspec.json.Encoder(order="deterministic", decimal_format="number")

_ZonedTime: Any = Annotated[datetime, msgspec.Meta(tz=True)]

Json = Mapping[str, Any]


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
        "id": str(message.get("messageId") or _content_id(message)),
        "source": SOURCE,
        "type": event_type,
        "time": corrected.isoformat(),
        "sourcetime": written,
        "data": data,
    }
    return _encoder.encode(event)


def _content_id(message: Json) -> str:
    content = {name: value for name, value in message.items() if name not in _OF_THE_WAY}
    return derived_id(SOURCE, _encoder.encode(content))


def _times(message: Json, receipt: Receipt) -> tuple[datetime, str]:
    """`receivedAt - (sentAt - originalTimestamp)`, and the time as the source wrote it, which a retry does not change."""
    written = message.get("originalTimestamp") or message.get("timestamp")
    if written is None:
        return receipt.received_at, ""
    original = _time(written, "timestamp")
    sent = message.get("sentAt") or receipt.sent_at
    if sent is None:
        return original, str(written)
    try:
        return receipt.received_at - (_time(sent, "sentAt") - original), str(written)
    except OverflowError as error:
        raise Refused(RejectReason.INVALID, "timestamp: outside the years 1 to 9999") from error


def _time(value: object, name: str) -> datetime:
    try:
        at: datetime = msgspec.convert(value, _ZonedTime)
        return at.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise Refused(RejectReason.INVALID, f"{name}: an RFC 3339 time with a zone is expected") from error


def _identified(message: Json, receipt: Receipt) -> tuple[str, dict[str, Any]]:
    traits = _object(message.get("traits"), "traits")
    references = list(filter(None, (_reference("user", message.get("userId")), *_references_in(traits))))
    if anonymous := _reference("anonymous", message.get("anonymousId")):
        # Last: a device knows least who uses it.
        references.append(anonymous)
    if not references:
        raise Refused(RejectReason.MISSING_REFERENCE, "give a userId, an anonymousId, or a trait email, phone or loyalty_card")
    wishes = {name: traits[name] for name in _WISHES if traits.get(name) is not None}
    rest = _scalars(traits, leave_out=(*_REFERENCE_TRAITS, *_WISHES, "consents"))
    data = {"references": references, "traits": rest, "consents": traits.get("consents") or [], **wishes}
    return CustomerIdentified.event_type, data


def _references_in(traits: Json) -> list[str | None]:
    return [_reference(kind, traits.get(kind)) for kind in _REFERENCE_TRAITS]


def _reference(kind: str, value: object) -> str | None:
    return None if value is None or value == "" or isinstance(value, dict | list | bool) else f"{kind}:{value}"


def _tracked(message: Json, receipt: Receipt) -> tuple[str, dict[str, Any]]:
    name = message.get("event")
    if not isinstance(name, str) or not name:
        raise Refused(RejectReason.INVALID, "event: the name of what happened is expected")
    properties = _object(message.get("properties"), "properties")
    reference = _who(message, properties)
    if name in PURCHASE_NAMES:
        return PurchaseRecorded.event_type, {"reference": reference, **_purchase(properties, receipt.currency)}
    if name in REFUND_NAMES:
        return PurchaseRefunded.event_type, {"reference": reference, **_refund(properties, receipt.currency)}
    return InteractionRecorded.event_type, {"reference": reference, "kind": name, "properties": _scalars(properties)}


def _who(message: Json, properties: Json) -> str:
    context = _object(message.get("context"), "context")
    traits = _object(context.get("traits"), "context/traits")
    candidates = (
        _reference("user", message.get("userId")),
        *_references_in(traits),
        *_references_in(properties),
        _reference("anonymous", message.get("anonymousId")),
    )
    found = next(filter(None, candidates), None)
    if found is None:
        raise Refused(RejectReason.MISSING_REFERENCE, "give a userId or an anonymousId")
    return found


def _purchase(properties: Json, reporting: str) -> dict[str, Any]:
    currency = str(properties.get("currency") or reporting).upper()
    products = properties.get("products")
    if not isinstance(products, list) or not products:
        raise Refused(RejectReason.INVALID, "properties/products: at least one product is expected")
    lines = [_line(_object(each, f"properties/products/{index}"), index, currency) for index, each in enumerate(products)]
    return {"store": _store(properties), "currency": currency, "lines": lines}


def _line(product: Json, index: int, currency: str) -> dict[str, Any]:
    path = f"properties/products/{index}"
    quantity = product.get("quantity", 1)
    if isinstance(quantity, Decimal) and quantity == quantity.to_integral_value():
        quantity = int(quantity)
    if isinstance(quantity, bool) or not isinstance(quantity, int) or not 0 <= quantity <= 10**9:
        raise Refused(RejectReason.INVALID, f"{path}/quantity: a whole number from 0 is expected")
    sku = product.get("sku") or product.get("product_id") or product.get("id")
    if sku is None:
        raise Refused(RejectReason.INVALID, f"{path}: a sku or product_id is expected")
    line = {"sku": str(sku), "quantity": quantity, "amount_minor": _minor(product, "price", path, currency, quantity)}
    return line | {name: str(product[name]) for name in ("category", "department") if product.get(name)}


def _refund(properties: Json, reporting: str) -> dict[str, Any]:
    currency = str(properties.get("currency") or reporting).upper()
    amount = next((name for name in ("total", "revenue", "value") if properties.get(name) is not None), "total")
    return {"store": _store(properties), "currency": currency, "amount_minor": _minor(properties, amount, "properties", currency, 1)}


def _store(properties: Json) -> str:
    return str(properties.get("store") or properties.get("affiliation") or "web")


def _minor(found: Json, name: str, path: str, currency: str, times: int) -> int:
    try:
        return to_minor(found.get(name), currency, times)
    except NoAmount as error:
        raise Refused(RejectReason.INVALID, f"{path}/{name}: {error}") from error


def _object(value: object, path: str) -> Json:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Refused(RejectReason.INVALID, f"{path}: an object is expected")
    return value


def _scalars(found: Json, leave_out: tuple[str, ...] = ()) -> dict[str, Any]:
    """Decimals become their text, nested values their JSON: nothing is lost, and no float is kept."""
    return {name: _scalar(value) for name, value in found.items() if name not in leave_out}


def _scalar(value: object) -> object:
    if isinstance(value, Decimal):
        return str(value)
    return _encoder.encode(value).decode() if isinstance(value, dict | list) else value


_DIALECT: dict[str, Callable[[Json, Receipt], tuple[str, dict[str, Any]]]] = {"track": _tracked, "identify": _identified}
