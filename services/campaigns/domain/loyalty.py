"""The points ledger: what a purchase earns and a refund takes back. Entries are only ever added; a balance is their sum.

A purchase and its refunds together are worth the points of what was bought and not given back, by the purchase's own rule, in whatever
order and however often they are told. That holds because of the register that each purchase has of its refunds (`Refunds`):

- A refund is put at its end once, before its entry is written, and never moves. So what was given back before it is settled for ever,
  and its entry is what that refund alone still took: points(left after it) - points(left before it). These differences add up.
- Refunds that come before their purchase cannot take anything back yet. Their entries are worth nothing, and the purchase, which finds
  them in the register when it comes, earns only what was left.
- Whether the purchase was there is settled with the place in the register too (`awaited_count`), so whoever computes an entry, and
  whenever, computes the same one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

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
    purchase_id: str | None = None
    """Of a refund: the purchase of the same source that it belongs to, where the source knows it."""

    @property
    def entry_id(self) -> str:
        """The id of its entry in the ledger."""
        return entry_id(self.source, self.id)

    @property
    def refund_of(self) -> str | None:
        """The id of the entry of the purchase that it belongs to."""
        return entry_id(self.source, self.purchase_id) if self.refunded and self.purchase_id is not None else None


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
    refund_of: str | None = None
    """Of a refund: the id of its purchase's entry."""
    refunded_before_minor: int = 0
    """Of a purchase: what was given back before it came, and so was never earned."""


@dataclass(frozen=True, slots=True)
class Refunds:
    """A purchase's register: its refunds in the order in which they were noted, as (id of the entry, amount)."""

    taken: tuple[tuple[str, int], ...] = ()
    awaited_count: int = 0
    """So many of them were noted before the purchase came."""
    purchase: LedgerEntry | None = None
    """None while it is awaited."""

    def before(self, refund_id: str) -> tuple[int, int] | None:
        """Its place, and what was given back before it; None where it is not noted."""
        refunded_minor = 0
        for place, (taken_id, amount_minor) in enumerate(self.taken):
            if taken_id == refund_id:
                return place, refunded_minor
            refunded_minor += amount_minor
        return None


def entry_id(source: str, cause_id: str) -> str:
    """The id of the entry that an event causes: one event, one entry."""
    return derived_id("points", source, cause_id)


def points_for(purchase: Purchase, rule: Rule) -> LedgerEntry:
    """The entry of a purchase, or of a refund that does not say what it belongs to, also where it is worth no point.

    Its id comes from the event, so the ledger can refuse a second one. Such a refund takes back what its own amount would have earned.
    """
    points = _worth(purchase.amount_minor, rule)
    return LedgerEntry(
        purchase.entry_id,
        purchase.profile_id,
        "reversed" if purchase.refunded else "earned",
        -points if purchase.refunded else points,
        purchase.amount_minor,
        rule.program,
        rule.version,
        purchase.source,
        purchase.id,
        purchase.at,
        purchase.refund_of,
    )


def _worth(amount_minor: int, rule: Rule) -> int:
    return max(0, amount_minor) // rule.minor_per_point if rule.minor_per_point else 0


def reversal(refund: Purchase, refunds: Refunds, rules: Iterable[Rule]) -> LedgerEntry:
    """The entry of a refund that is noted in its purchase's register.

    Points come off the profile that earned them, or what a profile holds would depend on which of the two came first.
    """
    nothing = points_for(refund, NO_RULE)
    noted, purchase = refunds.before(refund.entry_id), refunds.purchase
    # A refund of a refund has nothing to take back.
    if noted is None or purchase is None or noted[0] < refunds.awaited_count or purchase.kind != "earned":
        return nothing
    rule = _named(purchase, rules)
    left_minor = purchase.amount_minor - noted[1]
    points = _worth(left_minor - refund.amount_minor, rule) - _worth(left_minor, rule)
    return replace(nothing, profile_id=purchase.profile_id, points=points, program=rule.program, program_version=rule.version)


def arriving_late(entry: LedgerEntry, taken: Sequence[tuple[str, int]], rules: Iterable[Rule]) -> LedgerEntry:
    """The entry of an event that refunds were waiting for: a purchase earns what was not given back already."""
    if entry.kind != "earned":
        return entry
    refunded_minor = sum(amount_minor for _, amount_minor in taken)
    points = _worth(entry.amount_minor - refunded_minor, _named(entry, rules))
    return replace(entry, points=points, refunded_before_minor=refunded_minor)


def _named(entry: LedgerEntry, rules: Iterable[Rule]) -> Rule:
    """The rule that the entry names."""
    named = (entry.program, entry.program_version)
    return next((rule for rule in (NO_RULE, *rules) if (rule.program, rule.version) == named), NO_RULE)


def earn_rules(versions: Iterable[Program]) -> list[Rule]:
    """The rules of all versions of the loyalty program, oldest first. A version that is switched off earns nothing."""
    earning = sorted((program for program in versions if program.earning), key=lambda program: program.version)
    return [Rule(program.name, program.version, _rate(program), program.starts_at) for program in earning]


def _rate(program: Program) -> int | None:
    return program.earning.minor_per_point if program.earning and program.active else None


def rule_at(rules: Sequence[Rule], at: datetime) -> Rule:
    """The newest rule that was in force at that time: an event earns by its own time, whenever it arrives."""
    return next((rule for rule in reversed(rules) if rule.starts_at is None or rule.starts_at <= at), NO_RULE)


def right_points(entry: LedgerEntry, rules: Sequence[Rule], registers: Mapping[str, Refunds]) -> int:
    """What the entry's cause is worth by the rule it names: its points, when nothing is wrong.

    `registers` are those of the purchases whose refunds are asked for, by the purchases' entries. Only entries that come from purchases
    and refunds have a rule. One that does not bear its cause's id should not be there: 0.
    """
    if entry.kind not in ("earned", "reversed"):
        return entry.points
    if entry.refund_of is not None:
        right = reversal(_cause(entry), registers.get(entry.refund_of, Refunds()), rules)
    else:
        right = points_for(_cause(entry), _named(entry, rules))
    if entry.refunded_before_minor:
        right = arriving_late(right, [("", entry.refunded_before_minor)], rules)
    return right.points if right.id == entry.id else 0


def _cause(entry: LedgerEntry) -> Purchase:
    refunded = entry.kind == "reversed"
    return Purchase(entry.cause_source, entry.cause_id, entry.profile_id, entry.amount_minor, refunded, entry.occurred_at)
