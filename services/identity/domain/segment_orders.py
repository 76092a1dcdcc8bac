"""Orders in Segment's e-commerce words: what was bought, what it cost as a whole, and what of it was given back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from services.identity.domain.money import spread
from services.identity.domain.reading import Json, a_quantity, a_text, an_object, invalid, minor_units, text_or_none
from services.identity.domain.rejects import Refused, RejectReason
from shared.contracts.purchases import PurchaseRecorded, PurchaseRefunded

COMPLETED = ("Order Completed", "Completed Order")
REFUNDED = "Order Refunded"
CANCELLED = "Order Cancelled"
UNKNOWN = "unknown"
"""The line of what was paid for goods that the message does not name or price."""
_NOT_GOODS = "shipping"
"""The line of what an order costs beyond its goods: shipping, taxes, tips."""
_NAMES = ("sku", "product_id", "id", "name")
_BESIDE = ("shipping", "tax")
_AMOUNTS = ("total", "revenue", "value")
"""What is said of money given back, the clearest word first."""
_WHOLE = "properties/total: the amount given back is expected, or the products that came back, or the order_id of the whole order"


@dataclass(frozen=True, slots=True)
class Order:
    """An order as the timeline has it."""

    store: str
    currency: str
    amount_minor: int


class UnknownOrder(Exception):
    """All of an order is given back, and how much that is only the order says, which is not known yet."""

    def __init__(self, purchase: str) -> None:
        super().__init__(purchase)
        self.purchase = purchase


@dataclass(frozen=True, slots=True)
class Deal:
    """What a message says of an order: the data of our event, and its name where the order gives it one."""

    event_type: str
    data: dict[str, Any]
    name: str | None = None


def order_name(properties: Json) -> str | None:
    """The id of the purchase that an order is, where it has a number."""
    number = text_or_none(properties.get("order_id"), "properties/order_id")
    return None if number is None else f"order/{number}"


def bought(properties: Json, reporting: str) -> Deal:
    """A purchase whose lines are, to the minor unit, what was paid. Raises Refused."""
    currency = _currency(properties, reporting)
    data = {"store": _store(properties), "currency": currency, "lines": _paid(properties, currency)}
    return Deal(PurchaseRecorded.event_type, data, order_name(properties))


def given_back(name: str, properties: Json, reporting: str, order: Order | None) -> Deal:
    """Money given back, of the purchase that the order was. Raises Refused and UnknownOrder.

    What the message says goes first, so that it says the same whenever it is sent again; only where it says nothing of money is it the
    whole order. A whole order has one name, whichever message gives it back: it is given back once.
    """
    purchase = order_name(properties)
    currency = _currency(properties, reporting)
    amount = _said_amount(name, properties, currency)
    is_whole = purchase is not None and (name == CANCELLED or amount is None)
    store = _store(properties)
    if amount is None:
        if purchase is None:
            raise Refused(RejectReason.INVALID, _WHOLE)
        if order is None:
            raise UnknownOrder(purchase)
        store, currency, amount = order.store, order.currency, order.amount_minor
    data = {"store": store, "currency": currency, "amount_minor": amount, "purchase_id": purchase}
    return Deal(PurchaseRefunded.event_type, data, f"{purchase}/void" if is_whole else None)


def _said_amount(name: str, properties: Json, currency: str) -> int | None:
    """What is cancelled was worth what the same words said when it was bought; what is refunded is what a message says first."""
    said = next((each for each in _AMOUNTS if properties.get(each) is not None), None)
    if said is not None and name == REFUNDED:
        return _not_below_0(_amount(properties, said, currency), f"properties/{said}")
    says_anything = said is not None or properties.get("products")
    return sum(line["amount_minor"] for line in _paid(properties, currency)) if says_anything else None


def _paid(properties: Json, currency: str) -> list[dict[str, Any]]:
    """The goods at what was paid for them, and what was paid beside; together the order's total where it says one."""
    total = _total(properties, currency)
    goods = _goods(properties, currency, total is not None)
    if not goods:
        if total is None:
            raise invalid("properties/products", "at least one product is expected, or the total of the order")
        return [_beside(UNKNOWN, total)]
    amounts = [line["amount_minor"] for line in goods]
    paid = _paid_for_goods(sum(amounts), total, properties, currency)
    lines = [{**line, "amount_minor": amount} for line, amount in zip(goods, spread(sum(amounts) - paid, amounts), strict=True)]
    if total is None or total == paid:
        return lines
    has_prices = all(each.get("price") is not None for each in _products(properties))
    return [*lines, _beside(_NOT_GOODS if has_prices else UNKNOWN, total - paid)]


