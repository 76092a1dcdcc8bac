"""What is said about people, and what identity publishes about the customers it knows."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, SerializerFunctionWrapHandler, StringConstraints, model_serializer

from shared.contracts.envelope import Contract, EventData, Name, ProfileId, Reference, Time
from shared.contracts.interactions import Properties

Channel = Literal["email", "line", "sms", "push", "call", "till"]
Purpose = Literal["marketing", "service"]
CustomerType = Literal["consumer", "retailer", "wholesaler"]


LawfulBasis = Literal["consent", "contract", "legal_obligation", "vital_interests", "public_task", "legitimate_interests"]
"""The six of the GDPR's article 6 (1)."""
ConsentMethod = Literal["form", "checkbox", "double_opt_in", "link", "paper", "phone", "till", "import", "objection"]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Evidence = Annotated[str, StringConstraints(min_length=1, max_length=512)]


class ConsentStatement(Contract):
    """What somebody allowed or refused, for one purpose on one channel, and what proves it."""

    leaves_out_defaults: ClassVar[bool] = True

    purpose: Purpose
    channel: Channel
    granted: bool
    lawful_basis: LawfulBasis | None = None
    text_version: Name | None = None
    """The text that they were shown, as `PUT /v1/consent-texts/{version}` registered it."""
    text_sha256: Sha256 | None = None
    """What was shown, by the one who showed it: in hexadecimal, of the text in UTF-8."""
    method: ConsentMethod | None = None
    place: Name | None = None
    """Where it was stated: a page, a store, a campaign."""
    evidence: Evidence | None = None
    """Where the proof lies: the number of a paper form, a recording, a ticket."""

    @model_serializer(mode="wrap")
    def _without_defaults(self, plain: SerializerFunctionWrapHandler) -> dict[str, object]:
        """As the fast encoders write it."""
        return {name: value for name, value in plain(self).items() if value is not None}


LeadSource = Literal["advertisement", "website", "sales_person", "exhibition", "call", "other"]
AssetKind = Literal["vehicle", "device", "contract"]
Day = Annotated[str, Field(pattern=r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$")]
Kilometres = Annotated[int, Field(ge=0, le=10_000_000)]


class DecisionMaker(Contract):
    """A person of a firm who decides. What is absent was not said, and stays as it was."""

    person_id: Name
    """As the firm's source calls the person: for ever, within the firm."""
    name: Name | None = None
    role: Name | None = None
    channel: Channel | None = None
    reference: Reference | None = None
    """Where the person is reached."""
    has_left: bool | None = None


class Asset(Contract):
    """What a customer owns that needs care. What is absent was not said, and stays as it was."""

    asset_id: Name
    kind: AssetKind | None = None
    label: Name | None = None
    since: Day | None = None
    """Bought, first registered, or begun."""
    service_every_days: Annotated[int, Field(ge=1, le=36_500)] | None = None
    service_every_km: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    serviced_on: Day | None = None
    serviced_at_km: Kilometres | None = None
    odometer_km: Kilometres | None = None
    """Read on `read_on`."""
    read_on: Day | None = None
    """When the odometer was read; without it, on the day of the event. Said again, it corrects the reading of that day."""
    warranty_ends_on: Day | None = None
    renews_on: Day | None = None
    """When the contract ends unless it is renewed."""
    is_gone: bool | None = None
    """Sold, scrapped, or ended."""


class CustomerIdentified(EventData):
    """A form, shop or loyalty desk names somebody: references that belong together, traits, consents, wishes, what they own."""

    event_type: ClassVar[str] = "dear.CustomerIdentified"
    came_later: ClassVar[frozenset[str]] = frozenset({"retired"})

    references: Annotated[tuple[Reference, ...], Field(min_length=1, max_length=16)]
    traits: Properties = Field(default_factory=dict)
    consents: tuple[ConsentStatement, ...] = ()
    preferred_channel: Channel | None = None
    language: Name | None = None
    time_zone: Name | None = None
    customer_type: CustomerType | None = None
    lead_source: LeadSource | None = None
    """What brought the customer."""
    decision_makers: Annotated[tuple[DecisionMaker, ...], Field(max_length=32)] = ()
    """Of a trader."""
    assets: Annotated[tuple[Asset, ...], Field(max_length=32)] = ()
    retired: Annotated[tuple[Reference, ...], Field(max_length=16)] = ()
    """References that are theirs no more, such as a mistyped address. A later form that names one among `references` takes it back."""

    @model_serializer(mode="wrap")
    def _without_what_came_later(self, plain: SerializerFunctionWrapHandler) -> dict[str, object]:
        """As the fast encoders write it."""
        return {name: value for name, value in plain(self).items() if value or name not in self.came_later}


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
    """What names or reaches them now, without what was retired: kinds in the order of their strength (loyalty_card, user, email, phone,
    line, anonymous), and of each kind the one that was first named most recently comes first. So the first of a kind is the one to use."""
    traits: Properties = Field(default_factory=dict)
    consents: tuple[Consent, ...] = ()
    preferred_channel: Channel | None = None
    language: Name | None = None
    time_zone: Name | None = None
    first_seen_at: Time
    merged_into: ProfileId | None = None
    """Of one that is part of another customer now: that customer. Its profile may be a customer again after a split."""
