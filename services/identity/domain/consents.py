"""The ledger of consent: what each statement did, told in the order of time, and whether the text that was shown is known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Action(StrEnum):
    """What a statement did to the consent that was in force before it."""

    GRANTED = "granted"
    CONFIRMED = "confirmed"
    """It was granted already."""
    REFUSED = "refused"
    """There was nothing to withdraw."""
    WITHDRAWN = "withdrawn"


class TextMark(StrEnum):
    """How the text that a statement names stands to the registered ones."""

    NONE = "none"
    """It names no text."""
    REGISTERED = "registered"
    UNKNOWN = "unknown"
    """No text was registered under the version: the statement is kept, and is marked so until one is."""
    OTHER = "other"
    """What was shown is not what was registered under the version."""


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """A statement as it is stored, and what it did."""

    statement: Mapping[str, Any]
    action: Action

    @property
    def text_version(self) -> str | None:
        version: str | None = self.statement.get("text_version")
        return version


def ledger(statements: Iterable[Mapping[str, Any]]) -> list[LedgerEntry]:
    """The statements, oldest first. Of two of the same time the refusal comes last, as it is the one in force."""
    in_force: dict[tuple[str, str], bool] = {}
    told = []
    for each in sorted(statements, key=lambda each: (each["at"], not each["granted"], each["_id"])):
        subject = (each["purpose"], each["channel"])
        told.append(LedgerEntry(each, _action(in_force.get(subject, False), each["granted"])))
        in_force[subject] = each["granted"]
    return told


def _action(was_granted: bool, granted: bool) -> Action:
    if granted:
        return Action.CONFIRMED if was_granted else Action.GRANTED
    return Action.WITHDRAWN if was_granted else Action.REFUSED


def text_mark(version: str | None, shown_sha256: str | None, registered_sha256: str | None) -> TextMark:
    """Is the text that a statement names known, and was it the one that was shown?"""
    if version is None:
        return TextMark.NONE
    if registered_sha256 is None:
        return TextMark.UNKNOWN
    return TextMark.REGISTERED if shown_sha256 in (None, registered_sha256) else TextMark.OTHER
