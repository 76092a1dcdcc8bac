"""From rows to events: what each row says, in the words of the contract."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from services.identity.domain.references import REFERENCE_TYPES
from shared.contracts.customers import ConsentChanged, CustomerIdentified
from shared.contracts.envelope import derived_id
from shared.contracts.interactions import InteractionRecorded
from shared.contracts.purchases import PurchaseRecorded, PurchaseRefunded
from stack.importing import values
from stack.importing.mapping import CustomersMapping, Given, ImportMapping, InteractionsMapping, PurchasesMapping, mapped_columns
from stack.importing.rows import Cells, Row
from stack.importing.verdicts import Bad, Fault, RowReason


@dataclass(frozen=True, slots=True)
class Draft:
    """An event on its way out."""

    id: str
    type: str
    at: datetime
    data: Mapping[str, Any]

    def encoded(self, source: str) -> bytes:
        """As a till would send it."""
        body = {"specversion": "1.0", "id": self.id, "source": source, "type": self.type, "time": self.at.isoformat(), "data": self.data}
        try:
            return msgspec.json.encode(body)
        except OverflowError:
            # Numbers that no event may hold: identity's rules say so.
            return json.dumps(body, ensure_ascii=False).encode()


@dataclass(frozen=True, slots=True)
class Unit:
    """Rows that are taken or refused together: one, or the lines of a receipt. `faults` is by row number."""

    rows: tuple[Row, ...]
    drafts: tuple[Draft, ...] = ()
    faults: Mapping[int, Fault] | None = None


def customer_unit(row: Row, mapping: CustomersMapping) -> Unit:
    """What one row says of one customer."""
    return _unit(row, lambda: _customer_drafts(_cells(row, mapping), mapping))


def interaction_unit(row: Row, mapping: InteractionsMapping, name: str) -> Unit:
    """Something that a customer did; `name` is the id of rows that have none of their own."""
    return _unit(row, lambda: _interaction_drafts(_cells(row, mapping), mapping, name))


def purchase_unit(row: Row, mapping: PurchasesMapping, name: str) -> Unit:
    """A purchase in one row; `name` is the id of rows that have none of their own."""

    def drafts() -> list[Draft]:
        cells = _cells(row, mapping)
        return _receipt_drafts(cells.key(mapping.id) or name, _sale(cells, mapping), mapping)

    return _unit(row, drafts)


def receipt_unit(rows: Sequence[Row], mapping: PurchasesMapping) -> Unit:
    """A purchase in several rows, each a line. Half a receipt is none: one bad line refuses all."""
    sales: list[_Sale] = []
    faults: dict[int, Fault] = {}
    for row in rows:
        try:
            sales.append(_sale(_cells(row, mapping), mapping))
        except Bad as bad:
            faults[row.number] = bad.fault
    if not faults:
        try:
            return Unit(tuple(rows), tuple(_receipt_drafts(_cells(rows[0], mapping).key(mapping.id), _together(sales), mapping)))
        except Bad as bad:
            faults[rows[-1].number] = bad.fault
    return Unit(tuple(rows), faults=_refused_together(rows, faults))


def refused_unit(rows: Sequence[Row], fault: Fault) -> Unit:
    """Rows that are refused for one reason."""
    return Unit(tuple(rows), faults={row.number: fault for row in rows})


def _refused_together(rows: Sequence[Row], faults: Mapping[int, Fault]) -> dict[int, Fault]:
    others = Fault(RowReason.RECEIPT_REFUSED, f"row {min(faults)} of the same receipt is refused, and half a receipt is none")
    return {row.number: faults.get(row.number, others) for row in rows}


def _unit(row: Row, drafts: Any) -> Unit:
    try:
        return Unit((row,), tuple(drafts()))
    except Bad as bad:
        return Unit((row,), faults={row.number: bad.fault})


def _cells(row: Row, mapping: ImportMapping) -> Cells:
    """Raises Bad where the row could not be read, or says what the mapping wants to know of and does not."""
    if row.fault is not None:
        raise Bad(RowReason(row.fault.reason), row.fault.detail, row.fault.column)
    if mapping.file.unknown_columns == "refuse":
        known = set(mapped_columns(mapping)) | {column.partition(".")[0] for column in mapped_columns(mapping)}
        for column, value in row.values.items():
            if column not in known and values.as_text(value, mapping.file) is not None:
                raise Bad(RowReason.UNKNOWN_COLUMN, "the mapping does not name this column", column)
    return Cells(row.values, mapping.file)


def content_name(row: Row, mapping: ImportMapping) -> str:
    """The id of a row that has none: a hash of what it says in the columns that the mapping reads."""
    cells = Cells(row.values, mapping.file)
    said = [(column, _spelt(cells.raw(column))) for column in sorted(mapped_columns(mapping))]
    return derived_id("row", *(part for pair in said for part in pair))


def _spelt(value: object) -> str:
    return value.strip() if isinstance(value, str) else json.dumps(value, default=str, sort_keys=True)


def _references(cells: Cells, mapping: ImportMapping) -> list[str]:
    """Strongest first, as identity asks them."""
    found = []
    for kind in (*REFERENCE_TYPES, "typed"):
        value = cells.text(mapping.references.get(kind))  # type: ignore[call-overload]
        if value is not None:
            found.append(value if kind == "typed" else f"{kind}:{value}")
    return list(dict.fromkeys(found))


def _reference(cells: Cells, mapping: ImportMapping) -> str | None:
    return next(iter(_references(cells, mapping)), None)


# Customers.


def _customer_drafts(cells: Cells, mapping: CustomersMapping) -> list[Draft]:
    references = _references(cells, mapping)
    if not references:
        columns = ", ".join(given.column for given in mapping.references.values() if given.column)
        raise Bad(RowReason.MISSING_REFERENCE, f"nothing names the customer: one of {columns} is needed")
    zone = mapping.file.time_zone
    registered = cells.time(mapping.registered, zone) if mapping.registered and cells.text(mapping.registered) else None
    at = cells.time(mapping.time, zone) if mapping.time and (cells.text(mapping.time) or registered is None) else registered
    if at is None:
        raise Bad(RowReason.MISSING_VALUE, "a time is needed: when was this so?", mapping.registered.column if mapping.registered else None)
    data, dated = _customer_data(cells, mapping, references)
    key = cells.key(mapping.id) if mapping.id else references[0]
    drafts = [_statement(key, CustomerIdentified.event_type, at, data)]
    if registered is not None and registered < at:
        # First seen then: who has been a customer for years is not welcomed as a new one.
        drafts.insert(0, _statement(key, CustomerIdentified.event_type, registered, {"references": references}))
    return drafts + [
        _statement(key, ConsentChanged.event_type, since, {"reference": references[0], "consents": [said]}) for since, said in dated
    ]


def _customer_data(cells: Cells, mapping: CustomersMapping, references: list[str]) -> tuple[dict[str, Any], list[tuple[datetime, Any]]]:
    """The data, and the consents that were stated at a time of their own."""
    data: dict[str, Any] = {"references": references, "traits": _scalars(cells, mapping.traits, mapping.other_traits, mapping)}
    for name in ("preferred_channel", "language", "time_zone", "customer_type"):
        if (wish := cells.text(getattr(mapping, name))) is not None:
            data[name] = wish.lower() if name in ("preferred_channel", "customer_type") else wish
    data["consents"], dated = [], []
    for consent in mapping.consents:
        granted = cells.flag(consent.given)
        said = {"purpose": consent.purpose, "channel": consent.channel, "granted": granted}
        if granted is not None and consent.at is not None and cells.text(consent.at) is not None:
            dated.append((cells.time(consent.at, mapping.file.time_zone), said))
        elif granted is not None:
            data["consents"].append(said)
    return data, dated


def _statement(key: str, kind: str, at: datetime, data: Mapping[str, Any]) -> Draft:
    """Its id follows from all that it says: a row that changed since the last import is a new statement, not a contradiction."""
    said = json.dumps(data, sort_keys=True, ensure_ascii=False)
    return Draft(f"{_short(key)}/{derived_id(key, kind, at.isoformat(), said)}", kind, at, data)


def _short(key: str) -> str:
    """References are personal, and ids are shown everywhere."""
    return hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()[:16]


def _scalars(cells: Cells, named: Mapping[str, Given], others: bool, mapping: ImportMapping) -> dict[str, Any]:
    chosen = dict(named)
    if others:
        taken = set(mapped_columns(mapping))
        chosen |= {column: Given(column=column) for column in cells.values if column not in taken and column not in chosen}
    found = {name: _scalar(cells, given) for name, given in chosen.items()}
    return {name: value for name, value in found.items() if value is not None}


def _scalar(cells: Cells, given: Given) -> str | int | bool | None:
    """As the file has it where the contract knows it; fractions, nested values and times as text."""
    value = cells.raw(given.column) if given.column else given.value
    if isinstance(value, bool | int):
        return value
    if isinstance(value, Mapping | list):
        return json.dumps(value, ensure_ascii=False, default=str)
    return cells.text(given)


# Interactions.


def _interaction_drafts(cells: Cells, mapping: InteractionsMapping, name: str) -> list[Draft]:
    at = cells.time(mapping.time, mapping.file.time_zone)
    kind = cells.needed(mapping.kind, "the kind of interaction")
    properties = _scalars(cells, mapping.properties, mapping.other_properties, mapping)
    data = {"reference": _reference(cells, mapping), "kind": kind, "properties": properties}
    return [Draft(cells.key(mapping.id) or name, InteractionRecorded.event_type, at, data)]


# Purchases.


@dataclass(frozen=True, slots=True)
class _Sale:
    """A receipt, or what one of its rows says. Amounts may be negative: money given back."""

    reference: str | None
    store: str
    currency: str
    at: datetime
    lines: tuple[Mapping[str, Any], ...]


def _sale(cells: Cells, mapping: PurchasesMapping) -> _Sale:
    store = cells.needed(mapping.store, "the store")
    currency = cells.needed(mapping.currency, "the currency").upper() if mapping.currency else ""
    at = cells.time(mapping.time, mapping.store_time_zones.get(store, mapping.file.time_zone))
    lines = tuple(_line(each, mapping, currency) for each in _line_cells(cells, mapping))
    return _Sale(_reference(cells, mapping), store, currency, at, lines)


def _line_cells(cells: Cells, mapping: PurchasesMapping) -> Iterator[Cells]:
    if mapping.lines is None:
        yield cells
        return
    nested = cells.raw(mapping.lines)
    if not isinstance(nested, list) or not nested or not all(isinstance(each, Mapping) for each in nested):
        raise Bad(RowReason.MISSING_VALUE, "a list of at least one line is expected", mapping.lines)
    yield from (Cells(each, cells.layout, mapping.lines) for each in nested)


def _line(cells: Cells, mapping: PurchasesMapping, currency: str) -> dict[str, Any]:
    quantity = cells.quantity(mapping.quantity, mapping.weighed_as_one)
    if mapping.amount is not None:
        place, amount = mapping.amount, cells.minor(mapping.amount, currency)
    else:
        assert mapping.price is not None
        place, amount = mapping.price, cells.minor(mapping.price, currency, quantity)
    if amount < 0 and mapping.negative == "refuse":
        detail = "money given back is a refund: negative = 'refund' in the mapping makes it one"
        raise Bad(RowReason.NEGATIVE_AMOUNT, detail, cells.place(place))
    if quantity < 0 <= amount and amount != 0:
        raise Bad(RowReason.NOT_A_QUANTITY, "less than nothing was bought for more than nothing", cells.place(mapping.quantity))
    line: dict[str, Any] = {"sku": cells.needed(mapping.sku, "the product"), "quantity": abs(quantity), "amount_minor": amount}
    for name in ("department", "category"):
        if (text := cells.text(getattr(mapping, name))) is not None:
            line[name] = text
    if mapping.unit_cost is not None and cells.text(mapping.unit_cost) is not None:
        line["unit_cost_minor"] = cells.minor(mapping.unit_cost, currency)
    return line


def _together(sales: Sequence[_Sale]) -> _Sale:
    """One receipt of its rows; its time is the earliest of theirs. Raises Bad where they disagree."""
    first = sales[0]
    for name in ("reference", "store", "currency"):
        if len({getattr(sale, name) for sale in sales}) > 1:
            raise Bad(RowReason.ROWS_DISAGREE, f"the rows of this receipt differ in their {name}: does the id name one receipt only?")
    lines = tuple(line for sale in sales for line in sale.lines)
    return _Sale(first.reference, first.store, first.currency, min(sale.at for sale in sales), lines)


def _in_order(line: Mapping[str, Any]) -> list[tuple[str, str]]:
    return sorted((name, str(value)) for name, value in line.items())


def _receipt_drafts(name: str, sale: _Sale, mapping: PurchasesMapping) -> list[Draft]:
    """The purchase, and the refund of what was given back on the same receipt.

    Lines are put in an order of their own: the same receipt is the same event however the file was sorted.
    """
    bought = sorted((line for line in sale.lines if line["amount_minor"] >= 0), key=_in_order)
    given_back = -sum(line["amount_minor"] for line in sale.lines if line["amount_minor"] < 0)
    head = {"reference": sale.reference, "store": sale.store, "currency": sale.currency}
    drafts = [Draft(name, PurchaseRecorded.event_type, sale.at, {**head, "lines": bought})] if bought else []
    if given_back:
        refund = {**head, "amount_minor": given_back, **({"purchase_id": name} if bought else {})}
        drafts.append(Draft(f"{name}/refund" if bought else name, PurchaseRefunded.event_type, sale.at, refund))
    return drafts
