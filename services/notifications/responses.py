"""What readers do with their mails: noted at once where they allow it, and published by the worker that has the customer's messages."""

from __future__ import annotations

from datetime import datetime

from services.notifications import metrics
from services.notifications.domain.contacts import suppression_subjects
from services.notifications.domain.interactions import Kind, Untracked, response_to, told_of_response, why_not_tracked
from services.notifications.domain.messages import Message
from services.notifications.ownership import OwnedPartitions
from services.notifications.store import contacts, messages, suppressions
from services.notifications.store import responses as response_store
from shared.clock import Clock
from shared.contracts.topics import INTERACTIONS
from shared.mongo import in_store
from shared.streaming.records import Message as Record
from shared.streaming.records import Publish

NOTED, REPEATED, UNKNOWN_MAIL, NOT_OURS = "noted", "repeated", "unknown_mail", "not_ours"
"""What comes of a response; else it is the reason why it was not noted."""
TOLD_AT_ONCE = 500


class Responses:
    """Requests note, one timer tells: a request needs only the database, and what it noted is not lost with its process."""

    def __init__(self, publish: Publish, owned: OwnedPartitions, clock: Clock, *, track: bool) -> None:
        self._publish, self._owned, self._clock, self._track = publish, owned, clock, track

    async def note(self, kind: Kind, message_id: str, link: str | None = None) -> None:
        """Somebody opened the mail, or followed a link in it. Raises Unavailable."""
        _count(kind, await in_store(_note, kind, message_id, link, _to_milliseconds(self._clock.now()), self._track))

    async def note_unsubscribed(self, message: Message, reference: str, at: datetime) -> None:
        """Somebody wants no more of it: that is said, not observed, so it needs nobody's consent. Raises Unavailable."""
        _count(Kind.UNSUBSCRIBED, await in_store(_keep, message, Kind.UNSUBSCRIBED, reference, _to_milliseconds(at)))

    async def tell(self) -> None:
        """Publish what is not published yet, then write down that it is: a crash in between has it published twice, never lost."""
        owned = frozenset(self._owned.numbers)
        if not owned:
            return
        told = await in_store(response_store.unreported, owned, TOLD_AT_ONCE)
        if not told:
            return
        events = [(response.reference, told_of_response(response)) for response in told]
        await self._publish(INTERACTIONS, [Record(to.encode(), event.model_dump_json().encode()) for to, event in events])
        await in_store(response_store.reported, [response.response_id for response in told])
        for response in told:
            metrics.MAIL_INTERACTIONS.labels(response.kind).inc()


def not_ours(kind: Kind) -> None:
    """A link came that was not made here."""
    _count(kind, NOT_OURS)


def _note(kind: Kind, message_id: str, link: str | None, at: datetime, track: bool) -> str:
    message = messages.find(message_id)
    if message is None:
        return UNKNOWN_MAIL
    contact = contacts.read([message.customer_id]).get(message.customer_id)
    subjects = suppression_subjects(message.customer_id, contact)
    against = [suppression for some in suppressions.active_for(subjects).values() for suppression in some]
    reason = why_not_tracked(message, contact, against, track)
    if reason is not None:
        return reason
    reference = contact.reference_on(message.channel) if contact else None
    return _keep(message, kind, reference, at, link) if reference else Untracked.NO_ADDRESS


def _keep(message: Message, kind: Kind, reference: str, at: datetime, link: str | None = None) -> str:
    return NOTED if response_store.record(response_to(message, kind, reference, at, link)) else REPEATED


def _count(kind: Kind, outcome: str) -> None:
    metrics.RESPONSES.labels(kind, outcome).inc()


def _to_milliseconds(at: datetime) -> datetime:
    """As the database keeps it, so that a response is told in the same words after a restart."""
    return at.replace(microsecond=at.microsecond // 1000 * 1000)
