"""The lines of a till's transaction: what was bought, what came back, what was taken off the whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from services.identity.domain.money import spread
from services.identity.domain.reading import (
    LARGEST_QUANTITY,
    Json,
    a_flag,
    a_list,
    a_number,
    a_text,
    an_object,
    invalid,
    minor_units,
    text_or_none,
)
from services.identity.domain.rejects import Refused, RejectReason

_SOLD = ("Sale", "SaleForDelivery", "SaleForPickup")
_RETURNED = ("Return", "ReturnForDelivery", "ReturnForPickup")
_NOT_GOODS = (
    "Tender", "Tax", "Discount", "StoredValueFund", "PaymentOnAccount", "Rounding", "LoyaltyReward", "Deposit", "DepositRefund", "Donation",
    "Layaway", "PreviousLayaway", "CustomerOrderForDelivery", "CustomerOrderForPickup", "PreviousCustomerOrder", "Coupon", "Fee", "Tip",
    "Service", "Surcharge", "GiftCard", "GiftCertificate", "Voucher", "PaidIn", "PaidOut", "Remark", "ItemNotOnFile",
)  # fmt: skip
"""Lines that are understood and change nothing."""
_NAMES_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Line:
    """One line, with the path that a refusal names. Tenders, taxes, gift cards and remarks are lines too, of no kind read here."""

    found: Json
    path: str

    def item(self, kinds: Sequence[str]) -> tuple[Json, str] | None:
        """What was bought or came back, where the line is of one of the kinds. Some tills write its amounts beside it."""
        kind = next((kind for kind in kinds if self.found.get(kind) is not None), None)
        if kind is None:
            return None
        path = f"{self.path}/{kind}"
        return {**self.found, **an_object(self.found[kind], path)}, path


def lines_of(whole: Json) -> list[Line]:
    """The lines that count; one that was voided while it was rung up does not."""
    found = a_list(whole.get("LineItem") or whole.get("LineItems"), "LineItem")
    lines = [Line(an_object(each, f"LineItem/{index}"), f"LineItem/{index}") for index, each in enumerate(found)]
    counting = [line for line in lines if not a_flag(line.found.get("VoidFlag"), f"{line.path}/VoidFlag")]
    if counting and not any(line.found.keys() & {*_SOLD, *_RETURNED, *_NOT_GOODS} for line in counting):
        raise invalid(counting[0].path, f"a Sale, Return, Tender or the like is expected, spelled so; it has {names_in(counting[0].found)}")
    return counting


def names_in(found: Json) -> str:
    """What an object has, for one who looks for a name that is spelled otherwise."""
    names = [f"{name[:40]!r}" for name in found]
    return ", ".join([*names[:_NAMES_SHOWN], *(["…"] if len(names) > _NAMES_SHOWN else [])]) or "nothing"


def sold(lines: Sequence[Line], currency: str) -> list[dict[str, Any]]:
    """The lines of a purchase, discounts on the whole spread over them."""
    bought = [_bought(*item, currency) for line in lines if (item := line.item(_SOLD))]
    discount = sum(abs(_amount(*item, currency)) for line in lines if (item := line.item(("Discount",))))
    amounts = spread(discount, [line["amount_minor"] for line in bought])
    return [{**line, "amount_minor": amount} for line, amount in zip(bought, amounts, strict=True)]


def returned(lines: Sequence[Line], currency: str, purchase: Callable[[Json], str | None]) -> dict[str | None, int]:
    """What was given back, by the purchase that it was part of where the till knows it. A till may write it below 0 or above."""
    amounts: dict[str | None, int] = {}
    for item, path in filter(None, (line.item(_RETURNED) for line in lines)):
        links = a_list(item.get("TransactionLink"), f"{path}/TransactionLink")
        key = purchase(an_object(links[0], f"{path}/TransactionLink")) if links else None
        amounts[key] = amounts.get(key, 0) + abs(_extended(item, path, currency))
    return amounts


def _bought(item: Json, path: str, currency: str) -> dict[str, Any]:
    amount = _extended(item, path, currency)
    if amount < 0:
        raise Refused(RejectReason.NEGATIVE_AMOUNT, f"{path}/ExtendedAmount: is below 0; what comes back is a Return")
    cost = _unit_cost(item, path, currency)
    line = {"sku": _sku(item, path), "quantity": _quantity(item, path), "amount_minor": amount, **_places(item, path)}
    return line if cost is None else {**line, "unit_cost_minor": cost}


def _extended(item: Json, path: str, currency: str) -> int:
    """What was paid for the whole line, or else its unit price times its quantity."""
    if item.get("ExtendedAmount") is not None:
        return _money(item["ExtendedAmount"], f"{path}/ExtendedAmount", currency)
    if item.get("ActualSalesUnitPrice") is None:
        raise invalid(f"{path}/ExtendedAmount", "what was paid for the line is expected")
    return _money(item["ActualSalesUnitPrice"], f"{path}/ActualSalesUnitPrice", currency, _quantity(item, path))


def _amount(item: Json, path: str, currency: str) -> int:
    return _money(item.get("Amount"), f"{path}/Amount", currency)


def _money(value: object, path: str, currency: str, times: int = 1) -> int:
    """An amount alone, or with its currency beside it."""
    if isinstance(value, dict):
        inside = value.get("Currency") or value.get("CurrencyCode") or currency
        if inside != currency:
            raise Refused(RejectReason.FOREIGN_CURRENCY, f"{path}: {inside!r:.20} in a transaction in {currency}")
        value = next((value[name] for name in ("Amount", "Value", "value") if value.get(name) is not None), None)
    return minor_units(value, path, currency, times)


def _quantity(item: Json, path: str) -> int:
    """How many; what is weighed or measured is one."""
    value = item.get("Quantity")
    if isinstance(value, dict):
        value = next((value[name] for name in ("Quantity", "Value", "value") if value.get(name) is not None), None)
    number = a_number(1 if value is None else value, f"{path}/Quantity")
    # A return may be written below 0; a sale that is has a negative amount too.
    if not -LARGEST_QUANTITY <= number <= LARGEST_QUANTITY:
        raise invalid(f"{path}/Quantity", f"at most {LARGEST_QUANTITY} is expected")
    return abs(int(number)) if number == number.to_integral_value() else 1


def _sku(item: Json, path: str) -> str:
    for name in ("ItemID", "Item", "POSIdentity"):
        found = item.get(name)
        if isinstance(found, dict):
            found = next((found[inner] for inner in ("ID", "POSItemID", "value") if found.get(inner)), None)
        if found:
            return a_text(found, f"{path}/{name}")
    # What is rung up by its department alone has no other name.
    level = next(_levels(item, path), None)
    if level is None:
        raise invalid(f"{path}/ItemID", "the item is expected")
    return level[1]


def _places(item: Json, path: str) -> dict[str, str]:
    """Where the item stands in the range: its department, and the first level beside it as its category."""
    levels = list(_levels(item, path))
    department = next((value for level, value in levels if level == "department"), None)
    category = next((value for level, value in levels if level != "department"), None)
    return {name: value for name, value in (("department", department), ("category", category)) if value is not None}


def _levels(item: Json, path: str) -> Iterator[tuple[str, str]]:
    for level in a_list(item.get("MerchandiseHierarchy"), f"{path}/MerchandiseHierarchy"):
        found = an_object(level, f"{path}/MerchandiseHierarchy")
        value = text_or_none(found.get("Value") or found.get("ID"), f"{path}/MerchandiseHierarchy/Value")
        if value is not None:
            yield str(found.get("Level", "")).lower(), value


def _unit_cost(item: Json, path: str, currency: str) -> int | None:
    """What one cost the shop; one that is not a whole number of minor units is left out, for it is optional."""
    try:
        cost = _money(item.get("UnitCostPrice"), f"{path}/UnitCostPrice", currency)
    except Refused:
        return None
    return cost if cost >= 0 else None
