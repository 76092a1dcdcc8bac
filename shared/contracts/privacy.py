"""What somebody asked about the data on them, and what each service did about it."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from shared.contracts.envelope import EventData, Name, ProfileId

PrivacyKind = Literal["access", "objection", "erasure"]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
"""A keyed hash, which says nothing to whoever lacks the key."""
Count = Annotated[int, Field(ge=0)]


class PrivacyRequested(EventData):
    """Every service shows, stops writing to, or erases what it has of one profile. Doing it again changes nothing."""

    event_type: ClassVar[str] = "dear.PrivacyRequested"

    request_id: ProfileId
    kind: PrivacyKind
    round: Annotated[int, Field(ge=1)]
    """An erasure is asked for twice: the second time finds what was on its way during the first."""
    customer_id: ProfileId
    profile_id: ProfileId
    references: tuple[Digest, ...] = ()
    """Keyed hashes of the references, by which an address is recognised that is kept only so that nobody writes to it."""


class PrivacyAnswered(EventData):
    """What one service has shown or erased of one profile."""

    event_type: ClassVar[str] = "dear.PrivacyAnswered"

    request_id: ProfileId
    kind: PrivacyKind
    round: Annotated[int, Field(ge=1)]
    profile_id: ProfileId
    service: Name
    counts: dict[Name, Count] = Field(default_factory=dict)
    """What was found, by kind: shown or erased, or, where the kind begins with `kept_`, kept."""
    records: tuple[str, ...] = ()
    """Each a JSON object with its `kind`."""
    part: Annotated[int, Field(ge=1)] = 1
    parts: Annotated[int, Field(ge=1)] = 1