def _beside(sku: str, amount: int) -> dict[str, Any]:
    return {"sku": sku, "quantity": 1, "amount_minor": amount}


def _paid_for_goods(priced: int, total: int | None, properties: Json, currency: str) -> int:
    """What of the total was for the goods: what was not shipping or tax, unless a discount says that it was more; never above their prices.

    Prices may be before the discount or after it, with taxes or without: where the words do not agree, the total is what was paid.
    """
    discount = None if properties.get("discount") is None else abs(_amount(properties, "discount", currency))
    least = 0 if discount is None else max(priced - discount, 0)
    if total is None:
        return priced if discount is None else least
    beside = sum(max(_amount(properties, name, currency), 0) for name in _BESIDE if properties.get(name) is not None)
    return min(priced, total, max(total - beside, least))


def _total(properties: Json, currency: str) -> int | None:
    """What the customer paid. Revenue, without shipping and taxes and maybe before the discount, counts as that where nothing is priced."""
    said = next((name for name in (("total",) if _has_prices(properties) else _AMOUNTS) if properties.get(name) is not None), None)
    return None if said is None else _not_below_0(_amount(properties, said, currency), f"properties/{said}")


def _amount(properties: Json, name: str, currency: str) -> int:
    return minor_units(properties[name], f"properties/{name}", currency)


def _has_prices(properties: Json) -> bool:
    return any(each.get("price") is not None for each in _products(properties))


def _products(properties: Json) -> list[Json]:
    found = properties.get("products")
    if found is None or found == "":
        return []
    if not isinstance(found, list):
        raise invalid("properties/products", "a list is expected")
    return [an_object(each, f"properties/products/{index}") for index, each in enumerate(found)]


def _goods(properties: Json, currency: str, may_lack_prices: bool) -> list[dict[str, Any]]:
    return [_line(each, f"properties/products/{index}", currency, may_lack_prices) for index, each in enumerate(_products(properties))]


def _line(product: Json, path: str, currency: str, may_lack_price: bool) -> dict[str, Any]:
    quantity = a_quantity(product.get("quantity", 1), f"{path}/quantity")
    sku = next((product[name] for name in _NAMES if product.get(name)), None)
    if sku is None:
        raise invalid(path, "a sku or product_id is expected")
    price = 0 if product.get("price") is None and may_lack_price else product.get("price")
    amount = _not_below_0(minor_units(price, f"{path}/price", currency, quantity), f"{path}/price")
    line = {"sku": a_text(sku, f"{path}/sku"), "quantity": quantity, "amount_minor": amount}
    return line | {name: a_text(product[name], f"{path}/{name}") for name in ("category", "department") if product.get(name)}


def _not_below_0(amount: int, path: str) -> int:
    if amount < 0:
        raise Refused(
            RejectReason.NEGATIVE_AMOUNT, f"{path}: is below 0; money given back is an {REFUNDED}, and what is taken off is a discount"
        )
    return amount


def _currency(properties: Json, reporting: str) -> str:
    return a_text(properties.get("currency") or reporting, "properties/currency").upper()


def _store(properties: Json) -> str:
    return a_text(properties.get("store") or properties.get("affiliation") or "web", "properties/affiliation")
