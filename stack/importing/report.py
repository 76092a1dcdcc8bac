"""What an import came to, for people and for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any

from services.identity.domain.money import to_minor
from stack.importing.log import VerdictLog
from stack.importing.totals import Money, Totals
from stack.importing.verdicts import RowStatus

RECENT = timedelta(days=30)
"""As far back as the windows of the programs that Dear comes with."""
SHARED = "user:"
"""The spelling of a shop's own ids, as its web shop and its apps send them."""


@dataclass(slots=True)
class Imported:
    """What an import came to, besides its verdicts."""

    events: int = 0
    anonymous: int = 0
    recent: int = 0
    """Events of the last 30 days: programs may answer them."""
    resumed_after: int = 0
    totals: Totals = field(default_factory=Totals)


def print_report(imported: Imported, log: VerdictLog, dry_run: bool, as_json: bool) -> None:
    """On standard output."""
    rows = {status.value: sum(count for (each, _), count in log.counts.items() if each is status) for status in RowStatus}
    reasons = {reason: count for (_, reason), count in sorted(log.counts.items(), key=lambda item: -item[1]) if reason}
    if as_json:
        said = {"dry_run": dry_run, **rows, "reasons": reasons, **_told(imported, log), "verdicts": str(log.path)}
        sys.stdout.write(json.dumps(said) + "\n")
        return
    _print_table(rows, reasons, log)
    for line in _lines(imported, log, dry_run):
        sys.stdout.write(line + "\n")


def _told(imported: Imported, log: VerdictLog) -> dict[str, Any]:
    totals = imported.totals
    return {
        **{name: getattr(imported, name) for name in ("events", "anonymous", "recent", "resumed_after")},
        "money": {currency: asdict(money) for currency, money in sorted(totals.money.items())},
        "first_at": totals.first_at.isoformat() if totals.first_at else None,
        "last_at": totals.last_at.isoformat() if totals.last_at else None,
        "named": [{"as": spelling, "column": column, "count": count} for (spelling, column), count in totals.named.most_common()],
        "dropped": [{"column": each.column, "rule": each.rule, "count": count} for each, count in log.dropped.most_common()],
    }


def _lines(imported: Imported, log: VerdictLog, dry_run: bool) -> Iterator[str]:
    totals = imported.totals
    if not log.counts:
        yield "the file has no rows below the names of its columns"
    for currency, money in sorted(totals.money.items()):
        yield from _money_lines(currency, money)
    if totals.first_at and totals.last_at:
        yield f"dated {totals.first_at.date()} to {totals.last_at.date()} (UTC)"
    for (spelling, column), count in totals.named.most_common():
        shared = ", shared with your shop's own ids: a prefix in the mapping keeps them apart" if spelling == SHARED else ""
        yield f"named by {spelling}… from {column!r}: {count:,}{shared}"
    if imported.anonymous:
        yield f"naming nobody: {imported.anonymous:,}"
    yield f"{'would send' if dry_run else 'sent'} {imported.events:,} events; verdicts in {log.path}"
    if imported.resumed_after:
        yield f"went on after {imported.resumed_after:,} rows of an import that was cut off"
    if imported.recent:
        yield f"{imported.recent:,} events are of the last {RECENT.days} days: programs may answer them"


def _money_lines(currency: str, money: Money) -> Iterator[str]:
    if money.purchases:
        mean, largest = in_major(money.bought_minor // money.purchases, currency), in_major(money.largest_minor, currency)
        yield f"bought {in_major(money.bought_minor, currency)} (purchases: {money.purchases:,}, mean {mean}, largest {largest})"
    if money.refunds:
        yield f"refunded {in_major(money.refunded_minor, currency)} (refunds: {money.refunds:,})"


def in_major(minor: int, currency: str) -> str:
    """As people write it: 1,234.50 USD."""
    unit = to_minor(1, currency)
    return f"{Decimal(minor) / unit:,.{len(str(unit)) - 1}f} {currency}"


def _print_table(rows: dict[str, int], reasons: dict[str, int], log: VerdictLog) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("rows", "", box=None, pad_edge=False)
    table.columns[0].justify = "right"
    for status, count in rows.items():
        table.add_row(f"{count:,}", status)
        if status == RowStatus.ACCEPTED:
            for dropped, of_them in log.dropped.most_common():
                table.add_row(f"{of_them:,}", f"  without what stands in {dropped.column!r}: {dropped.rule}")
        if status == RowStatus.REFUSED:
            for reason, refused in reasons.items():
                table.add_row(f"{refused:,}", f"  {reason}")
    Console(file=sys.stdout, width=100, markup=False, highlight=False).print(table)
