"""What could not be applied, with everything needed to look at it and put it back."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from shared.contracts.envelope import EventData, Name, Time


class EventParked(EventData):
    """A record that a group set aside: its position, its reason and its original bytes (base64), sealed where there is a master key."""

    event_type: ClassVar[str] = "dear.EventParked"

    group: Name
    topic: Name
    topic_id: Name
    partition: Annotated[int, Field(ge=0)]
    offset: Annotated[int, Field(ge=0)]
    reason: Name
    detail: str
    key_base64: str | None
    value_base64: str | None
    headers: tuple[tuple[str, str], ...] = ()
    """Header names and their base64 values."""
    sealed_for: Name | None = None
    """Whose key the letter is sealed under. Where there is one, `detail`, key, value and headers are in `sealed_base64`, and empty here."""
    sealed_base64: str | None = None

    @property
    def name(self) -> str:
        """The record's key in the topic; no two letters have the same."""
        return f"{self.group}/{self.topic_id}/{self.partition}/{self.offset}"

    parked_at: Time
