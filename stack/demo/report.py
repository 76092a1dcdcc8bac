"""What the services say after the replay, asked over HTTP: the report as JSON, and what the tables show beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from stack.dead_letters import parked
from stack.demo.flight import percentiles
from stack.http import ServiceAway, ask

PAGE = 1000
BALANCES_PER_CALL = 5000
WORTH_SAVING = 10
REASONS = 2
OFFER_KEYS = ("total", "held_out", "sent", "failed", "unknown", "pending", "suppressed")
TOTAL_KEYS = ("purchases", "lines", "customers", "bought_minor", "refunded_minor", "coupon_redemptions")


@dataclass(frozen=True, slots=True)
class Replayed:
    """What the driver measured: how many events, in how long, and each purchase's way to its ledger entry."""

    event_count: int
    seconds: float
    latencies_ms: list[float]


@dataclass(frozen=True, slots=True)
class Report:
    """`json` is `report.json`; the rest is for the tables."""

    json: dict[str, Any]
    more: dict[str, Any]


def is_known(up: dict[str, Any], count: int) -> bool:
    """Do identity, segmentation, campaigns and notifications know so many customers?"""
    try:
        identity = ask(up["services"]["identity"] + "/v1/summary")["customers"]
        contacts = ask(up["services"]["notifications"] + "/v1/summary")["contacts"]
    except ServiceAway:
        return False
    return bool(identity >= count and contacts >= count)


def is_decided(up: dict[str, Any]) -> bool:
    """Is there no offer left of which it is open what becomes of it?"""
    try:
        return bool(ask(up["services"]["campaigns"] + "/v1/reports/offers")["pending"] == 0)
    except ServiceAway:
        return False


def collect(up: dict[str, Any], replayed: Replayed) -> Report:
    """Ask every service. Raises ServiceAway."""
    services = up["services"]
    totals = ask(services["segmentation"] + "/v1/totals")
    summary = ask(services["segmentation"] + "/v1/summary")
    outcomes = ask(services["identity"] + "/v1/outcomes")
    ledger = ask(services["campaigns"] + "/v1/loyalty/summary")
    offers = ask(services["campaigns"] + "/v1/reports/offers")
    latency = percentiles(replayed.latencies_ms)
    json = {
        **{key: totals[key] for key in TOTAL_KEYS},
        # Identity counts durably, poison too; what the others park is only in the topic.
        "parked": outcomes["parked"] + sum(letter.group != "identity" for letter in parked(up["kafka"]).values()),
        "ledger_sum": ledger["ledger_sum"],
        "ledger_balance": sum(_balances(services)),
        "offers": {key: offers[key] for key in OFFER_KEYS},
        "segments": {name: cell["customers"] for name, cell in summary["rfm_cells"].items()},
        "worth_saving": list(_worth_saving(services)),
        "seconds": round(replayed.seconds, 1),
        "events_per_second": round(replayed.event_count / replayed.seconds, 1),
        "latency_ms": {"p50": latency.p50, "p99": latency.p99},
    }
    return Report(json, _more(up, outcomes, ledger, offers) | {"segmentation": summary})


def _more(up: dict[str, Any], outcomes: dict[str, Any], ledger: dict[str, Any], offers: dict[str, Any]) -> dict[str, Any]:
    services = up["services"]
    return {
        "overlapping": ask(services["segmentation"] + "/v1/segments")["segments"],
        "needs": ask(services["segmentation"] + "/v1/needs")["segments"],
        "outcomes": outcomes,
        "ledger": ledger,
        "offers": offers,
        "notifications": ask(services["notifications"] + "/v1/summary"),
        "mails": ask(up["mail"] + "/count")["received"],
        "mail": up["mail"],
    }


def customer_ids(services: dict[str, str]) -> Iterator[str]:
    """The id of every customer."""
    after = ""
    while True:
        page = ask(f"{services['identity']}/v1/customers?after={after}&limit={PAGE}")["customers"]
        yield from (customer["customer_id"] for customer in page)
        if len(page) < PAGE:
            return
        after = page[-1]["customer_id"]


def _balances(services: dict[str, str]) -> Iterator[int]:
    ids = list(customer_ids(services))
    for start in range(0, len(ids), BALANCES_PER_CALL):
        wanted = {"customers": ids[start : start + BALANCES_PER_CALL]}
        yield from ask(services["campaigns"] + "/v1/loyalty/balances", wanted)["balances"].values()


def _worth_saving(services: dict[str, str]) -> Iterator[dict[str, Any]]:
    found = ask(f"{services['segmentation']}/v1/scores?order=value_at_risk&limit={WORTH_SAVING}")["customers"]
    for customer in found:
        yield {
            "customer": customer["customer_id"],
            "reference": _reference(services, customer["customer_id"]),
            "risk": customer["risk"],
            "value_at_risk_minor": customer["value_at_risk_minor"],
            "reasons": list(customer["reasons"])[:REASONS],
        }


def _reference(services: dict[str, str], customer_id: str) -> str:
    """How the shop knows the customer: the card first, an address last."""
    references: list[str] = ask(f"{services['identity']}/v1/customers/{customer_id}")["references"]
    return min(references, key=lambda reference: (not reference.startswith("loyalty_card:"), reference.startswith("email:"), reference))


def differences(report: dict[str, Any], expected: dict[str, int]) -> list[str]:
    """Every total that is not what it must be, as a sentence; offers that do not add up, too."""
    wrong = [f"{key} is {report[key]:,} and must be {value:,}" for key, value in expected.items() if report[key] != value]
    if report["ledger_balance"] != report["ledger_sum"]:
        wrong.append(f"the balances add up to {report['ledger_balance']:,}, the ledger to {report['ledger_sum']:,}")
    offers = report["offers"]
    parts = sum(offers[key] for key in OFFER_KEYS[1:-1]) + sum(offers["suppressed"].values())
    parted = sum(report["segments"].values())
    if parted != report["customers"]:
        wrong.append(f"the segments part {parted:,} customers, and there are {report['customers']:,}")
    if parts != offers["total"]:
        wrong.append(f"the outcomes of offers add up to {parts:,}, and there are {offers['total']:,} offers")
    return wrong
