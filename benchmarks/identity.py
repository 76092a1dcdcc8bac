"""Identity on the embedded database: resolve, into the timeline, re-key. `python -m benchmarks.identity`; --json for a program."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.processor import ticks
from services.identity import app
from services.identity.settings import IdentitySettings
from services.identity.store import timeline
from shared.clock import ReplayClock
from shared.contracts.envelope import envelope
from shared.contracts.purchases import PurchaseLine, PurchaseRecorded
from shared.contracts.topics import PARTITION_COUNT, PURCHASES, Topic
from shared.mongo import connect, disconnect
from shared.runtime import collect_rarely
from shared.streaming.errors import NotSent
from shared.streaming.records import Batch, Message, StoredRecord
from stack import process
from stack.embedded import Database

START = datetime(2026, 1, 1, tzinfo=UTC)
BATCH = 1000
CUSTOMERS = 3000
LOG = "benchmark"
TICKS = os.sysconf("SC_CLK_TCK")


class Discards:
    """A publisher for measuring everything but the broker."""

    async def publish(self, topic: Topic, messages: Sequence[Message]) -> None:
        """Acknowledge at once."""

    async def append(self, topic: Topic, message: Message) -> None:
        """Acknowledge at once."""

    async def append_all(self, topic: Topic, messages: Sequence[Message]) -> list[NotSent | None]:
        """Acknowledge at once."""
        return [None] * len(messages)


class Run:
    """One worker, and how far its log has come."""

    def __init__(self, database_pid: int) -> None:
        self._database_pid = database_pid
        self.service = app.build(Discards(), IdentitySettings(), ReplayClock(START))
        self.offset = 0
        self.results: dict[str, dict[str, int]] = {}

    async def measure(self, name: str, records: list[StoredRecord]) -> None:
        """Events per second of one kind, by the clock and by the processor's time, the worker's and the database's apart."""
        handle = self.service.listens[PURCHASES]
        began, worked, stored = time.perf_counter(), time.process_time(), ticks(self._database_pid)
        for first in range(0, len(records), BATCH):
            await handle(Batch(PURCHASES.name, LOG, 0, records[first : first + BATCH]))
        took = {"": time.perf_counter() - began, "_per_cpu_second": time.process_time() - worked}
        took["_per_database_cpu_second"] = (ticks(self._database_pid) - stored) / TICKS
        self.results[name] = {f"events{unit}": round(len(records) / max(seconds, 1 / TICKS)) for unit, seconds in took.items()}

    def purchases(self, count: int, lines: int, customers: int = CUSTOMERS, first_customer: int = 1) -> list[StoredRecord]:
        """New purchases, round and round the customers."""
        bought = tuple(
            PurchaseLine(sku=f"sku-{line}", quantity=1, amount_minor=100 + line, department="GROCERY", category="CHEESE")
            for line in range(lines)
        )
        records = []
        for number in range(count):
            reference = f"loyalty_card:{first_customer + number % customers}"
            sale = PurchaseRecorded(reference=reference, store="main street", currency="USD", lines=bought)
            event = envelope(sale, id=f"p{self.offset}", source="till/1", time=START + timedelta(seconds=self.offset))
            records.append(StoredRecord(self.offset, 0, None, event.model_dump_json().encode()))
            self.offset += 1
        return records


async def run(events: int, database_pid: int) -> dict[str, dict[str, int]]:
    """Every measurement."""
    bench = Run(database_pid)
    await bench.service.start({})
    await bench.measure("every customer new", bench.purchases(CUSTOMERS, 1))
    for _ in range(2):
        one_line = bench.purchases(events, 1)
        await bench.measure("one line, warm", one_line)
    await bench.measure("redelivered", one_line)
    await bench.measure("ten lines, warm", bench.purchases(events, 10))
    began = time.perf_counter()
    pages = (page for target in range(PARTITION_COUNT) for page in timeline.told(str(target), LOG, 0, -1, bench.offset))
    told = sum(len(page) for page in pages)
    bench.results["told to a reader that catches up"] = {"events": round(told / (time.perf_counter() - began))}
    return bench.results


def main() -> None:
    """Start a database, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        database = Database(Path(directory), process.free_port())
        database.start()
        try:
            connect("identity", database.uri)
            assert database.pid is not None
            collect_rarely()
            results = asyncio.run(run(asked.events, database.pid))
            disconnect("identity")
        finally:
            database.stop()
    if asked.json:
        print(json.dumps(results))
        return
    for name, rates in results.items():
        print(f"{name:34}" + "".join(f"  {unit} {rate:,}" for unit, rate in rates.items()))


if __name__ == "__main__":
    main()
