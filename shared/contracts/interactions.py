"""Everything a customer does that is not buying."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from shared.contracts.envelope import EventData, Name, Reference

Scalar = str | int | bool | None
Properties = Annotated[dict[Name, Scalar], Field(max_length=64)]


class InteractionRecorded(EventData):
    """One interaction; `kind` is an open vocabulary of past-tense facts such as `CouponRedeemed`, `ProductViewed`, `ComplaintMade`."""

    event_type: ClassVar[str] = "dear.InteractionRecorded"

    reference: Reference | None
    kind: Name
    properties: Properties = Field(default_factory=dict)
