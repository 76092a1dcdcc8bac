"""Why an event is not accepted."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class RejectReason(StrEnum):
    """Counted, stored with the parked event, and shown."""

    MALFORMED_JSON = "malformed_json"
    MISSING_REFERENCE = "missing_reference"
    NEGATIVE_AMOUNT = "negative_amount"
    UNKNOWN_TYPE = "unknown_type"
    WRONG_TOPIC = "wrong_topic"
    OVERSIZED = "oversized"
    FOREIGN_CURRENCY = "foreign_currency"
    AHEAD_OF_CLOCK = "ahead_of_clock"
    TIME_OUT_OF_RANGE = "time_out_of_range"
    INVALID = "invalid"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A reason, and a detail that says where and what to change."""

    reason: RejectReason
    detail: str


class Refused(Exception):
    """Carries a refusal out of what was reading the event."""

    def __init__(self, reason: RejectReason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.refusal = Refusal(reason, detail)
