"""Every purchase leaves one ledger entry, however often it is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from services.campaigns import metrics
from services.campaigns.domain.loyalty import LedgerEntry, Purchase, earn_rules, points_for, rule_at
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
    entries = {entry.id: entry for entry in (points_for(each, rule_at(rules, each.at)) for each in purchases)}
    there = ledger.insert(list(entries.values()), at)
    entries.update({entry.id: entry for entry in ledger.stored(there)})
    return _Written(list(entries.values()), there, customers.owners({entry.profile_id for entry in entries.values()}))


async def on_customer_events(batch: Batch, posting: Posting, advance: Callable[[Batch], None]) -> None:
    """Earn on purchases, reverse on refunds; then remember how far this partition has come."""
    purchases, rejects = read_purchases(batch.records)
    await posting.post(purchases)
    advance(batch)
    park(rejects)
