"""What is said about people, and what identity publishes about the customers it knows."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from shared.contracts.envelope import Contract, EventData, Name, ProfileId, Reference, Time
from shared.contracts.interactions import Properties

Channel = Literal["email", "line", "sms", "push", "call", "till"]
Purpose = Literal["marketing", "service"]
CustomerType = Literal["consumer", "retailer", "wholesaler"]


class ConsentStatement(Contract):
    """What somebody allowed or refused, for one purpose on one channel."""

    purpose: Purpose
    channel: Channel
    granted: bool


class CustomerIdentified(EventData):
    """A form, shop or loyalty desk names somebody: references that belong together, traits, consents, wishes."""

    event_type: ClassVar[str] = "dear.CustomerIdentified"

    references: Annotated[tuple[Reference, ...], Field(min_length=1, max_length=16)]
    traits: Properties = Field(default_factory=dict)
    consents: tuple[ConsentStatement, ...] = ()
    preferred_channel: Channel | None = None
    language: Name | None = None
    time_zone: Name | None = None
    customer_type: CustomerType | None = None


class ConsentChanged(EventData):
    """Somebody gave, refused or withdrew consent."""

    event_type: ClassVar[str] = "dear.ConsentChanged"

    reference: Reference
    consents: Annotated[tuple[ConsentStatement, ...], Field(min_length=1)]


class MergeRequested(EventData):
    """Somebody who looked into it says that two customers are one."""

    event_type: ClassVar[str] = "dear.MergeRequested"

    customer_id: ProfileId
    other_id: ProfileId
    by: Name
    evidence: Name


class SplitRequested(EventData):
    """Somebody who looked into it says that these profiles of a customer are somebody else: together one other customer."""

    event_type: ClassVar[str] = "dear.SplitRequested"

    customer_id: ProfileId
    profiles: Annotated[tuple[ProfileId, ...], Field(min_length=1, max_length=64)]
    by: Name
    evidence: Name


class Consent(Contract):
    """The consent in force for one purpose and channel, and since when."""

    purpose: Purpose
    channel: Channel
    granted: bool
    at: Time


class CustomerPublished(EventData):
    """The current view of one customer. Readers ignore a version lower than the one they hold."""

    event_type: ClassVar[str] = "dear.CustomerPublished"

    customer_id: ProfileId
    version: Annotated[int, Field(ge=1)]
    members: Annotated[tuple[ProfileId, ...], Field(min_length=1)]
    customer_type: CustomerType = "consumer"
    references: tuple[Reference, ...]
    traits: Properties = Field(default_factory=dict)
    consents: tuple[Consent, ...] = ()
    preferred_channel: Channel | None = None
    language: Name | None = None
    time_zone: Name | None = None
    first_seen_at: Time
    merged_into: ProfileId | None = None
    """Of one that is part of another customer now: that customer. Its profile may be a customer again after a split."""
