"""Which channel a message takes."""

from __future__ import annotations

from dataclasses import dataclass

from services.notifications.domain.contacts import Contact
from services.notifications.domain.reasons import ChannelReason
from shared.contracts.customers import Channel, Purpose

DELIVERABLE: tuple[Channel, ...] = ("email",)
"""The channels that this service can hand a message over on, best fallback first."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A channel, and why it is that one."""

    channel: Channel
    reason: ChannelReason


def choose_channel(contact: Contact | None, purpose: Purpose, deliverable: tuple[Channel, ...] = DELIVERABLE) -> Choice:
    """The preferred channel if it can be used, else the first deliverable one that can.

    Where none can be used, the first deliverable one is named all the same, so that the gate says what it lacks.
    """
    if contact is None:
        return Choice(deliverable[0], ChannelReason.UNKNOWN_CUSTOMER)
    reason = _of_the_preferred(contact, purpose, deliverable)
    if reason is ChannelReason.PREFERRED and contact.preferred_channel:
        return Choice(contact.preferred_channel, reason)
    return Choice(next((channel for channel in deliverable if _is_usable(contact, purpose, channel)), deliverable[0]), reason)


def _of_the_preferred(contact: Contact, purpose: Purpose, deliverable: tuple[Channel, ...]) -> ChannelReason:
    preferred = contact.preferred_channel
    if preferred is None:
        return ChannelReason.NO_PREFERENCE
    if preferred not in deliverable:
        return ChannelReason.PREFERRED_NOT_DELIVERABLE
    if not contact.allows(purpose, preferred):
        return ChannelReason.PREFERRED_NOT_CONSENTED
    if preferred not in contact.addresses:
        return ChannelReason.PREFERRED_WITHOUT_ADDRESS
    return ChannelReason.PREFERRED


def _is_usable(contact: Contact, purpose: Purpose, channel: Channel) -> bool:
    return channel in contact.addresses and contact.allows(purpose, channel)
