"""What became of each row, and why."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class RowStatus(StrEnum):
    """Each row has exactly one."""

    ACCEPTED = "accepted"
    """The broker has acknowledged what it says; in a dry run, it would have been sent."""
    REPEATED = "repeated"
    """An earlier row of the file says the same: nothing is sent."""
    REFUSED = "refused"


class RowReason(StrEnum):
    """Why a row is refused before identity's own reasons (`services.identity.domain.rejects`) are asked."""

    MALFORMED_ROW = "malformed_row"
    RAGGED_ROW = "ragged_row"
    NOT_UTF8 = "not_utf8"
    UNKNOWN_COLUMN = "unknown_column"
    MISSING_VALUE = "missing_value"
    MISSING_REFERENCE = "missing_reference"
    NOT_A_TEXT = "not_a_text"
    NOT_A_TIME = "not_a_time"
    NO_TIME_ZONE = "no_time_zone"
    TOO_EARLY = "too_early"
    NOT_AN_AMOUNT = "not_an_amount"
    NEGATIVE_AMOUNT = "negative_amount"
    NOT_A_QUANTITY = "not_a_quantity"
    NOT_YES_OR_NO = "not_yes_or_no"
    NOT_A_CHOICE = "not_a_choice"
    ROWS_DISAGREE = "rows_disagree"
    """The lines of one receipt name different customers, stores or currencies."""
    RECEIPT_REFUSED = "receipt_refused"
    """Another line of the receipt is refused, and half a receipt is none."""
    TOO_MANY_LINES = "too_many_lines"
    DUPLICATE_ID = "duplicate_id"
    """An earlier row has the same id and says something else."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a row is refused: the reason, the column where one is to blame, and what to change."""

    reason: str
    detail: str
    column: str | None = None


@dataclass(frozen=True, slots=True)
class Dropped:
    """What an accepted row says and identity leaves out: the column, and its rule (`NamesNobody`)."""

    column: str
    rule: str


class Bad(ValueError):
    """Carries a fault out of what was reading the row."""

    def __init__(self, reason: RowReason, detail: str, column: str | None = None) -> None:
        super().__init__(detail)
        self.fault = Fault(reason.value, detail, column)


@dataclass(frozen=True, slots=True)
class RowVerdict:
    """What became of one row. `row` counts rows of data from 1; `line` is the line of a text file in which it ends."""

    row: int
    status: RowStatus
    id: str | None = None
    line: int | None = None
    fault: Fault | None = None
    dropped: tuple[Dropped, ...] = ()
