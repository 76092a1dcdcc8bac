"""Identity on the embedded database: resolve, into the timeline, re-key. `python -m benchmarks.identity`; --json for a program."""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from services.identity import app
from services.identity.settings import IdentitySettings
from services.identity.store import timeline
from shared.clock import ReplayClock
from shared.contracts.envelope import envelope
from shared.contracts.purchases import PurchaseLine, PurchaseRecorded
from shared.contracts.topics import PARTITION_COUNT, PURCHASES, Topic
from shared.mongo import connect, disconnect
from shared.streaming.errors import NotSent
from shared.streaming.records import Batch, Message, StoredRecord
from stack import process
from stack.embedded import Database

START = datetime(2026, 1, 1, tzinfo=UTC)
BATCH = 1000
CUSTOMERS = 3000
LOG = "benchmark"


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

    def __init__(self) -> None:
        self.service = app.build(Discards(), IdentitySettings(), ReplayClock(START))
        self.offset = 0
        self.results: dict[str, int] = {}

    async def measure(self, name: str, records: list[StoredRecord]) -> None:
        """Events per second of one kind."""
        handle = self.service.listens[PURCHASES]
        began = time.perf_counter()
        for first in range(0, len(records), BATCH):
            await handle(Batch(PURCHASES.name, LOG, 0, records[first : first + BATCH]))
        self.results[name] = round(len(records) / (time.perf_counter() - began))

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


async def run(events: int) -> dict[str, int]:
    """Every measurement, in events per second."""
    bench = Run()
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
    bench.results["told to a reader that catches up"] = round(told / (time.perf_counter() - began))
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
            results = asyncio.run(run(asked.events))
            disconnect("identity")
        finally:
            database.stop()
    print(json.dumps(results) if asked.json else "\n".join(f"{name:34}{rate:>8,} events/s" for name, rate in results.items()))


if __name__ == "__main__":
    main()
