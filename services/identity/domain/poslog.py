"""POSLog 6 in JSON, the journal of tills: a transaction is a purchase, money given back, or both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, tzinfo
from typing import Any
from urllib.parse import quote

from services.identity.domain.poslog_lines import lines_of, names_in, returned, sold
from services.identity.domain.reading import Json, a_flag, a_list, a_text, an_object, invalid, reference, text_or_none, write_json
from services.identity.domain.rejects import Ignored, IgnoreReason, Refused, RejectReason
from shared.contracts.purchases import PurchaseRecorded, PurchaseRefunded

SOURCE = "poslog"
_UNCONCLUDED_FLAGS = ("CancelFlag", "VoidFlag", "VoidedFlag", "SuspendedFlag")
_UNCONCLUDED = ("suspended", "voided", "canceled", "cancelled", "failed", "inprocess")
_VOIDING = ("void", "voided", "postvoid", "postvoided")
_TIMES = ("EndDateTime", "ReceiptDateTime", "BeginDateTime", "POSLogDateTime", "DateTime")
_CARDS = ("LoyaltyAccountID", "LoyaltyCardNumber", "CardNumber", "AccountID", "AccountNumber", "ID")
_LINES = ("LineItem", "LineItems")
_NO_SALES = (
    "ControlTransaction",
    "TenderControlTransaction",
    "OrderTransaction",
    "CustomerOrderTransaction",
    "FoodServiceTransaction",
    "ForeCourtTransaction",
    "InventoryControlTransaction",
    "BackOfficeTransaction",
)
"""What else a transaction may be: opening and closing, counting the drawer, stock."""
_DATE_LENGTH = len("2026-03-01")


@dataclass(frozen=True, slots=True)
class Stores:
    """What a till does not say of itself: its time zone, and the currency of those that name none."""

    zones: Mapping[str, tzinfo]
    home: tzinfo
    currency: str
    customer: str = "user:poslog/"
    """What is put before the numbers of its customers who show no card."""

    def zone(self, store: str) -> tzinfo:
        """The zone that the store's clocks show."""
        return self.zones.get(store, self.home)


def transactions(document: object) -> list[object]:
    """The transactions of a document: one, a list, or what lies in `Transaction` or `POSLog`. Raises Refused."""
    if isinstance(document, list):
        return [inner for each in document for inner in (_within(each) if isinstance(each, dict) else [each])]
    return _within(an_object(document, "the document"))


def _within(found: Json) -> list[object]:
    inside = an_object(found["POSLog"], "POSLog") if "POSLog" in found else found
    return a_list(inside["Transaction"], "Transaction") if "Transaction" in inside else [inside]


def translate(transaction: object, stores: Stores) -> list[bytes]:
    """A transaction as events in CloudEvents' JSON, to be validated like any other. Raises Refused and Ignored."""
    if not isinstance(transaction, dict):
        raise Refused(RejectReason.MALFORMED_JSON, "a JSON object per transaction is expected")
    retail = an_object(transaction.get("RetailTransaction"), "RetailTransaction")
    # Some tills write the header into the transaction, some into what it is about.
    whole = {**retail, **{name: value for name, value in transaction.items() if value is not None}}
    _check_counts(whole)
    _check_understood(whole)
    events = list(_events(whole, stores))
    if not events:
        raise Ignored(IgnoreReason.NO_SALE)
    return [write_json(event) for event in events]


def _check_counts(whole: Json) -> None:
    """Raises Ignored where the till itself says that nothing was sold."""
    if a_flag(whole.get("TrainingModeFlag"), "TrainingModeFlag"):
        raise Ignored(IgnoreReason.TRAINING)
    unconcluded = any(a_flag(whole.get(name), name) for name in _UNCONCLUDED_FLAGS)
    if unconcluded or _word(whole.get("TransactionStatus")) in _UNCONCLUDED:
        raise Ignored(IgnoreReason.NOT_CONCLUDED)


def _check_understood(whole: Json) -> None:
    """Raises Refused for what nothing here knows: a till whose export is wrong must not take silence for success."""
    if all(whole.get(name) is None for name in ("RetailTransaction", *_LINES, "TransactionLink")):
        if any(whole.get(kind) is not None for kind in _NO_SALES):
            raise Ignored(IgnoreReason.NO_SALE)
        raise invalid("RetailTransaction", f"is expected, spelled so; the transaction has {names_in(whole)}")
    if all(whole.get(name) is None for name in (*_LINES, "TransactionLink")):
        raise invalid("RetailTransaction/LineItem", f"is expected, spelled so; the transaction has {names_in(whole)}")


def _word(value: object) -> str:
    return "".join(value.split()).lower() if isinstance(value, str) else ""


