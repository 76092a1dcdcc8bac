"""What notifications knows of a customer: where they can be reached, what they allowed, and when it is night for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from shared.contracts.customers import Channel, Purpose
from shared.contracts.interactions import Scalar

FIRST_NAME_TRAITS = ("first_name", "given_name", "name")

_CHANNELS_BY_REFERENCE: Mapping[str, tuple[Channel, ...]] = {"email": ("email",), "line": ("line",), "phone": ("sms", "call")}
_REFERENCES_BY_CHANNEL: Mapping[Channel, str] = {channel: kind for kind, channels in _CHANNELS_BY_REFERENCE.items() for channel in channels}


class _Consent(Protocol):
    @property
    def purpose(self) -> Purpose: ...
    @property
    def channel(self) -> Channel: ...
    @property
    def granted(self) -> bool: ...
    @property
    def at(self) -> datetime: ...


class _Published(Protocol):
    """The part of `CustomerPublished` that is read here; its fast decoding fits too."""

    @property
    def customer_id(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def members(self) -> tuple[str, ...]: ...
    @property
    def merged_into(self) -> str | None: ...
    @property
    def references(self) -> tuple[str, ...]: ...
    @property
    def traits(self) -> dict[str, Scalar]: ...
    @property
    def consents(self) -> tuple[_Consent, ...]: ...
    @property
    def preferred_channel(self) -> Channel | None: ...
    @property
    def language(self) -> str | None: ...
    @property
    def time_zone(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """What a customer said when asked for consent, and when."""

    granted: bool
    at: datetime


@dataclass(frozen=True, slots=True)
class Contact:
    """One customer as this service needs them. Where a channel has several addresses, the newest is used."""

    customer_id: str
    version: int
    addresses: Mapping[Channel, str] = field(default_factory=dict)
    consents: Mapping[tuple[Purpose, Channel], Answer] = field(default_factory=dict)
    preferred_channel: Channel | None = None
    language: str | None = None
    time_zone: str | None = None
    first_name: str | None = None
    members: tuple[str, ...] = ()
    """All profiles that are this customer, under whose ids it may have been written to; empty means its own only."""
    merged_into: str | None = None
    """The customer that it is part of, of one that is none by itself any more."""

    def allows(self, purpose: Purpose, channel: Channel) -> bool:
        """Marketing needs a yes; service messages need only the absence of a no."""
        answer = self.consents.get((purpose, channel))
        return answer.granted if answer else purpose == "service"

    def reference_on(self, channel: Channel) -> str | None:
        """How sources name the customer by the address on that channel."""
        address = self.addresses.get(channel)
        return f"{_REFERENCES_BY_CHANNEL[channel]}:{address}" if address and channel in _REFERENCES_BY_CHANNEL else None

    def consented_after(self, moment: datetime, purpose: Purpose, channel: Channel) -> bool:
        """Did they say yes, explicitly, later than that?"""
        answer = self.consents.get((purpose, channel))
        return answer is not None and answer.granted and answer.at > moment


@dataclass(frozen=True, slots=True)
class Suppression:
    """Somebody, or an address, that is not to be written to; None means every channel, every purpose."""

    subject: str
    channel: Channel | None = None
    purpose: Purpose | None = None
    until_consent_after: datetime | None = None
    """Somebody who unsubscribed may change their mind: a consent given after this moment ends it. None: only people lift it."""

    def forbids(self, purpose: Purpose, channel: Channel, contact: Contact) -> bool:
        """Does it cover that purpose on that channel, and has the customer not thought better of it?"""
        if self.channel not in (None, channel) or self.purpose not in (None, purpose):
            return False
        return self.until_consent_after is None or not contact.consented_after(self.until_consent_after, purpose, channel)


@dataclass(frozen=True, slots=True)
class Sent:
    """A marketing message that went out, or may have: what frequency caps count. `to` is the profile that it was for."""

    channel: Channel
    at: datetime
    program: str = ""
    to: str = ""


def contact_of(published: _Published) -> Contact:
    """The contact that a published customer describes."""
    return Contact(
        customer_id=published.customer_id,
        version=published.version,
        addresses=_addresses(published.references),
        consents={(consent.purpose, consent.channel): Answer(consent.granted, consent.at) for consent in published.consents},
        preferred_channel=published.preferred_channel,
        language=published.language,
        time_zone=published.time_zone,
        first_name=_first_name(published.traits),
        members=published.members if len(published.members) > 1 else (),
        merged_into=published.merged_into,
    )


def profiles_of(customer_id: str, contact: Contact | None) -> frozenset[str]:
    """The ids under which somebody may have been written to who is now known by this one."""
    return frozenset((customer_id, contact.customer_id, *contact.members)) if contact else frozenset((customer_id,))


def suppression_subjects(customer_id: str, contact: Contact | None) -> tuple[str, ...]:
    """The subjects under which a suppression can name this customer: each of its profiles, each address, an e-mail's domain."""
    addresses = contact.addresses if contact else {}
    subjects = [f"customer:{profile}" for profile in sorted(profiles_of(customer_id, contact))]
    for channel, address in addresses.items():
        subjects.append(address_subject(channel, address))
        if channel == "email":
            subjects.append(f"domain:{address.rpartition('@')[2].lower()}")
    return tuple(subjects)


def address_subject(channel: Channel, address: str) -> str:
    """The subject that names an address; e-mail addresses are compared without case."""
    return f"{channel}:{address.lower() if channel == 'email' else address}"


def _addresses(references: Iterable[str]) -> dict[Channel, str]:
    """The first of each kind, which is the newest."""
    addresses: dict[Channel, str] = {}
    for reference in references:
        kind, _, address = reference.partition(":")
        for channel in _CHANNELS_BY_REFERENCE.get(kind, ()):
            addresses.setdefault(channel, address)
    return addresses


def _first_name(traits: Mapping[str, Scalar]) -> str | None:
    names = (traits.get(name) for name in FIRST_NAME_TRAITS)
    return next((name.split()[0] for name in names if isinstance(name, str) and name.strip()), None)
