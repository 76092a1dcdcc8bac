"""The report as tables that a shopkeeper reads."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from stack.demo.report import Report

WORDS = {
    "no_consent": "has not agreed to it",
    "no_address": "no address",
    "suppression_list": "on the suppression list",
    "unknown_customer": "nobody known by then",
    "frequency_cap": "was written to often enough",
    "quiet_hours": "it was night there",
    "expired": "came too late",
}

PRINTED_WIDTH = 110
VALUE_CLASSES = {"A": "A (first 80 % of spend)", "B": "B (next 15 %)", "C": "C (last 5 %)", "none": "bought nothing yet"}
SEGMENTS = {"none": "bought nothing yet", "cannot_lose": "cannot lose them"}
RISK_BANDS = {"none": "bought nothing yet"}


def print_report(report: Report, source: str, wrong: list[str], path: Path) -> None:
    """Print everything."""
    console = Console() if sys.stdout.isatty() else Console(width=PRINTED_WIDTH)
    console.print()
    for table in (_who(report, source), _worth(report), _risk(report), _worth_saving(report), _offers(report), _money_and_speed(report)):
        console.print(table)
        console.print()
    console.print(f"All of it, for a program: {path}")
    if wrong:
        console.print("\n[bold red]WRONG TOTALS[/bold red]")
        for sentence in wrong:
            console.print(f"  [red]{sentence}[/red]")
    else:
        console.print("[bold green]Every total is exact.[/bold green]")


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", header_style="dim")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    return table


def _who(report: Report, source: str) -> Table:
    found = report.json
    table = _table(f"Who they are ({source})", "segment", "customers", "share")
    for name, count in sorted(found["segments"].items(), key=lambda item: -item[1]):
        if count:
            table.add_row(SEGMENTS.get(name, _words(name)), f"{count:,}", _share(count, found["customers"]))
    table.add_section()
    needs = {need["segment"]: need["name"] for need in report.more["needs"]}
    for name, count in sorted(report.more["overlapping"].items(), key=lambda item: -item[1]):
        if count and name not in needs:
            table.add_row(f"also: {_words(name)}", f"{count:,}", _share(count, found["customers"]))
    table.add_section()
    for segment, name in needs.items():
        count = report.more["overlapping"][segment]
        table.add_row(f"need: {name.lower()}", f"{count:,}", _share(count, found["customers"]))
    table.add_section()
    table.add_row("all customers", f"{found['customers']:,}", "")
    table.add_row("their purchases", f"{found['purchases']:,}", "")
    table.add_row("lines on their receipts", f"{found['lines']:,}", "")
    table.add_row("coupons they redeemed", f"{found['coupon_redemptions']:,}", "")
    return table


def _worth(report: Report) -> Table:
    table = _table("What they are worth (spend of the last year)", "value class", "customers", "of buyers", "spend", "of spend", "expected")
    for name, row in sorted(report.more["segmentation"]["value_classes"].items(), key=lambda item: -item[1]["year_spend_minor"]):
        shares = f"{row['customer_share']:.0%}", _dollars(row["year_spend_minor"]), f"{row['spend_share']:.0%}"
        table.add_row(VALUE_CLASSES.get(name, name), f"{row['customers']:,}", *shares, _dollars(row["expected_value_minor"]))
    table.add_section()
    table.add_row("bought in all", "", "", _dollars(report.json["bought_minor"]))
    table.add_row("given back", "", "", _dollars(report.json["refunded_minor"]))
    return table


def _risk(report: Report) -> Table:
    table = _table("Who is leaving", "risk", "customers", "expected from them", "of it at risk")
    for name, row in report.more["segmentation"]["risk_bands"].items():
        expected, at_risk = row["expected_value_minor"], row["value_at_risk_minor"]
        table.add_row(RISK_BANDS.get(name, _words(name)), f"{row['customers']:,}", _dollars(expected), _dollars(at_risk))
    return table


def _worth_saving(report: Report) -> Table:
    table = _table("Whom to save first", "customer", "risk", "value at risk", "because")
    for row in report.json["worth_saving"]:
        why = ", ".join(_words(reason) for reason in row["reasons"])
        table.add_row(row["reference"], f"{row['risk']:.0%}", _dollars(row["value_at_risk_minor"]), why)
    return table


def _offers(report: Report) -> Table:
    programs: Mapping[str, Mapping[str, Any]] = report.more["offers"]["programs"]
    table = _table("Offers, and why others were held back", "", *map(_words, programs), "all")
    everything = [*programs.values(), report.json["offers"]]
    for key, label in (("total", "decided"), ("held_out", "held out, to compare"), ("sent", "sent"), ("pending", "waiting")):
        table.add_row(label, *(f"{counts[key]:,}" for counts in everything))
    for key in ("failed", "unknown"):
        table.add_row(key, *(f"{counts[key]:,}" for counts in everything))
    table.add_section()
    for reason in sorted(report.json["offers"]["suppressed"]):
        table.add_row(f"not sent: {_reason(reason)}", *(f"{counts['suppressed'].get(reason, 0):,}" for counts in everything))
    return table


def _money_and_speed(report: Report) -> Table:
    found, ledger = report.json, report.more["ledger"]
    table = _table("What is owed, what was sent, how fast it was", "", "")
    table.add_row("points in the ledger", f"{found['ledger_sum']:,}")
    table.add_row("points in all balances", f"{found['ledger_balance']:,}")
    table.add_row("what they are worth", _dollars(ledger["liability_minor"]))
    table.add_row(f"mails received ({report.more['mail']})", f"{report.more['mails']:,}")
    table.add_row("events parked", f"{found['parked']:,}")
    table.add_row("repeats recognised", f"{report.more['outcomes']['repeated']:,}")
    table.add_section()
    table.add_row("events a second, whole system", f"{found['events_per_second']:,.0f}")
    table.add_row("seconds, first acceptance to last effect", f"{found['seconds']:,.1f}")
    table.add_row("purchase to ledger entry, half within", _milliseconds(found["latency_ms"]["p50"]))
    table.add_row("purchase to ledger entry, 99 % within", _milliseconds(found["latency_ms"]["p99"]))
    return table


def _words(name: str) -> str:
    return name.replace("_", " ").replace("-", " ")


def _reason(reason: str) -> str:
    return WORDS.get(reason, _words(reason))


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else ""


def _dollars(minor: int) -> str:
    return f"${minor / 100:,.2f}"


def _milliseconds(value: float | None) -> str:
    return "nothing new was posted" if value is None else f"{value:,.0f} ms"
