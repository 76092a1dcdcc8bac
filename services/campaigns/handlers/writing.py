"""What campaigns publishes, as messages. Ids derive from the cause, so a repeat is the same event."""

from __future__ import annotations

from datetime import datetime

import msgspec

from services.campaigns.domain.loyalty import LedgerEntry
from services.campaigns.domain.offers import Offer
from shared.contracts.envelope import Event, derived_id, envelope
from shared.contracts.fast import fast_struct
from shared.contracts.offers import OfferDecided, PointsPosted
from shared.streaming.records import Message

SOURCE = "dear/campaigns"

_Envelope = fast_struct(Event[PointsPosted])
_Points = fast_struct(PointsPosted)
_encoder = msgspec.json.Encoder()


def points_posted(entry: LedgerEntry, customer_id: str, posted_at: datetime) -> Message:
    """The news of one ledger entry. Written by the struct that derives from the model: this is the hot path."""
    data = _Points(
        entry_id=entry.id,
        customer_id=customer_id,
        profile_id=entry.profile_id,
        kind=entry.kind,
        points=entry.points,
        cause_source=entry.cause_source,
        cause_id=entry.cause_id,
        occurred_at=entry.occurred_at,
        posted_at=posted_at,
    )
    name = derived_id(PointsPosted.event_type, entry.id)
    event = _Envelope(id=name, source=SOURCE, type=PointsPosted.event_type, time=entry.occurred_at, data=data)
    return Message(customer_id.encode(), _encoder.encode(event))


def offer_decided(offer: Offer) -> Message:
    """The news of one offer."""
    data = OfferDecided(
        offer_id=offer.id,
        program=offer.program,
        program_version=offer.program_version,
        customer_id=offer.customer_id,
        template=offer.template,
        purpose=offer.purpose,
        decided_at=offer.decided_at,
        expires_at=offer.expires_at,
        content=dict(offer.content),
    )
    event = envelope(data, id=derived_id(OfferDecided.event_type, offer.id), source=SOURCE, time=offer.decided_at)
    return Message(offer.customer_id.encode(), event.model_dump_json().encode())
