"""The ledger's arithmetic: one entry per cause, whatever the order."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.campaigns.domain.loyalty import NO_RULE, LedgerEntry, Purchase, earn_rules, points_for, right_points, rule_at
from services.campaigns.domain.programs import Program
from services.campaigns.programs import shipped_programs
from shared.contracts.envelope import derived_id

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
PROFILES = [derived_id("profile", f"loyalty_card:{number}") for number in range(3)]
POINTS = next(program for program in shipped_programs() if program.name == "points")
DOUBLE = POINTS.model_copy(update={"version": 2, "starts_at": NOON, "earning": POINTS.earning.model_copy(update={"minor_per_point": 50})})
OFF = POINTS.model_copy(update={"version": 3, "starts_at": NOON + timedelta(days=1), "active": False})
RULES = earn_rules([OFF, DOUBLE, POINTS])

purchases = st.builds(
    Purchase,
    source=st.sampled_from(["till-1", "till-2"]),
    id=st.integers(0, 20).map(str),
    profile_id=st.sampled_from(PROFILES),
    amount_minor=st.integers(0, 10**9),
    refunded=st.booleans(),
    at=st.integers(-60, 300).map(lambda days: NOON + timedelta(days=days)),
)


def earned(
    amount_minor: int, refunded: bool = False, at: datetime = NOON - timedelta(days=1), versions: list[Program] | None = None
) -> int:
    purchase = Purchase("till-1", "1", PROFILES[0], amount_minor, refunded, at)
    return points_for(purchase, rule_at(earn_rules(versions or [POINTS]), at)).points


@pytest.mark.parametrize(("amount_minor", "points"), [(0, 0), (99, 0), (100, 1), (199, 1), (2_585_399, 25_853)])
def test_a_point_for_each_whole_unit(amount_minor: int, points: int) -> None:
    assert earned(amount_minor) == points
    assert earned(amount_minor, refunded=True) == -points


def test_a_purchase_worth_no_point_still_leaves_an_entry_of_its_own() -> None:
    entry = points_for(Purchase("till-1", "1", PROFILES[0], 40, False, NOON), RULES[0])
    assert (entry.points, entry.kind, entry.amount_minor) == (0, "earned", 40)
    assert entry.id != points_for(Purchase("till-2", "1", PROFILES[0], 40, False, NOON), RULES[0]).id


def test_the_rule_is_the_one_of_the_events_own_time() -> None:
    versions = (POINTS, DOUBLE, OFF)
    assert earned(1000, at=NOON - timedelta(seconds=1), versions=versions) == 10
    assert earned(1000, at=NOON, versions=versions) == 20
    assert earned(1000, at=NOON + timedelta(days=2), versions=versions) == 0


def test_without_any_program_purchases_leave_entries_worth_nothing() -> None:
    assert rule_at([], NOON) is NO_RULE
    assert points_for(Purchase("till-1", "1", PROFILES[0], 1000, False, NOON), NO_RULE).points == 0


def ledger(told: list[Purchase]) -> dict[str, LedgerEntry]:
    """As the store keeps it: the first entry of a cause stays."""
    kept: dict[str, LedgerEntry] = {}
    for purchase in told:
        entry = points_for(purchase, rule_at(RULES, purchase.at))
        kept.setdefault(entry.id, entry)
    return kept


@given(st.lists(purchases, unique_by=lambda purchase: (purchase.source, purchase.id)), st.randoms())
def test_the_ledger_does_not_depend_on_order_or_repetition(told: list[Purchase], shuffled: random.Random) -> None:
    again = [*told, *told]
    shuffled.shuffle(again)
    assert ledger(again) == ledger(told)
    for profile in PROFILES:
        balance = sum(entry.points for entry in ledger(again).values() if entry.profile_id == profile)
        assert balance == sum(points_for(each, rule_at(RULES, each.at)).points for each in told if each.profile_id == profile)


@given(purchases, st.integers(-5, 5).filter(bool))
def test_an_entry_that_does_not_say_what_its_cause_says_is_seen(purchase: Purchase, by: int) -> None:
    entry = points_for(purchase, rule_at(RULES, purchase.at))
    assert right_points(entry, RULES, {}) == entry.points
    fields = {name: getattr(entry, name) for name in LedgerEntry.__slots__}
    assert right_points(LedgerEntry(**{**fields, "points": entry.points + by}), RULES, {}) == entry.points
    assert right_points(LedgerEntry(**{**fields, "id": "0" * 32}), RULES, {}) == 0
