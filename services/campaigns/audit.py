"""Watches the ledger from a timer: what it owes, and whether it says what its causes say."""

from __future__ import annotations

import logging
from collections import Counter

from services.campaigns import metrics
from services.campaigns.domain.loyalty import Rule, earn_rules, right_points
from services.campaigns.store import customers, ledger, offers, programs
from shared.mongo import in_store

log = logging.getLogger(__name__)

PORTION_COUNT = 500


class LedgerAudit:
    """Two independent ways to one balance: what the database adds up through its index, and what the causes should have earned."""

    def __init__(self, point_value_minor: int) -> None:
        self._point_value_minor = point_value_minor
        self._walk = ledger.Walk()
        self._found_in_round = 0

    async def check_some(self) -> None:
        """Check the next portion of the ledger; a metric shows what is wrong until a whole round finds nothing."""
        portion_count, misstated = await in_store(self._check)
        if not portion_count:
            metrics.LEDGER_IMBALANCE.set(self._found_in_round)
            self._found_in_round = 0
        elif misstated:
            self._found_in_round += misstated
            metrics.LEDGER_IMBALANCE.set(self._found_in_round)
            log.error("ledger: %s points are not what their causes say", misstated)

    def _check(self) -> tuple[int, int]:
        portion = self._walk.next(PORTION_COUNT)
        rules = earn_rules(programs.every_version())
        registers = ledger.registers({entry.refund_of for entry in portion if entry.refund_of is not None})
        misstated = sum(abs(entry.points - right_points(entry, rules, registers)) for entry in portion)
        return len(portion), misstated + (_unbalanced_points(portion[-1].profile_id, rules) if portion else 0)

    async def measure(self) -> None:
        """Measure the whole ledger and all offers."""
        summary = await in_store(lambda: ledger.summary(customers.all_owners()))
        metrics.LEDGER_SUM.set(summary.ledger_sum)
        metrics.LIABILITY.set(summary.liability_points)
        metrics.LIABILITY_MINOR.set(summary.liability_points * self._point_value_minor)
        metrics.DEBT.set(summary.debt_points)
        standing: Counter[tuple[str, str]] = Counter()
        for program, status, _, count in await in_store(offers.counts):
            standing[program, status] += count
        for (program, status), count in standing.items():
            metrics.OFFERS.labels(program, status).set(count)


def _unbalanced_points(profile: str, rules: list[Rule]) -> int:
    """By how much a profile's balance and what its causes earned disagree."""
    points, count = ledger.sum_of(profile)
    entries = ledger.of_profiles([profile])
    if len(entries) != count:
        return 0  # An entry came in between; the next round looks again.
    registers = ledger.registers({entry.refund_of for entry in entries if entry.refund_of is not None})
    right = sum(right_points(entry, rules, registers) for entry in entries)
    return abs(points - right)