def _events(whole: Json, stores: Stores) -> Iterator[dict[str, Any]]:
    lines = lines_of(whole)
    if not lines and whole.get("TransactionLink") is None:
        return
    currency = a_text(whole.get("CurrencyCode") or stores.currency, "CurrencyCode").upper()
    store = _store(whole)
    key = _key(store, whole)
    at, written = _time(whole, stores.zone(store))
    frame = {"specversion": "1.0", "source": SOURCE, "time": at.isoformat(), "sourcetime": written}
    common = {"reference": _reference(whole, stores.customer), "store": store, "currency": currency}
    bought = sold(lines, currency)
    for purchase in _voided(whole, key, store):
        # The whole sale again, under another number or as its new state: what it said is given back.
        if not bought:
            raise invalid("LineItem", "the lines of the transaction that is taken back are expected")
        amount = sum(line["amount_minor"] for line in bought)
        yield {**frame, "id": f"{key}/voided", **_refund(common, amount, purchase)}
        return
    if bought:
        yield {**frame, "id": key, "type": PurchaseRecorded.event_type, "data": {**common, "lines": bought}}
    given_back = returned(lines, currency, lambda link: _linked(link, store))
    for number, (purchase, amount) in enumerate(given_back.items(), start=1):
        yield {**frame, "id": f"{key}/returned/{number}", **_refund(common, amount, purchase)}


def _refund(common: dict[str, Any], amount: int, purchase: str | None) -> dict[str, Any]:
    return {"type": PurchaseRefunded.event_type, "data": {**common, "amount_minor": amount, "purchase_id": purchase}}


def _voided(whole: Json, key: str, store: str) -> Iterator[str | None]:
    """The purchase that the transaction takes back after it was concluded, where it does so."""
    if _word(whole.get("TransactionStatus")) in _VOIDING:
        yield key
    for index, link in enumerate(a_list(whole.get("TransactionLink"), "TransactionLink")):
        found = an_object(link, f"TransactionLink/{index}")
        if _word(found.get("ReasonCode")) in _VOIDING:
            yield _linked(found, store)


def _linked(link: Json, store: str) -> str | None:
    """The key of another transaction, of the same store where the link names none; nothing where the till does not know it."""
    known = link.get("SequenceNumber") and link.get("BusinessDayDate") and (link.get("WorkstationID") or link.get("Workstation"))
    return _key(_store_or_none(link) or store, link) if known else None


def _key(store: str, whole: Json) -> str:
    """The name of a transaction for ever: store, workstation, business day and sequence number."""
    workstation = whole.get("WorkstationID") or an_object(whole.get("Workstation"), "Workstation").get("ID")
    number = whole.get("SequenceNumber")
    parts = (store, a_text(workstation, "WorkstationID"), _business_day(whole), a_text(number, "SequenceNumber"))
    return "/".join(quote(part, safe=" ") for part in parts)


def _store(whole: Json) -> str:
    store = _store_or_none(whole)
    if store is None:
        raise invalid("BusinessUnit/ID", "the store is expected")
    return store


def _store_or_none(whole: Json) -> str | None:
    unit = whole.get("BusinessUnit")
    for _ in range(2):
        unit = unit.get("ID") or unit.get("UnitID") or unit.get("value") if isinstance(unit, dict) else unit
    return text_or_none(unit or whole.get("RetailStoreID"), "BusinessUnit/ID")


def _business_day(whole: Json) -> str:
    """The till's own day, which need not be the day of the time; where it names none, the day that its time shows."""
    day = text_or_none(whole.get("BusinessDayDate") or _written(whole), "BusinessDayDate") or ""
    try:
        return date.fromisoformat(day[:_DATE_LENGTH]).isoformat()
    except ValueError as error:
        raise invalid("BusinessDayDate", "a date such as 2026-03-01 is expected") from error


def _written(whole: Json) -> object:
    return next((whole[name] for name in _TIMES if whole.get(name)), None)


def _time(whole: Json, zone: tzinfo) -> tuple[datetime, str | None]:
    """The time, and as the till wrote it where its zone is the store's: another zone set later makes no other event of it.

    Of an hour that the clocks show twice it is the first; one that they skip is read by the offset before the change.
    """
    written = _written(whole)
    try:
        if not isinstance(written, str) or len(written) <= _DATE_LENGTH:
            raise ValueError(written)
        at = datetime.fromisoformat(written)
        return (at.replace(tzinfo=zone).astimezone(UTC), written) if at.tzinfo is None else (at.astimezone(UTC), None)
    except (ValueError, OverflowError) as error:
        raise invalid("EndDateTime", "a time such as 2026-03-01T09:30:00 is expected, with or without a zone") from error


def _reference(whole: Json, prefix: str) -> str | None:
    """The loyalty account, else the customer's number as one of the tills' own, else nobody."""
    customers = a_list(whole.get("Customer"), "Customer")
    customer = an_object(customers[0], "Customer") if customers else {}
    card = _first(whole.get("LoyaltyAccount"), _CARDS) or _first(customer.get("LoyaltyAccount"), _CARDS)
    if card is not None:
        return reference("loyalty_card", text_or_none(card, "LoyaltyAccount"))
    number = text_or_none(_first(customer or None, ("CustomerID", "AccountNumber", "ID")), "Customer/CustomerID")
    return None if number is None else prefix + number


def _first(found: object, names: tuple[str, ...]) -> object:
    """The number in an object, or in the first of a list of them, or the number itself."""
    if isinstance(found, list):
        found = found[0] if found else None
    if not isinstance(found, dict):
        return found
    inside = next((found[name] for name in names if found.get(name)), None)
    return next((inside[name] for name in (*names, "value") if inside.get(name)), None) if isinstance(inside, dict) else inside
