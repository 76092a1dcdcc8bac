"""Purchases and refunds from rows: each a whole purchase, or a line of a receipt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from shared.contracts.purchases import PurchaseRecorded, PurchaseRefunded
from stack.importing.drafts import Draft, Named, Unit, cells_of, first_named, row_unit
from stack.importing.mapping import PurchasesMapping
from stack.importing.rows import Cells, Row
from stack.importing.verdicts import Bad, Fault, RowReason


def purchase_unit(row: Row, mapping: PurchasesMapping, name: str) -> Unit:
    """A purchase in one row; `name` is the id of rows that have none of their own."""

    def read() -> tuple[list[Draft], Named]:
        cells = cells_of(row, mapping)
        receipt = cells.key(mapping.id) or name
        sale = _sale(cells, mapping)
        return _drafts(receipt, sale, mapping), sale.named

    return row_unit(row, read)


def receipt_unit(rows: Sequence[Row], mapping: PurchasesMapping) -> Unit:
    """A purchase in several rows, each a line. Half a receipt is none: one bad line refuses all."""
    sales: list[_Sale] = []
    faults: dict[int, Fault] = {}
    for row in rows:
        try:
            sales.append(_sale(cells_of(row, mapping), mapping))
        except Bad as bad:
            faults[row.number] = bad.fault
    if not faults:
        try:
            receipt = cells_of(rows[0], mapping).key(mapping.id)
            return Unit(tuple(rows), tuple(_drafts(receipt, _together(sales), mapping)), named=sales[0].named)
        except Bad as bad:
            faults[rows[-1].number] = bad.fault
    return Unit(tuple(rows), faults=_refused_together(rows, faults))


def _refused_together(rows: Sequence[Row], faults: Mapping[int, Fault]) -> dict[int, Fault]:
    others = Fault(RowReason.RECEIPT_REFUSED, f"row {min(faults)} of the same receipt is refused, and half a receipt is none")
    return {row.number: faults.get(row.number, others) for row in rows}


@dataclass(frozen=True, slots=True)
class _Sale:
    """A receipt, or what one of its rows says. Amounts may be negative: money given back."""

    named: Named
    store: str
    currency: str
    at: datetime
    lines: tuple[Mapping[str, Any], ...]

    @property
    def reference(self) -> str | None:
        return next(iter(self.named), None)


def _sale(cells: Cells, mapping: PurchasesMapping) -> _Sale:
    store = cells.needed(mapping.store, "the store")
    currency = cells.needed(mapping.currency, "the currency").upper() if mapping.currency else ""
    at = cells.time(mapping.time, mapping.store_time_zones.get(store, mapping.file.time_zone))
    lines = tuple(_line(each, mapping, currency) for each in _line_cells(cells, mapping))
    return _Sale(first_named(cells, mapping.references), store, currency, at, lines)


def _line_cells(cells: Cells, mapping: PurchasesMapping) -> Iterator[Cells]:
    if mapping.lines is None:
        yield cells
        return
    lines = list(cells.within_column(mapping.lines))
    if not lines:
        raise Bad(RowReason.MISSING_VALUE, "a list of at least one line is expected", mapping.lines)
    yield from lines


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
    return _Sale(first.named, first.store, first.currency, min(sale.at for sale in sales), lines)


def _in_order(line: Mapping[str, Any]) -> list[tuple[str, str]]:
    return sorted((name, str(value)) for name, value in line.items())


def _drafts(name: str, sale: _Sale, mapping: PurchasesMapping) -> list[Draft]:
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
