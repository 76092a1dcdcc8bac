"""The gate: may this message go to this customer now? It is asked last before every send, and answers with a reason."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from services.notifications.domain.contacts import Contact, Sent, Suppression
from services.notifications.domain.quiet_hours import QuietHours, zone_named
from services.notifications.domain.reasons import Reason
from shared.contracts.customers import Channel, Purpose


@dataclass(frozen=True, slots=True)
class Cap:
    """At most `count` marketing messages in a rolling window, on one channel or (None) over all of them."""

    channel: Channel | None
    count: int
    window: timedelta


@dataclass(frozen=True, slots=True)
class Rules:
    """The company's choices."""

    quiet_hours: QuietHours
    caps: tuple[Cap, ...]
    home_zone: ZoneInfo
    """The zone of customers whose own is not known."""
    unknown_grace: timedelta
    """How long a message waits, by the wall's clock, for a customer of whom nothing was published yet."""

    @property
    def longest_window(self) -> timedelta:
        """How far back the history of a customer must reach."""
        return max((cap.window for cap in self.caps), default=timedelta(0))


@dataclass(frozen=True, slots=True)
class Proposal:
    """The part of a message that the gate looks at; `waited` is by the wall's clock, for a replay's may stand still."""

    channel: Channel
    purpose: Purpose
    expires_at: datetime
    waited: timedelta = timedelta(0)
    program: str | None = None
    to: str = ""
    """The profile that it is for."""
    open_since: datetime | None = None
    """What its program sent before then is no longer open."""


@dataclass(frozen=True, slots=True)
class Send:
    """It may go, to this address."""

    address: str


@dataclass(frozen=True, slots=True)
class Deferred:
    """Not now: ask again then."""

    until: datetime
    reason: Reason


@dataclass(frozen=True, slots=True)
class Suppressed:
    """Never."""

    reason: Reason


Verdict = Send | Deferred | Suppressed


def may_send(
    message: Proposal, contact: Contact | None, *, sent: Sequence[Sent], suppressions: Collection[Suppression], now: datetime, rules: Rules
) -> Verdict:
    """The first reason against, in this order: expired, unknown customer, suppression list, consent, address, quiet hours, repeat, caps.

    Expiry comes first because nothing else matters after it. What the customer said comes before what we could technically do.
    Caps come after quiet hours, because a refusal is for ever and the count may be another one in the morning.
    """
    if now >= message.expires_at:
        return Suppressed(Reason.EXPIRED)
    if contact is None:
        waits = message.waited < rules.unknown_grace
        return Deferred(now, Reason.UNKNOWN_CUSTOMER) if waits else Suppressed(Reason.UNKNOWN_CUSTOMER)
    if any(suppression.forbids(message.purpose, message.channel, contact) for suppression in suppressions):
        return Suppressed(Reason.SUPPRESSION_LIST)
    if not contact.allows(message.purpose, message.channel):
        return Suppressed(Reason.NO_CONSENT)
    address = contact.addresses.get(message.channel)
    if not address:
        return Suppressed(Reason.NO_ADDRESS)
    until = rules.quiet_hours.end_after(now, zone_named(contact.time_zone, rules.home_zone))
    if until is not None:
        return Deferred(until, Reason.QUIET_HOURS) if until < message.expires_at else Suppressed(Reason.QUIET_HOURS)
    if message.purpose == "marketing" and any(_is_repeated_by(message, one) for one in sent):
        return Suppressed(Reason.REPEAT)
    if message.purpose == "marketing" and any(_is_reached(cap, message.channel, sent, now) for cap in rules.caps):
        return Suppressed(Reason.FREQUENCY_CAP)
    return Send(address)


def _is_repeated_by(message: Proposal, sent: Sent) -> bool:
    """Does the customer have an open offer of the same program already, made to another of the profiles that turned out to be one?"""
    return sent.program == message.program and sent.to != message.to and message.open_since is not None and sent.at > message.open_since


def _is_reached(cap: Cap, channel: Channel, sent: Sequence[Sent], now: datetime) -> bool:
    if cap.channel not in (None, channel):
        return False
    return sum(1 for one in sent if cap.channel in (None, one.channel) and now - one.at < cap.window) >= cap.count
