"""What campaigns decides: offers, and points."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from shared.contracts.customers import Purpose
from shared.contracts.envelope import EventData, Name, ProfileId, Time
from shared.contracts.interactions import Properties

LedgerKind = Literal["earned", "reversed", "redeemed", "expired", "adjusted"]


class OfferDecided(EventData):
    """One program's proposal to one customer, to be delivered before it expires. Offers held out are never published."""

    event_type: ClassVar[str] = "dear.OfferDecided"

    offer_id: Name
    program: Name
    program_version: Annotated[int, Field(ge=1)]
    customer_id: ProfileId
    template: Name
    purpose: Purpose
    decided_at: Time
    expires_at: Time
    content: Properties = Field(default_factory=dict)


class PointsPosted(EventData):
    """One entry of the loyalty ledger: points that came or went, and what caused it. A balance is asked for, never told."""

    event_type: ClassVar[str] = "dear.PointsPosted"

    entry_id: Name
    customer_id: ProfileId
    profile_id: ProfileId
    kind: LedgerKind
    points: int
    cause_source: Name
    cause_id: Name
    occurred_at: Time
    posted_at: Time
    """Wall-clock time at which the entry was durable."""
