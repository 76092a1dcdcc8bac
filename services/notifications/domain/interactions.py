"""What is told to everybody of a mail and of what its reader did: interactions of the customer, each the same event whenever it is told."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from services.notifications.domain.contacts import Contact, Suppression
from services.notifications.domain.messages import SOURCE, Message, Outcome, State
from shared.contracts.envelope import Event, derived_id, envelope
from shared.contracts.interactions import InteractionRecorded, Scalar


class Kind(StrEnum):
    """The kinds of interactions that come from here."""

    SENT = "EmailSent"
    OPENED = "EmailOpened"
    CLICKED = "EmailClicked"
    UNSUBSCRIBED = "Unsubscribed"


class Untracked(StrEnum):
    """Why it is not noted that somebody opened a mail or followed a link in it."""

    SWITCHED_OFF = "switched_off"
    SERVICE_MESSAGE = "service_message"
    UNKNOWN_CUSTOMER = "unknown_customer"
    SUPPRESSION_LIST = "suppression_list"
    NO_CONSENT = "no_consent"
    NO_ADDRESS = "no_address"


@dataclass(frozen=True, slots=True)
class Response:
    """What the reader of a mail did, the first time on a day."""

    response_id: str
    kind: Kind
    message_id: str
    partition: int
    at: datetime
    reference: str
    properties: Mapping[str, Scalar]


def is_tracked(message: Message, track: bool) -> bool:
    """May the mail hold what tells that it was read? Marketing may, since nobody gets it without having agreed; service messages never."""
    return track and message.purpose == "marketing" and message.channel == "email"


def why_not_tracked(message: Message, contact: Contact | None, suppressions: Collection[Suppression], track: bool) -> Untracked | None:
    """The first reason why what the reader did now is not noted; None where it is."""
    if not track:
        return Untracked.SWITCHED_OFF
    if not is_tracked(message, track):
        return Untracked.SERVICE_MESSAGE
    if contact is None:
        return Untracked.UNKNOWN_CUSTOMER
    if any(suppression.forbids(message.purpose, message.channel, contact) for suppression in suppressions):
        return Untracked.SUPPRESSION_LIST
    if not contact.allows(message.purpose, message.channel):
        return Untracked.NO_CONSENT
    return None if message.channel in contact.addresses else Untracked.NO_ADDRESS


def response_to(message: Message, kind: Kind, reference: str, at: datetime, link: str | None = None) -> Response:
    """What the reader of the message did. Its id knows the day (UTC) and no more: on one day everything after the first is a repeat."""
    said = _about(message) if link is None else {**_about(message), "link": link}
    return Response(derived_id(kind, message.message_id, at.date()), kind, message.message_id, message.partition, at, reference, said)


def told_of_response(response: Response) -> Event[InteractionRecorded]:
    """What the others are told of it."""
    data = InteractionRecorded(reference=response.reference, kind=response.kind, properties=dict(response.properties))
    return envelope(data, id=response.response_id, source=SOURCE, time=response.at)


def told_of_mail(outcome: Outcome) -> Event[InteractionRecorded] | None:
    """What the others are told of a mail that was handed over; None where it was not, or it is known to have been told."""
    if outcome.state is not State.SENT or outcome.reference is None:
        return None
    said = {**_about(outcome.message), "tracked": outcome.tracked}
    data = InteractionRecorded(reference=outcome.reference, kind=Kind.SENT, properties=said)
    return envelope(data, id=derived_id(Kind.SENT, outcome.message.message_id), source=SOURCE, time=outcome.at)


def _about(message: Message) -> dict[str, Scalar]:
    return {
        "message_id": message.message_id,
        "offer_id": message.offer_id,
        "program": message.program,
        "template": message.template,
        "channel": message.channel,
    }
