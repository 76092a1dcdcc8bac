"""Lookups at identity: how long a till waits. `python -m benchmarks.lookup`; --json for a program.

Identity's `api` role is one process, the client another on the last core, asking at a steady rate: what is asked late counts as waiting.
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
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from benchmarks.client import at_a_rate, get
from benchmarks.identity import Discards
from services.identity import app
from services.identity.settings import IdentitySettings
from shared.access.gate import open_gate
from shared.clock import ReplayClock
from shared.contracts.customers import CustomerIdentified
from shared.contracts.envelope import envelope
from shared.contracts.topics import CUSTOMER_UPDATES
from shared.http import create_app
from shared.mongo import connect, disconnect
from shared.runtime import HttpServer
from shared.streaming.progress import Progress
from shared.streaming.records import Batch, StoredRecord
from stack import process
from stack.embedded import Database

START = datetime(2026, 1, 1, tzinfo=UTC)
FIRST_NAMES = ("Anneliese", "Bobby", "Chai", "Dara", "Emma", "Farid", "Gita", "Hans")
BATCH = 500
CONNECTIONS = 32


def people(count: int) -> list[StoredRecord]:
    """Forms of so many people, each with a card, an e-mail address, a name and a consent."""
    records = []
    for number in range(1, count + 1):
        name = f"{FIRST_NAMES[number % len(FIRST_NAMES)]} F{number // 50}amily"
        said: dict[str, Any] = {
            "references": (f"loyalty_card:{number}", f"email:p{number}@example.com"),
            "traits": {"name": name, "city": "Bangkok"},
        }
        event = envelope(CustomerIdentified(**said), id=f"i{number}", source="form", time=START)
        records.append(StoredRecord(number, 0, None, event.model_dump_json().encode()))
    return records


def question(number: int, customers: int, names: bool) -> bytes:
    """What is asked for the n-th time."""
    who = 1 + number * 7919 % customers
    if names:
        return get(f"/v1/customers?search={FIRST_NAMES[who % len(FIRST_NAMES)]}+F{who // 50}amily")
    return get("/v1/customers/lookup?reference=" + (f"loyalty_card:{who}" if number % 2 else f"email:p{who}@example.com"))


async def ask(asked: argparse.Namespace) -> dict[str, float]:
    """Milliseconds that questions waited for their answers."""
    requests = [question(number, asked.customers, asked.what == "name") for number in range(int(asked.rate * asked.seconds))]
    took = await at_a_rate(asked.ask, requests, asked.rate, CONNECTIONS)
    return {name: _quantile([each * 1000 for each in took], at) for name, at in (("p50_ms", 0.5), ("p99_ms", 0.99), ("max_ms", 1.0))}


def _quantile(values: Sequence[float], at: float) -> float:
    return round(sorted(values)[min(len(values) - 1, int(at * len(values)))], 1)


async def serve(asked: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Fill identity, serve it, and have the other process ask."""
    service = app.build(Discards(), IdentitySettings(), ReplayClock(START))
    await service.start({})
    began, records = time.perf_counter(), people(asked.customers)
    for first in range(0, len(records), BATCH):
        await service.listens[CUSTOMER_UPDATES](Batch(CUSTOMER_UPDATES.name, "benchmark", 0, records[first : first + BATCH]))
    results: dict[str, dict[str, float]] = {"forms": {"per_second": round(len(records) / (time.perf_counter() - began))}}
    port = process.free_port()
    http: FastAPI = create_app(service, ReplayClock(START), Progress(), gate=open_gate())
    server = HttpServer(http, "127.0.0.1", port)
    server.start()
    for name in ("lookup", "name"):
        used = time.process_time()
        results[name] = await _asked_by_another(asked, port, name)
        results[name]["server_cpu_ms"] = round((time.process_time() - used) / (asked.rate * asked.seconds) * 1000, 2)
    await server.stop()
    return results


async def _asked_by_another(asked: argparse.Namespace, port: int, name: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.lookup", "--ask", str(port), "--what", name]
    command += ["--customers", str(asked.customers), "--rate", str(asked.rate), "--seconds", str(asked.seconds)]
    client = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    told, _ = await client.communicate()
    result: dict[str, float] = json.loads(told)
    return result


def main() -> None:
    """Start a database, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--customers", type=int, default=20_000)
    parser.add_argument("--rate", type=float, default=200)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--ask", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--what", default="lookup", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    if asked.ask:
        os.sched_setaffinity(0, {cores[-1]})
        print(json.dumps(asyncio.run(ask(asked))))
        return
    with tempfile.TemporaryDirectory() as directory:
        database = Database(Path(directory), process.free_port())
        database.start()
        try:
            connect("identity", database.uri)
            results = asyncio.run(serve(asked))
            disconnect("identity")
        finally:
            database.stop()
    if asked.json:
        print(json.dumps(results))
        return
    for name, each in results.items():
        print(f"{name:8}" + "".join(f"  {key} {value:g}" for key, value in each.items()))


if __name__ == "__main__":
    main()
