"""What tills and web shops say: somebody bought, or gave back."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from shared.contracts.envelope import EVENT_BYTES_MAX, Contract, Currency, EventData, Minor, Name, Reference

Quantity = Annotated[int, Field(ge=0, le=10**9)]
_LINES = (
    f"At most 2,000, and no more than the event takes as a whole: {EVENT_BYTES_MAX:,} bytes of JSON, which is about 280 lines with "
    "department and category, and 580 with sku, quantity and amount alone. A longer receipt is sent as several purchases."
)


class PurchaseLine(Contract):
    """One product on a receipt; `amount_minor` is what was paid for the whole line."""

    sku: Name
    quantity: Quantity
    amount_minor: Minor
    department: Name | None = None
    category: Name | None = None
    unit_cost_minor: Minor | None = None


class PurchaseRecorded(EventData):
    """A sale. `reference` is required and null for an anonymous one."""

    event_type: ClassVar[str] = "dear.PurchaseRecorded"

    reference: Reference | None
    store: Name
    currency: Currency
    lines: Annotated[tuple[PurchaseLine, ...], Field(min_length=1, max_length=2000, description=_LINES)]


class PurchaseRefunded(EventData):
    """Money given back; `purchase_id` is the id of the purchase event where the source knows it."""

    event_type: ClassVar[str] = "dear.PurchaseRefunded"

    reference: Reference | None
    store: Name
    currency: Currency
    amount_minor: Minor
    purchase_id: Name | None = None


def total_minor(purchase: PurchaseRecorded) -> int:
    """What the whole purchase cost, in minor units."""
    return sum(line.amount_minor for line in purchase.lines)
