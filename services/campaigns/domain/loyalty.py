"""The points ledger: what a purchase earns and a refund takes back. Entries are only ever added; a balance is their sum."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from services.campaigns.domain.programs import Program
from shared.contracts.envelope import derived_id
from shared.contracts.offers import LedgerKind


@dataclass(frozen=True, slots=True)
class Purchase:
    """Money that changed hands: bought, or given back where `refunded`."""

    source: str
    id: str
    profile_id: str
    amount_minor: int
    refunded: bool
    at: datetime


@dataclass(frozen=True, slots=True)
class Rule:
    """An earn rule and the program version that it is of. Without `minor_per_point` nothing is earned."""

    program: str
    version: int
    minor_per_point: int | None
    starts_at: datetime | None = None


NO_RULE = Rule("none", 0, None)
"""What holds before any loyalty program starts: purchases still leave their entry, worth nothing."""


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One movement of one profile's points. `amount_minor` and the rule's version say how it was computed."""

    id: str
    profile_id: str
    kind: LedgerKind
    points: int
    amount_minor: int
    program: str
    program_version: int
    cause_source: str
    cause_id: str
    occurred_at: datetime


def entry_id(source: str, cause_id: str) -> str:
    """The id of the entry that an event causes: one event, one entry."""
    return derived_id("points", source, cause_id)


def points_for(purchase: Purchase, rule: Rule) -> LedgerEntry:
    """The entry a purchase earns or a refund reverses, also where it is worth no point.

    Its id comes from the event, so the ledger can refuse a second one. A refund takes back what its own amount would have earned.
    """
    points = purchase.amount_minor // rule.minor_per_point if rule.minor_per_point else 0
    kind: Literal["earned", "reversed"] = "reversed" if purchase.refunded else "earned"
    return LedgerEntry(
        entry_id(purchase.source, purchase.id),
        purchase.profile_id,
        kind,
        -points if purchase.refunded else points,
        purchase.amount_minor,
        rule.program,
        rule.version,
        purchase.source,
        purchase.id,
        purchase.at,
    )


def earn_rules(versions: Iterable[Program]) -> list[Rule]:
    """The rules of all versions of the loyalty program, oldest first. A version that is switched off earns nothing."""
    earning = sorted((program for program in versions if program.earning), key=lambda program: program.version)
    return [Rule(program.name, program.version, _rate(program), program.starts_at) for program in earning]


def _rate(program: Program) -> int | None:
    return program.earning.minor_per_point if program.earning and program.active else None


def rule_at(rules: Sequence[Rule], at: datetime) -> Rule:
    """The newest rule that was in force at that time: an event earns by its own time, whenever it arrives."""
    return next((rule for rule in reversed(rules) if rule.starts_at is None or rule.starts_at <= at), NO_RULE)


def right_points(entry: LedgerEntry, rules: Iterable[Rule]) -> int:
    """What the entry's cause is worth by the rule it names: its points, when nothing is wrong.

    Only entries that come from purchases and refunds have a rule. One that does not bear its cause's id should not be there: 0.
    """
    if entry.kind not in ("earned", "reversed"):
        return entry.points
    named = (entry.program, entry.program_version)
    rule = next((rule for rule in (NO_RULE, *rules) if (rule.program, rule.version) == named), NO_RULE)
    right = points_for(_cause(entry), rule)
    return right.points if right.id == entry.id else 0


def _cause(entry: LedgerEntry) -> Purchase:
    refunded = entry.kind == "reversed"
    return Purchase(entry.cause_source, entry.cause_id, entry.profile_id, entry.amount_minor, refunded, entry.occurred_at)
