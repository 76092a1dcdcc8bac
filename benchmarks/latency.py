"""From a till to the customer's mail, at a steady rate. `python -m benchmarks.latency`; --json for a program.

The whole system as `dear up` starts it, on the embedded broker and database. Known customers buy at a steady rate, and for every thirty
purchases somebody new introduces himself, who is welcomed by mail: a form through identity, campaigns and notifications to the mail
server. Times count from when an event was due to be sent, so that what is sent late counts as waiting. One newcomer in twenty is held
out, and has no mail.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from shared.contracts.customers import ConsentStatement, CustomerIdentified
from shared.contracts.envelope import envelope
from shared.contracts.purchases import PurchaseLine, PurchaseRecorded
from shared.contracts.topics import CUSTOMER_UPDATES, LOYALTY, PURCHASES
from shared.kafka_admin import Sender, follow_topic
from stack.demo.flight import Flight, Landings, percentiles
from stack.demo.quiet import wait_until_quiet
from stack.demo.run import OPEN_INGEST
from stack.http import ask
from stack.ports import ports_from
from stack.process import free_port_base
from stack.supervisor import Options, Supervisor

SOURCE = "benchmarks/latency"
GOALS_MS = {"p50": 250, "p99": 1000}
QUIET_SECONDS = 120.0
SETTLE_SECONDS = 10.0
NEWCOMER_EVERY = 30
"""Purchases for each newcomer: ten mails a second at 300 purchases."""


@dataclass
class Newcomers:
    """When each said who he is, and when his mail was there."""

    asked_at: dict[str, float] = field(default_factory=dict)

    def waited_ms(self, mails: Sequence[dict[str, Any]]) -> list[float]:
        """How long each waited whose mail is among these."""
        arrived = {mail["to"][0]: datetime.fromisoformat(mail["received_at"]).timestamp() for mail in reversed(mails)}
        return [1000 * (arrived[address] - at) for address, at in self.asked_at.items() if address in arrived]


def form(number: int, at: datetime) -> tuple[bytes, bytes, str]:
    """Key, event and address of somebody new who wants mail."""
    address = f"new{number}@example.com"
    consent = ConsentStatement(purpose="marketing", channel="email", granted=True, method="form")
    said = CustomerIdentified(references=(f"loyalty_card:n{number}", f"email:{address}"), traits={"name": "New"}, consents=(consent,))
    return f"loyalty_card:n{number}".encode(), envelope(said, id=f"n{number}", source=SOURCE, time=at).model_dump_json().encode(), address


def purchase(name: str, customer: int, at: datetime) -> tuple[bytes, bytes]:
    """Key and event of a purchase of one line."""
    reference = f"loyalty_card:{customer}"
    lines = (PurchaseLine(sku="apple", quantity=1, amount_minor=1000),)
    bought = PurchaseRecorded(reference=reference, store="1", currency="USD", lines=lines)
    return reference.encode(), envelope(bought, id=name, source=SOURCE, time=at).model_dump_json().encode()


def introduce(up: dict[str, Any], customers: int) -> None:
    """Everybody buys once, and all that follows from it is done."""
    with closing(Sender(up["kafka"])) as out:
        for number in range(customers):
            out.send(PURCHASES.name, *purchase(f"first{number}", number, datetime.now(UTC)))
        out.flush()
    wait_until_quiet(up, QUIET_SECONDS)


def load(up: dict[str, Any], rate: float, seconds: float, customers: int, flight: Flight) -> Newcomers:
    """Send at the rate."""
    newcomers = Newcomers()
    began = time.time()
    # A till sends each sale at once.
    with closing(Sender(up["kafka"], linger_ms=10)) as out:
        for number in range(int(rate * seconds)):
            due = began + number / rate
            time.sleep(max(0.0, due - time.time()))
            at = datetime.now(UTC)
            flight.took_off(f"p{number}", at, int(due * 1000))
            out.send(PURCHASES.name, *purchase(f"p{number}", number % customers, at))
            if number % NEWCOMER_EVERY == 0:
                key, value, address = form(number, at)
                out.send(CUSTOMER_UPDATES.name, key, value)
                newcomers.asked_at[address] = due
        out.flush()
    return newcomers


def listen(up: dict[str, Any], flight: Flight, done: threading.Event, ready: threading.Event) -> None:
    """Note each ledger entry."""
    landings = Landings(flight, SOURCE)
    for entry in follow_topic(up["kafka"], LOYALTY, done.is_set, ready.set):
        if entry.record.value is not None:
            with suppress(KeyError):
                landings.read(entry.record.value)


def measure(rate: float, seconds: float, customers: int) -> dict[str, Any]:
    """Start everything, load it, and tell how long things took."""
    with tempfile.TemporaryDirectory(prefix="dear-latency-") as directory:
        environment = {**OPEN_INGEST, "DEAR_QUIET_HOURS": "00:00-00:00"}
        options = Options(Path(directory), ports_from(free_port_base()), "live", environment=environment)
        supervisor = Supervisor(options, lambda said: None)
        up = supervisor.start()
        watching = threading.Thread(target=supervisor.run, daemon=True)
        watching.start()
        try:
            return _measured(up, rate, seconds, customers)
        finally:
            supervisor.stop()
            watching.join(30)


def _measured(up: dict[str, Any], rate: float, seconds: float, customers: int) -> dict[str, Any]:
    introduce(up, customers)
    flight, done, ready = Flight(), threading.Event(), threading.Event()
    listening = threading.Thread(target=listen, args=(up, flight, done, ready), daemon=True)
    listening.start()
    ready.wait(30)
    newcomers = load(up, rate, seconds, customers, flight)
    deadline = time.monotonic() + SETTLE_SECONDS
    mails: list[dict[str, Any]] = []
    while time.monotonic() < deadline and (flight.under_way or len(newcomers.waited_ms(mails)) < len(newcomers.asked_at)):
        time.sleep(0.5)
        mails = ask(f"{up['mail']}/messages?limit=1000")["messages"]
    done.set()
    listening.join(10)
    waited = newcomers.waited_ms(mails)
    entries, letters = percentiles(flight.latencies_ms), percentiles(waited)
    return {
        "purchases_per_second": rate,
        "entry_ms": {"p50": entries.p50, "p99": entries.p99, "measured": len(flight.latencies_ms), "missing": flight.under_way},
        "mail_ms": {"p50": letters.p50, "p99": letters.p99, "measured": len(waited), "missing": len(newcomers.asked_at) - len(waited)},
        "goal_ms": GOALS_MS,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rate", type=float, default=300.0, help="purchases a second")
    parser.add_argument("--seconds", type=float, default=30.0, help="for so long")
    parser.add_argument("--customers", type=int, default=2000, help="who buy")
    parser.add_argument("--json", action="store_true", help="for a program")
    asked = parser.parse_args(arguments)
    found = measure(asked.rate, asked.seconds, asked.customers)
    if asked.json:
        sys.stdout.write(json.dumps(found) + "\n")
        return 0
    for what, name in (("purchase to ledger entry", "entry_ms"), ("form to mail", "mail_ms")):
        said = found[name]
        missing = f", {said['missing']} not in time" if said["missing"] else ""
        sys.stdout.write(f"{what}: {said['p50']} ms (half), {said['p99']} ms (99 %) of {said['measured']}{missing}\n")
    sys.stdout.write(f"at {found['purchases_per_second']:g} purchases/s; the goal is {GOALS_MS['p50']} and {GOALS_MS['p99']} ms\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
