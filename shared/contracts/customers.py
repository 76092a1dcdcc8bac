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
