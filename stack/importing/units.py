"""The rows of a file as units: what is taken or refused together, in the order in which it becomes whole."""

from __future__ import annotations

from collections.abc import Iterator

from stack.importing.customers import customer_unit
from stack.importing.drafts import Unit, content_name, refused_unit
from stack.importing.interactions import interaction_unit
from stack.importing.mapping import CustomersMapping, ImportMapping, InteractionsMapping, MappingError, PurchasesMapping
from stack.importing.purchases import purchase_unit, receipt_unit
from stack.importing.rows import Cells, Row
from stack.importing.seen import Seen
from stack.importing.tables import Advance, Table
from stack.importing.verdicts import Bad, Fault, RowReason

MOST_OPEN_ROWS = 200_000
"""Rows of receipts whose other rows are still to come; more would not fit into memory."""
MOST_LINES = 2000
"""As many as the contract takes."""
_ROWS, _DOUBTFUL = "rows/", "doubtful/"
"""What is counted of a receipt: its rows, and the rows beside it that could not be read."""


def units_of(table: Table, mapping: ImportMapping, seen: Seen, advance: Advance) -> Iterator[Unit]:
    """All units of the file. The same file under the same mapping gives the same units in the same order."""
    if isinstance(mapping, PurchasesMapping) and mapping.rows == "line":
        yield from _receipts(table, mapping, seen, advance)
        return
    for row in table.rows(advance):
        yield _of_row(row, mapping, seen)


def _of_row(row: Row, mapping: ImportMapping, seen: Seen) -> Unit:
    match mapping:
        case CustomersMapping():
            return customer_unit(row, mapping)
        case PurchasesMapping():
            return purchase_unit(row, mapping, _name(row, mapping, seen))
        case InteractionsMapping():
            return interaction_unit(row, mapping, _name(row, mapping, seen))


def _name(row: Row, mapping: ImportMapping, seen: Seen) -> str:
    """The id of a row that has none. Two rows that say the same are two events: a day may bring two equal sales."""
    if mapping.id or row.fault is not None:
        return ""
    name = content_name(row, mapping)
    before = seen.counted(name)
    seen.count(name)
    return f"{name}-{before + 1}" if before else name


def _receipts(table: Table, mapping: PurchasesMapping, seen: Seen, advance: Advance) -> Iterator[Unit]:
    """Receipts as soon as their last row was read, so the file need not be sorted. Raises MappingError where it is far from sorted."""
    _survey(table, mapping, seen)
    open_rows: dict[str, list[Row]] = {}
    held = 0
    for row in table.rows(advance):
        receipt = _receipt_of(row, mapping)
        if isinstance(receipt, Fault):
            yield refused_unit((row,), receipt)
        elif (count := seen.counted(_ROWS + receipt)) > MOST_LINES:
            detail = f"{count:,} rows have this receipt, and a receipt has at most {MOST_LINES:,}: does the id name one receipt only?"
            yield refused_unit((row,), Fault(RowReason.TOO_MANY_LINES, detail))
        else:
            rows = open_rows.setdefault(receipt, [])
            rows.append(row)
            held += 1
            if len(rows) == count:
                held -= len(open_rows.pop(receipt))
                yield _of_receipt(receipt, rows, mapping, seen)
        if held > MOST_OPEN_ROWS:
            raise MappingError(
                f"the rows of too many receipts lie apart: sort the file by {', '.join(mapping.id)} and import it again. "
                "What was sent before is whole, and counts once."
            )


def _survey(table: Table, mapping: PurchasesMapping, seen: Seen) -> None:
    """Count the rows of each receipt, and the unreadable ones beside them: these may be theirs, and half a receipt is none."""
    last, length, unreadable = "", 0, False
    for row in table.rows():
        receipt = _receipt_of(row, mapping)
        if isinstance(receipt, Fault):
            if row.fault is not None:
                unreadable = True
                seen.count(_DOUBTFUL + last)
            continue
        if unreadable:
            seen.count(_DOUBTFUL + receipt)
            unreadable = False
        if receipt != last and length:
            seen.count(_ROWS + last, length)
            length = 0
        last, length = receipt, length + 1
    if length:
        seen.count(_ROWS + last, length)


def _receipt_of(row: Row, mapping: PurchasesMapping) -> str | Fault:
    if row.fault is not None:
        return row.fault
    try:
        return Cells(row.values, mapping.file).key(mapping.id)
    except Bad as bad:
        return bad.fault


def _of_receipt(receipt: str, rows: list[Row], mapping: PurchasesMapping, seen: Seen) -> Unit:
    if seen.counted(_DOUBTFUL + receipt):
        detail = "a row beside this receipt cannot be read and may belong to it, and half a receipt is none"
        return refused_unit(rows, Fault(RowReason.RECEIPT_REFUSED, detail))
    return receipt_unit(rows, mapping)
