"""`make bench`: how fast a consumer turns purchases into rows, as ratios against named peers on the same broker and the same events.

One peer, quickly: `python -m benchmarks.stream --quick --peers quix`.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.comparison import SAYS, beside_goals, goals_table, peers_table, ratios
from benchmarks.load import baskets, fill, one_line_purchases
from shared.kafka_admin import apply_topics
from stack.apache_kafka import KafkaNotAvailable, apache_kafka
from stack.embedded import Broker, Database
from stack.kafka_jars import fetch_jars, java_command
from stack.process import Child, free_port

PEERS = tuple(SAYS)
WITH_DATABASE = {"faust-batched", "segmentation"}
QUICK_EVENTS = 40_000
ON = Console()


def main() -> None:
    """Measure, print, and write JSON."""
    options = _options()
    broker = _broker(options.broker)
    skipped = {peer: reason for peer in options.peers if (reason := _why_not(peer, broker))}
    for peer, reason in skipped.items():
        ON.print(f"{peer} is skipped: {reason}")
    if skipped.keys() >= set(options.peers):
        sys.exit("No peer is left to measure.")
    results = {}
    with tempfile.TemporaryDirectory(prefix="dear-bench-") as folder:
        for kind in options.kinds:
            results[kind] = {**_measure(Path(folder) / kind, kind, broker, skipped, options), "skipped": skipped}
            _show(kind, results[kind])
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"machine": _machine(), "broker": broker, "results": results}, indent=2) + "\n")
        ON.print(f"Written to {options.json}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stream", description=__doc__)
    parser.add_argument("--events", type=int, default=200_000, help="one-line purchases to run on (default: 200,000)")
    parser.add_argument("--baskets", type=int, default=40_000, help="Complete Journey baskets to run on (default: 40,000)")
    parser.add_argument(
        "--customers", type=int, default=20_000, help="customers that the one-line purchases are drawn from (default: 20,000)"
    )
    parser.add_argument("--kinds", nargs="+", choices=("one-line", "basket"), default=["one-line", "basket"])
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--plain-events", type=int, default=40_000, help="events that the slow plain agent is timed on (default: 40,000)")
    parser.add_argument("--quick", action="store_true", help=f"only one-line purchases, and at most {QUICK_EVENTS:,} of them")
    parser.add_argument(
        "--broker",
        choices=("auto", "embedded", "kafka"),
        default="auto",
        help="auto (the default): Apache Kafka where Java 17 and Maven are there, else the embedded broker",
    )
    parser.add_argument("--json", type=Path, default=Path("var/bench/stream.json"))
    options = parser.parse_args()
    if options.quick:
        options.kinds, options.events = ["one-line"], min(options.events, QUICK_EVENTS)
    return options


def _broker(asked: str) -> str:
    """The broker to run on, said aloud; `auto` takes Apache Kafka where this machine can run it."""
    if asked == "embedded":
        ON.print("On the embedded broker, as asked.")
        return "embedded"
    try:
        java_command()
        fetch_jars()
    except KafkaNotAvailable as problem:
        if asked == "kafka":
            sys.exit(str(problem))
        ON.print(f"On the embedded broker, because Apache Kafka cannot run here: {problem}")
        return "embedded"
    ON.print(
        "On Apache Kafka, as asked." if asked == "kafka" else "On Apache Kafka, because Java 17 is there (--broker embedded: without)."
    )
    return "kafka"


def _why_not(peer: str, broker: str) -> str | None:
    """Why a peer cannot run here; None when it can."""
    if peer != "quix":
        return None
    if broker == "embedded":
        return "it asks the broker for topic settings, which the embedded one does not tell; use --broker kafka"
    return None if importlib.util.find_spec("quixstreams") else "quixstreams is not installed; run `make peers`"


def _measure(folder: Path, kind: str, broker: str, skipped: dict[str, str], options: argparse.Namespace) -> dict[str, Any]:
    chosen = [peer for peer in options.peers if peer not in skipped]
    with _system(folder, broker, bool(WITH_DATABASE & set(chosen))) as environment:
        events = one_line_purchases(options.events, options.customers) if kind == "one-line" else baskets(options.baskets)
        load = fill(environment["KAFKA_BOOTSTRAP_SERVERS"], events)
        each = load.bytes / load.events
        ON.print(f"\n[bold]{kind}[/]: {load.events:,} events of {each:,.0f} bytes, of {load.customers:,} customers")
        peers = {}
        for peer in chosen:
            limit = min(load.events, options.plain_events) if peer == "faust-table" else load.events
            peers[peer] = _run_peer(peer, limit, environment)
            ON.print(
                f"  {peer}: {peers[peer]['events_per_second']:,.0f} events/s, {peers[peer]['events_per_cpu_second']:,.0f} per CPU second"
            )
    return {
        "events": load.events,
        "customers": load.customers,
        "bytes_per_event": each,
        "peers": peers,
        "ratios": ratios(peers),
        "ratios_by_cpu": ratios(peers, "events_per_cpu_second"),
        "goals": beside_goals(peers) if kind == "one-line" else [],
    }


@contextmanager
def _system(folder: Path, broker: str, with_database: bool) -> Iterator[dict[str, str]]:
    """Broker, database and identity (which segmentation asks for its history), on the other core than the peers."""
    with ExitStack() as stack:
        bootstrap = stack.enter_context(apache_kafka(folder / "kafka", free_port()) if broker == "kafka" else _embedded(folder))
        apply_topics(bootstrap)
        environment = {
            "KAFKA_BOOTSTRAP_SERVERS": bootstrap, "DEAR_DATA_DIR": str(folder / "data"), "DEAR_CLOCK": "replay", "DEAR_LOG_LEVEL": "ERROR",
            # Beside the data, so that what a peer leaves behind goes with it.
            "TMPDIR": str(folder),
        }  # fmt: skip
        if with_database:
            environment |= stack.enter_context(_database_and_identity(folder, environment))
        _pin_everything_else()
        yield environment


@contextmanager
def _embedded(folder: Path) -> Iterator[str]:
    tansu = Broker(folder, free_port())
    tansu.start()
    try:
        yield tansu.bootstrap_servers
    finally:
        tansu.stop()


@contextmanager
def _database_and_identity(folder: Path, environment: dict[str, str]) -> Iterator[dict[str, str]]:
    """Only Dear's own workers need them."""
    with ExitStack() as stack:
        database = Database(folder, free_port())
        database.start()
        stack.callback(database.stop)
        port = free_port()
        both = {"MONGODB_URI": database.uri, "DEAR_IDENTITY_URL": f"http://127.0.0.1:{port}"}
        identity = Child(
            "identity",
            [sys.executable, "-m", "stack.cli", "identity", "api"],
            folder / "identity.log",
            environment | both | {"DEAR_PORT": str(port)},
        )
        identity.start()
        stack.callback(identity.stop)
        identity.wait_until(lambda: _is_ready(port), 30)
        yield both


