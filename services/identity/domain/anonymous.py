"""Sales to nobody in particular: counted by store and day."""

from __future__ import annotations

from dataclasses import dataclass

from services.identity.domain.events import SourceEvent
from shared.contracts.purchases import PurchaseRecorded, PurchaseRefunded


@dataclass(frozen=True, slots=True)
class AnonymousSale:
    """What an event that names nobody adds to its store's day (UTC). Amounts in minor units."""

    store: str | None
    day: str
    sales: int
    bought: int
    refunded: int


def anonymous_sale(event: SourceEvent) -> AnonymousSale:
    """What the event adds; an interaction adds only itself."""
    bought = sum(line.amount_minor for line in event.data.lines) if event.type == PurchaseRecorded.event_type else 0
    return AnonymousSale(
        store=getattr(event.data, "store", None),
        day=event.at.date().isoformat(),
        sales=int(event.type == PurchaseRecorded.event_type),
        bought=bought,
        refunded=event.data.amount_minor if event.type == PurchaseRefunded.event_type else 0,
    )
