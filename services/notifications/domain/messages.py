"""A message: one offer on its way to one customer on one channel, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from services.notifications.domain.reasons import ChannelReason, Reason
from shared.contracts.customers import Channel, Purpose
from shared.contracts.deliveries import DeliveryRecorded
from shared.contracts.deliveries import Outcome as Published
from shared.contracts.envelope import Event, derived_id, envelope
from shared.contracts.interactions import Scalar

SOURCE = "dear/notifications"


class State(StrEnum):
    """due → sending → sent, failed or unknown; due → suppressed. The last four are final."""

    DUE = "due"
    SENDING = "sending"
    SENT = "sent"
    SUPPRESSED = "suppressed"
    FAILED = "failed"
    UNKNOWN = "unknown"


FINAL: tuple[State, ...] = (State.SENT, State.SUPPRESSED, State.FAILED, State.UNKNOWN)
COUNTED_BY_CAPS: tuple[State, ...] = (State.SENDING, State.SENT, State.UNKNOWN)
"""What went out or may have."""


_PUBLISHED: Mapping[State, Published] = {
    State.SENT: "sent",
    State.SUPPRESSED: "suppressed",
    State.FAILED: "failed",
    State.UNKNOWN: "unknown",
}


class _Offer(Protocol):
    @property
    def offer_id(self) -> str: ...
    @property
    def program(self) -> str: ...
    @property
    def customer_id(self) -> str: ...
    @property
    def template(self) -> str: ...
    @property
    def purpose(self) -> Purpose: ...
    @property
    def decided_at(self) -> datetime: ...
    @property
    def expires_at(self) -> datetime: ...
    @property
    def content(self) -> dict[str, Scalar]: ...


@dataclass(frozen=True, slots=True)
class Message:
    """What has to be said, and until when it is worth saying."""

    message_id: str
    offer_id: str
    program: str
    customer_id: str
    channel: Channel
    partition: int
    template: str
    purpose: Purpose
    content: Mapping[str, Scalar]
    decided_at: datetime
    expires_at: datetime
    recorded_at: datetime
    """By the wall's clock."""
    appended_ms: int
    """When the broker took the offer."""
    attempts: int = 0
    put_off_to: datetime | None = None
    reference: str | None = None
    """Whom it was for when it was recorded, as sources name them. Kept until the outcome is told, and no longer."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a message, for good."""

    message: Message
    state: State
    at: datetime
    reason: Reason | None = None
    detail: str | None = None
    channel_reason: ChannelReason | None = None
    language: str | None = None
    reference: str | None = None
    """Whom the mail was written to; None where none was, or that is forgotten because it was told."""
    tracked: bool = False
    """Did the mail hold what tells that it was read?"""


def message_id(offer_id: str, customer_id: str, channel: Channel) -> str:
    """One message per offer, customer and channel, however often the offer arrives."""
    return derived_id("message", offer_id, customer_id, channel)


def message_for(
    offer: _Offer, channel: Channel, partition: int, recorded_at: datetime, appended_ms: int, *, reference: str | None
) -> Message:
    """The message that an offer asks for."""
    return Message(
        message_id=message_id(offer.offer_id, offer.customer_id, channel),
        offer_id=offer.offer_id,
        program=offer.program,
        customer_id=offer.customer_id,
        channel=channel,
        partition=partition,
        template=offer.template,
        purpose=offer.purpose,
        content=offer.content,
        decided_at=offer.decided_at,
        expires_at=offer.expires_at,
        recorded_at=recorded_at,
        appended_ms=appended_ms,
        reference=reference,
    )


def delivery_of(outcome: Outcome) -> Event[DeliveryRecorded]:
    """What the others are told; the same event whenever it is told again."""
    message = outcome.message
    data = DeliveryRecorded(
        offer_id=message.offer_id,
        program=message.program,
        customer_id=message.customer_id,
        channel=message.channel,
        outcome=_PUBLISHED[outcome.state],
        reason=outcome.reason.value if outcome.reason else None,
        decided_at=outcome.at,
    )
    return envelope(data, id=derived_id("delivery", message.message_id), source=SOURCE, time=outcome.at)
