"""What the accepted rows come to: money and days, for somebody to see nonsense by before it is sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from services.identity.domain.events import SourceEvent
from shared.contracts.purchases import PurchaseRecorded, PurchaseRefunded
from stack.importing.drafts import Unit
from stack.importing.fields import References


@dataclass(slots=True)
class Money:
    """Of one currency, in minor units."""

    purchases: int = 0
    bought_minor: int = 0
    largest_minor: int = 0
    """The largest purchase."""
    refunds: int = 0
    refunded_minor: int = 0


@dataclass(slots=True)
class Totals:
    """Over all accepted rows of the file, also those that were sent before an import was cut off."""

    money: dict[str, Money] = field(default_factory=dict)
    first_at: datetime | None = None
    last_at: datetime | None = None
    named: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How customers are named (`loyalty_card:`, `user:erp/`), from which column, and by how many rows or receipts."""

    def count(self, events: Iterable[SourceEvent]) -> None:
        """What is accepted of one more row or receipt."""
        for event in events:
            self.first_at = min(self.first_at or event.at, event.at)
            self.last_at = max(self.last_at or event.at, event.at)
            self._count_money(event)

    def _count_money(self, event: SourceEvent) -> None:
        data: Any = event.data
        if event.type == PurchaseRecorded.event_type:
            money, amount = self._of(data.currency), sum(line.amount_minor for line in data.lines)
            money.purchases += 1
            money.bought_minor += amount
            money.largest_minor = max(money.largest_minor, amount)
        elif event.type == PurchaseRefunded.event_type:
            money = self._of(data.currency)
            money.refunds += 1
            money.refunded_minor += data.amount_minor

    def _of(self, currency: str) -> Money:
        return self.money.setdefault(currency, Money())

    def count_named(self, unit: Unit, dropped: Container[str], references: References) -> None:
        """How it names its customer, without the columns of which identity leaves out what they say."""
        for reference, column in unit.named.items():
            if column not in dropped:
                self.named[_spelling(reference, references), column] += 1


def _spelling(reference: str, references: References) -> str:
    """The type and the prefix of a reference."""
    kind, _, value = reference.partition(":")
    given = references.get(kind)  # type: ignore[call-overload]
    prefix = given.prefix if given is not None and given.prefix is not None and value.startswith(given.prefix) else ""
    return f"{kind}:{prefix}"
