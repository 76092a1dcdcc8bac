"""What the gate needs to know of a few customers, read just before it is asked."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from services.notifications.domain.channels import Choice, choose_channel
from services.notifications.domain.contacts import Contact, Sent, Suppression, profiles_of, suppression_subjects
from services.notifications.domain.messages import Message
from services.notifications.domain.policy import Proposal, Rules, Verdict, may_send
from services.notifications.store import contacts, messages, suppressions


@dataclass(frozen=True, slots=True)
class Judged:
    """A message and what the gate said."""

    message: Message
    contact: Contact | None
    choice: Choice
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Situation:
    """Contacts by customer, history by profile, suppressions by subject."""

    contacts: Mapping[str, Contact]
    suppressions: Mapping[str, list[Suppression]]
    sent: Mapping[str, list[Sent]]

    def judge(self, message: Message, rules: Rules, now: datetime, wall: datetime) -> Judged:
        """Ask the gate."""
        contact = self.contacts.get(message.customer_id)
        subjects = suppression_subjects(message.customer_id, contact)
        against = [suppression for subject in subjects for suppression in self.suppressions.get(subject, ())]
        sent = [one for profile in profiles_of(message.customer_id, contact) for one in self.sent.get(profile, ())]
        verdict = may_send(_proposal(message, wall), contact, sent=sent, suppressions=against, now=now, rules=rules)
        return Judged(message, contact, choose_channel(contact, message.purpose), verdict)


def _proposal(message: Message, wall: datetime) -> Proposal:
    return Proposal(
        message.channel,
        message.purpose,
        message.expires_at,
        waited=wall - message.recorded_at,
        program=message.program,
        to=message.customer_id,
        open_since=message.decided_at - (message.expires_at - message.decided_at),
    )


def look_up(
    asked: Collection[Message], since: datetime, known: Mapping[str, Contact] | None = None, master_key: bytes | None = None
) -> Situation:
    """The situation of these messages' customers, with what was sent to them since then; `known` are their contacts, if just read."""
    ids = {message.customer_id for message in asked}
    found = contacts.read(ids) if known is None else known
    subjects = {subject for customer_id in ids for subject in suppression_subjects(customer_id, found.get(customer_id))}
    return Situation(found, suppressions.active_for(subjects, master_key), messages.history(_reach_the_caps(asked, found), since))


def _reach_the_caps(asked: Collection[Message], found: Mapping[str, Contact]) -> set[str]:
    """The profiles whose history matters: the gate asks for consent before it counts."""
    return {
        profile
        for message in asked
        if (contact := found.get(message.customer_id)) is not None and contact.allows(message.purpose, message.channel)
        for profile in profiles_of(message.customer_id, contact)
    }