def _is_ready(port: int) -> bool:
    import httpx

    try:
        return httpx.get(f"http://127.0.0.1:{port}/health/ready", timeout=2).is_success
    except httpx.HTTPError:
        return False


def _pin_everything_else() -> None:
    """Everything we started so far shares the first core, so that a peer has one for itself."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    if not hasattr(os, "sched_setaffinity") or (os.cpu_count() or 1) < 2 or not children.exists():
        return
    for pid in children.read_text().split():
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), {0})


def _run_peer(peer: str, count: int, environment: dict[str, str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.peers", peer, environment["KAFKA_BOOTSTRAP_SERVERS"], str(count)]
    if sys.platform == "linux" and (os.cpu_count() or 1) > 1:
        command = ["taskset", "-c", "1", *command]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=300, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines:
        sys.exit(f"{peer} did not finish: {done.stderr[-2000:]}")
    figures: dict[str, Any] = json.loads(lines[-1])
    return figures


def _show(kind: str, result: dict[str, Any]) -> None:
    ON.print(peers_table(f"{kind}, {result['bytes_per_event']:,.0f} bytes an event", result["peers"], result["skipped"]))
    if result["goals"]:
        ON.print(goals_table(result["goals"]))


def _machine() -> dict[str, Any]:
    return {"python": platform.python_version(), "cores": os.cpu_count(), "system": platform.system()}


if __name__ == "__main__":
    main()
