"""What the shop sells."""

from __future__ import annotations

from typing import ClassVar

from shared.contracts.envelope import EventData, Minor, Name


class ProductPublished(EventData):
    """The current description of one product."""

    event_type: ClassVar[str] = "dear.ProductPublished"

    sku: Name
    name: Name
    department: Name | None = None
    category: Name | None = None
    unit_cost_minor: Minor | None = None
