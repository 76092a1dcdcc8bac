"""What became of an offer."""

from __future__ import annotations

from typing import ClassVar, Literal

from shared.contracts.customers import Channel
from shared.contracts.envelope import EventData, Name, ProfileId, Time

Outcome = Literal["sent", "suppressed", "failed", "unknown"]


class DeliveryRecorded(EventData):
    """The final outcome of one offer on one channel; `reason` says why where nothing was sent."""

    event_type: ClassVar[str] = "dear.DeliveryRecorded"

    offer_id: Name
    program: Name
    customer_id: ProfileId
    channel: Channel | None
    outcome: Outcome
    reason: Name | None = None
    decided_at: Time
