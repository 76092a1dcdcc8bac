"""Every purchase leaves one ledger entry, however often it is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from services.campaigns import metrics
from services.campaigns.domain.loyalty import LedgerEntry, Purchase, Rule, arriving_late, earn_rules, points_for, reversal, rule_at
from services.campaigns.handlers.reading import park, read_purchases
from services.campaigns.handlers.writing import points_posted
from services.campaigns.store import customers, ledger, programs
from shared.clock import Clock
from shared.contracts.topics import LOYALTY
from shared.mongo import in_store
from shared.service import Publisher
from shared.streaming.records import Batch


def wall_clock() -> datetime:
    """When an entry became durable is told by the wall, also while history is replayed."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Posting:
    """Enters purchases into the ledger and tells of each entry."""

    publisher: Publisher
    clock: Clock
    wall: Callable[[], datetime] = wall_clock

    async def post(self, purchases: Sequence[Purchase]) -> None:
        """Returns when all entries are in the ledger and told.

        Entries that were there before are told again as they stand: their first telling may have been lost with the process that wrote
        them, and the rule may have changed since.
        """
        if not purchases:
            return
        self.clock.observe(max(purchase.at for purchase in purchases))
        written = await in_store(_write, purchases, self.wall())
        posted_at = self.wall()
        messages = [points_posted(entry, written.owners.get(entry.profile_id, entry.profile_id), posted_at) for entry in written.entries]
        await self.publisher.publish(LOYALTY, messages)
        metrics.count_entries(written.entries, written.there)


@dataclass(frozen=True, slots=True)
class _Written:
    entries: list[LedgerEntry]
    there: set[str]
    owners: dict[str, str]


def _write(purchases: Sequence[Purchase], at: datetime) -> _Written:
    rules = earn_rules(programs.every_version())
    by_themselves = [each for each in purchases if each.refund_of is None]
    entries, there = _enter([points_for(each, rule_at(rules, each.at)) for each in by_themselves], rules, at)
    # After the purchases of the same batch: a refund that finds its purchase needs no waiting.
    if refunds := {each.entry_id: each for each in purchases if each.refund_of is not None}:
        _note(refunds)
        registers = ledger.registers({each.refund_of or "" for each in refunds.values()})
        # Read again: a purchase that another worker entered may name a version that is newer than ours.
        rules = earn_rules(programs.every_version())
        reversals = [reversal(each, registers[each.refund_of or ""], rules) for each in refunds.values()]
        more, there_too = _enter(reversals, rules, at)
        entries, there = [*entries, *more], there | there_too
    return _Written(entries, there, customers.owners({entry.profile_id for entry in entries}))


def _note(refunds: Mapping[str, Purchase]) -> None:
    """Give each refund its place in its purchase's register. One that has its entry has had it."""
    for entry_id in refunds.keys() - {entry.id for entry in ledger.stored(refunds)}:
        ledger.note_refund(refunds[entry_id].refund_of or "", entry_id, refunds[entry_id].amount_minor)


def _enter(wanted: Sequence[LedgerEntry], rules: Sequence[Rule], at: datetime) -> tuple[list[LedgerEntry], set[str]]:
    """Enter what is not there yet; the entries as they are now, and the ids of those that were there before."""
    entries = {entry.id: entry for entry in wanted}
    taken = ledger.insert(list(entries.values()), at)
    there = {entry.id for entry in ledger.stored(taken)}
    for awaited in taken - there:
        if not ledger.take_place(entries[awaited], lambda entry, refunds: arriving_late(entry, refunds, rules), at):
            there.add(awaited)
    entries.update({entry.id: entry for entry in ledger.stored(taken)})
    return list(entries.values()), there


async def on_customer_events(batch: Batch, posting: Posting, advance: Callable[[Batch], None]) -> None:
    """Earn on purchases, reverse on refunds; then remember how far this partition has come."""
    purchases, rejects = read_purchases(batch.records)
    await posting.post(purchases)
    advance(batch)
    park(rejects)
