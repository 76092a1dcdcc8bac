"""The ingest edge: requests that the broker acknowledged. `python -m benchmarks.ingest`; --json for a program.

Identity's `api` role has the first core to itself; broker, database and clients, which are processes of their own, share the others.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from benchmarks.client import as_fast_as_possible, post
from benchmarks.processor import ticks
from shared.kafka_admin import apply_topics
from stack import process
from stack.embedded import Broker, Database

SINGLE = "application/cloudevents+json"
SEVERAL = "application/cloudevents-batch+json"
BATCH = 500
"""Events a batch: about 150 KB of the 500 that one may have."""
TICKS = os.sysconf("SC_CLK_TCK")


def event(client: int, number: int) -> bytes:
    """A purchase of one line, about 300 bytes."""
    data = {"reference": f"loyalty_card:{1 + number % 20_000}", "store": "120", "currency": "USD"}
    lines = [{"sku": "apple", "quantity": 1, "amount_minor": 1250}]
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    head = {"specversion": "1.0", "id": f"{client}-{number}", "source": "till/1", "type": "dear.PurchaseRecorded", "time": at}
    return json.dumps({**head, "data": {**data, "lines": lines}}, separators=(",", ":")).encode()


async def send(asked: argparse.Namespace) -> float:
    """Requests per second that one client got accepted."""
    numbers = count()

    def request() -> bytes:
        if asked.what == "single":
            return post("/v1/events", SINGLE, event(asked.client, next(numbers)))
        return post("/v1/events", SEVERAL, b"[" + b",".join(event(asked.client, next(numbers)) for _ in range(BATCH)) + b"]")

    return await as_fast_as_possible(asked.ask, request, asked.connections // asked.clients, asked.seconds)


def measure(asked: argparse.Namespace, port: int, api: int, what: str) -> dict[str, float]:
    """Have the clients send; what they got accepted together, per second and per second of the edge's processor time."""
    command = [sys.executable, "-m", "benchmarks.ingest", "--ask", str(port), "--what", what, "--seconds", str(asked.seconds)]
    command += ["--clients", str(asked.clients), "--connections", str(asked.connections if what == "single" else 8)]
    used = ticks(api)
    clients = [subprocess.Popen([*command, "--client", str(number)], stdout=subprocess.PIPE) for number in range(asked.clients)]
    rate = sum(json.loads(client.communicate()[0]) for client in clients)
    busy = (ticks(api) - used) / TICKS / asked.seconds
    times = 1 if what == "single" else BATCH
    return {"per_second": round(rate * times), "per_cpu_second": round(rate * times / busy), "of_a_core": round(busy, 2)}


def serve(asked: argparse.Namespace, directory: Path) -> dict[str, dict[str, float]]:
    """Start everything, each on its core, and measure."""
    first, *others = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, set(others) or {first})
    with ExitStack() as stack:
        broker, database = Broker(directory, process.free_port()), Database(directory, process.free_port())
        for each in (broker, database):
            each.start()
            stack.callback(each.stop)
        apply_topics(broker.bootstrap_servers)
        port = process.free_port()
        where = {"KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers, "MONGODB_URI": database.uri, "DEAR_PORT": str(port)}
        environment = {**os.environ, **where, "DEAR_DATA_DIR": str(directory), "DEAR_LOG_LEVEL": "WARNING"}
        api = subprocess.Popen([sys.executable, "-m", "stack.cli", "identity", "api"], env=environment)
        stack.callback(api.wait)
        stack.callback(api.terminate)
        os.sched_setaffinity(api.pid, {first})
        wait_ready(port)
        measure(argparse.Namespace(**{**vars(asked), "seconds": 1.0}), port, api.pid, "single")
        return {what: measure(asked, port, api.pid, what) for what in ("single", "batch")}


def wait_ready(port: int, seconds: float = 60) -> None:
    """Until identity can accept."""
    gives_up_at = time.monotonic() + seconds
    while time.monotonic() < gives_up_at:
        try:
            with urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=2):
                return
        except (URLError, OSError):
            time.sleep(0.2)
    raise SystemExit("identity does not become ready")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--clients", type=int, default=2, help="processes that send")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--ask", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--what", help=argparse.SUPPRESS)
    parser.add_argument("--client", type=int, default=0, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.ask:
        print(json.dumps(asyncio.run(send(asked))))
        return
    with tempfile.TemporaryDirectory() as directory:
        results = serve(asked, Path(directory))
    if asked.json:
        print(json.dumps(results))
        return
    for name, each in results.items():
        print(f"{name:8}" + "".join(f"  {key} {value:,g}" for key, value in each.items()))


if __name__ == "__main__":
    main()
