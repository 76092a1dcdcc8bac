"""`make bench`: how fast a consumer turns purchases into rows, as ratios against named peers on the same broker and the same events."""

from __future__ import annotations

import argparse
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
from rich.table import Table

from benchmarks.load import baskets, fill, one_line_purchases
from shared.kafka_admin import apply_topics
from stack.apache_kafka import apache_kafka
from stack.embedded import Broker, Database
from stack.process import Child, free_port

PEERS = ("decode-only", "faust-table", "faust-batched", "segmentation")
SAYS = {
    "decode-only": "aiokafka and msgspec, nothing else (the ceiling)",
    "faust-table": "plain Faust agent, one event at a time, with a table",
    "faust-batched": "Dear's stream loop, each event decoded",
    "segmentation": "Dear's segmentation worker: applied, scored, durable in the changelog",
}
ON = Console()


def main() -> None:
    """Measure, print, and write JSON."""
    options = _options()
    results = {}
    with tempfile.TemporaryDirectory(prefix="dear-bench-") as folder:
        for kind in options.kinds:
            results[kind] = _measure(Path(folder) / kind, kind, options)
            _show(kind, results[kind])
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"machine": _machine(), "broker": options.broker, "results": results}, indent=2) + "\n")
        ON.print(f"Written to {options.json}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stream", description=__doc__)
    parser.add_argument("--events", type=int, default=200_000, help="one-line purchases to run on (default: 200,000)")
    parser.add_argument("--baskets", type=int, default=40_000, help="Complete Journey baskets to run on (default: 40,000)")
    parser.add_argument("--customers", type=int, default=20_000, help="customers that the one-line purchases are of (default: 20,000)")
    parser.add_argument("--kinds", nargs="+", choices=("one-line", "basket"), default=["one-line", "basket"])
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--plain-events", type=int, default=40_000, help="events that the slow plain agent is timed on (default: 40,000)")
    parser.add_argument("--broker", choices=("embedded", "kafka"), default="embedded")
    parser.add_argument("--json", type=Path, default=Path("var/bench/stream.json"))
    return parser.parse_args()


def _measure(folder: Path, kind: str, options: argparse.Namespace) -> dict[str, Any]:
    with _system(folder, options.broker) as environment:
        bootstrap = environment["KAFKA_BOOTSTRAP_SERVERS"]
        events = one_line_purchases(options.events, options.customers) if kind == "one-line" else baskets(options.baskets)
        count, size = fill(bootstrap, events)
        ON.print(f"\n[bold]{kind}[/]: {count:,} events of {size / count:,.0f} bytes on the {options.broker} broker")
        peers = {}
        for peer in options.peers:
            limit = min(count, options.plain_events) if peer == "faust-table" else count
            peers[peer] = _run_peer(peer, limit, environment)
            ON.print(f"  {peer}: {peers[peer]['events_per_second']:,.0f} events/s")
    return {"events": count, "bytes_per_event": size / count, "peers": peers, "ratios": _ratios(peers)}


@contextmanager
def _system(folder: Path, broker: str) -> Iterator[dict[str, str]]:
    """Broker, database and identity (which segmentation asks for its history), on the other core than the peers."""
    with ExitStack() as stack:
        database = Database(folder, free_port())
        database.start()
        stack.callback(database.stop)
        if broker == "kafka":
            bootstrap = stack.enter_context(apache_kafka(folder / "kafka", free_port()))
        else:
            tansu = Broker(folder, free_port())
            tansu.start()
            stack.callback(tansu.stop)
            bootstrap = tansu.bootstrap_servers
        apply_topics(bootstrap)
        port = free_port()
        environment = {
            "KAFKA_BOOTSTRAP_SERVERS": bootstrap, "MONGODB_URI": database.uri, "DEAR_DATA_DIR": str(folder / "data"),
            "DEAR_CLOCK": "replay", "DEAR_LOG_LEVEL": "ERROR", "DEAR_IDENTITY_URL": f"http://127.0.0.1:{port}",
        }  # fmt: skip
        identity = Child(
            "identity",
            [sys.executable, "-m", "stack.cli", "identity", "api"],
            folder / "identity.log",
            environment | {"DEAR_PORT": str(port)},
        )
        identity.start()
        stack.callback(identity.stop)
        identity.wait_until(lambda: _is_ready(port), 30)
        _pin_everything_else()
        yield environment


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


def _ratios(peers: dict[str, Any]) -> dict[str, float]:
    ours = peers.get("segmentation")
    return {
        f"segmentation / {name}": ours["events_per_second"] / peer["events_per_second"]
        for name, peer in peers.items()
        if ours and peer is not ours
    }


def _show(kind: str, result: dict[str, Any]) -> None:
    table = Table("consumer", "events/s", "segmentation is", title=f"{kind}, {result['bytes_per_event']:,.0f} bytes an event")
    for name, peer in result["peers"].items():
        ratio = result["ratios"].get(f"segmentation / {name}")
        table.add_row(f"{name}: {SAYS[name]}", f"{peer['events_per_second']:,.0f}", f"{ratio:.2f} ×" if ratio else "")
    ON.print(table)


def _machine() -> dict[str, Any]:
    return {"python": platform.python_version(), "cores": os.cpu_count(), "system": platform.system()}


if __name__ == "__main__":
    main()
