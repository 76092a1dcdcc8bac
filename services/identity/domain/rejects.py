"""Why an event is not accepted, and why a message is no event."""

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
    NAMES_NOBODY = "names_nobody"
    """A statement about somebody whose every reference is a placeholder, blocked, or no address or number."""
    INVALID = "invalid"


class IgnoreReason(StrEnum):
    """What a message says that is well formed and changes nothing. Counted and answered."""

    TRAINING = "training"
    """A till in training mode."""
    TEST = "test"
    """A test order of a shop."""
    NOT_CONCLUDED = "not_concluded"
    """Cancelled, suspended or failed at the till, or cancelled before Dear heard of it: nothing was sold."""
    NO_SALE = "no_sale"
    """A transaction without a line that was bought or given back, such as a till count."""
    NO_MONEY = "no_money"
    """A return that gave no money back."""
    NO_CHANGE = "no_change"
    """An update that says nothing new about money or people."""
    OTHER_TOPIC = "other_topic"
    """A webhook that Dear does not read."""


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


class Ignored(Exception):
    """Carries the reason for which a message is no event out of what was reading it."""

    def __init__(self, reason: IgnoreReason) -> None:
        super().__init__(reason)
        self.reason = reason
