"""The ingest edge: requests that the broker acknowledged, as wrk counts them. `python -m benchmarks.ingest`; --json for a program.

Identity's `api` role has the first core to itself; broker, database and wrk, which are processes of their own, share the others.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

from benchmarks.processor import ticks
from shared.access.keys import service_key
from shared.contracts.topics import PURCHASES
from shared.kafka_admin import apply_topics, end_offsets
from stack import process
from stack.embedded import Broker, Database

BATCH = 500
"""Events a batch: about 125 KB of the 500 that one may have."""
BATCH_CONNECTIONS = 8
TICKS = os.sysconf("SC_CLK_TCK")
SCRIPT = Path(__file__).with_suffix(".lua")
PEPPER = "a pepper for the benchmark alone"


def load(port: int, key: str, events: int, connections: int, seconds: int) -> dict[str, float]:
    """What wrk sent and was answered."""
    command = ["wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s", "--script", str(SCRIPT)]
    told = {**os.environ, "KEY": key, "EVENTS": str(events), "RUN": secrets.token_hex(4)}
    said = subprocess.run([*command, f"http://127.0.0.1:{port}"], env=told, check=True, capture_output=True, text=True).stdout
    found: dict[str, float] = json.loads(said.strip().rpartition("\n")[2])
    return found


def measure(broker: Broker, api: int, port: int, key: str, events: int, connections: int, seconds: int) -> dict[str, float]:
    """Events a second, per second of the edge's processor time, and how long an answer took. Each that was answered is in the log."""
    had, used = events_in(broker), ticks(api)
    found = load(port, key, events, connections, seconds)
    busy = (ticks(api) - used) / TICKS
    sent = found["requests"] * events
    kept = events_in(broker) - had
    if found["failed"] or kept < sent:
        raise SystemExit(f"{found['failed']} requests failed, and of {sent} events {kept} are in the log")
    rates = {"per_second": round(sent / found["seconds"]), "per_cpu_second": round(sent / busy)}
    waits = {"half_ms": round(found["half_ms"], 1), "p99_ms": round(found["p99_ms"], 1)}
    return {**rates, "of_a_core": round(busy / found["seconds"], 2), **waits}


def events_in(broker: Broker) -> int:
    """How many the log has."""
    return sum(end_offsets(broker.bootstrap_servers, [PURCHASES]).values())


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
        environment = {**os.environ, **where, "DEAR_DATA_DIR": str(directory), "DEAR_LOG_LEVEL": "WARNING", "DEAR_KEY_PEPPER": PEPPER}
        api = subprocess.Popen([sys.executable, "-m", "stack.cli", "identity", "api"], env=environment)
        stack.callback(api.wait)
        stack.callback(api.terminate)
        os.sched_setaffinity(api.pid, {first})
        wait_ready(port)
        key = make_key(port)
        load(port, key, 1, asked.connections, 1)
        return {
            what: measure(broker, api.pid, port, key, events, connections, asked.seconds)
            for what, events, connections in (("single", 1, asked.connections), ("batch", BATCH, BATCH_CONNECTIONS))
        }


def make_key(port: int) -> str:
    """A key as a shop has one, which may ask as often as it can."""
    wanted = {"scopes": ["ingest"], "rate": 1_000_000}
    head = {"Authorization": f"Bearer {service_key(PEPPER.encode(), 'operator')}", "Content-Type": "application/json"}
    with urlopen(Request(f"http://127.0.0.1:{port}/v1/keys", json.dumps(wanted).encode(), head)) as answer:
        return str(json.load(answer)["key"])


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
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--connections", type=int, default=64, help="of single events; batches come over eight")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("This needs the load tool wrk (Debian: apt install wrk)")
    with tempfile.TemporaryDirectory() as directory:
        results = serve(asked, Path(directory))
    if asked.json:
        print(json.dumps(results))
        return
    for name, each in results.items():
        print(f"{name:8}" + "".join(f"  {key} {value:,g}" for key, value in each.items()))


if __name__ == "__main__":
    main()
