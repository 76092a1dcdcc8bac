"""How fast segmentation's rows are, in this process and on one core: `python -m benchmarks.rows [--events N] [--rows N] [--json]`.

Everything between a fetched batch and the bytes that the producer is given: decode real contract envelopes, apply, score, settle
memberships, pack the changelog and, where there are any, the news. Seconds are of the processor, so that neighbours on the machine count
less. No broker: what the broker adds is in `benchmarks.stream`.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from services.segmentation.decoding import Reading, decode
from services.segmentation.domain.arrays import Ids, hex_from_ids
from services.segmentation.domain.events import DAY_MS, EventBatch
from services.segmentation.domain.state import CustomerState, apply_events
from services.segmentation.handlers import apply_batch
from services.segmentation.owned import Owned
from services.segmentation.positions import Positions
from services.segmentation.recovery import Recovery
from services.segmentation.rescoring import Rescoring
from services.segmentation.settings import SegmentationSettings
from services.segmentation.shipped import load_shipped_models
from services.segmentation.worker import Worker
from shared.clock import ReplayClock
from shared.contracts.envelope import envelope
from shared.contracts.purchases import PurchaseLine, PurchaseRecorded
from shared.contracts.topics import CUSTOMER_EVENTS, PARTITION_COUNT
from shared.streaming.records import Batch, Message, Position, StoredRecord, origin_header

BUSY_DAY = datetime(2026, 1, 5, tzinfo=UTC)
BATCH = 4000
"""What the stream loop fetches at most at once."""


class Nowhere:
    """A publisher that takes everything."""

    async def publish(self, topic: Any, messages: Sequence[Message]) -> None:
        """Gone."""

    async def append(self, topic: Any, message: Message) -> None:
        """Gone."""


def events(count: int, profiles: int, lines: int) -> list[StoredRecord]:
    """One busy day's purchases of so many profiles, as identity passes them on, in order of time."""
    chance = np.random.default_rng(7)
    keys = hex_from_ids(known_ids(profiles))
    who = chance.integers(0, profiles, count).tolist()
    amounts = chance.integers(50, 5000, (count, lines)).tolist()
    records = []
    for n in range(count):
        bought = tuple(
            PurchaseLine(sku=f"{860_000 + amount}", quantity=1, amount_minor=amount, department="GROCERY", category="FLUID MILK PRODUCTS")
            for amount in amounts[n]
        )
        data = PurchaseRecorded(reference=f"loyalty_card:{who[n]}", store=f"store-{n % 400}", currency="USD", lines=bought)
        at = BUSY_DAY + timedelta(seconds=n * 86_399 / count)
        value = envelope(data, id=f"till-7/{n}", source="https://pos.example.com/stores/400", time=at).model_dump_json().encode()
        header = origin_header(Position("u6PaSmpEQl-F4Mm0mMTJVg", n % 8, n), 1_760_000_000_000 + n)
        records.append(StoredRecord(n, 1_760_000_000_000 + n, keys[who[n]].encode(), value, (header,)))
    return records


def known_ids(profiles: int) -> Ids:
    """The same ids whenever asked."""
    return np.random.default_rng(5).integers(0, 2**64, size=(profiles, 2), dtype=np.uint64)


def a_year_of(ids: Ids, purchases: int) -> CustomerState:
    """Rows of customers who bought about so often in the year before the busy day, each at his own pace."""
    chance = np.random.default_rng(11)
    state = CustomerState()
    last = int(BUSY_DAY.timestamp()) // 86_400
    pace = chance.gamma(2.0, 0.5, len(ids))
    for turn in range(purchases):
        for start in range(0, len(ids), 20_000):
            part = slice(start, start + 20_000)
            comes = chance.random(len(ids[part])) < np.minimum(pace[part], 1)
            chosen = ids[part][comes]
            day = last - 365 + turn * 365 // purchases + chance.integers(0, 365 // purchases, len(chosen))
            zeros = np.zeros(len(chosen), dtype=np.int64)
            apply_events(state, EventBatch(chosen, zeros, day * DAY_MS, chance.integers(100, 9000, len(chosen)), zeros + 1))
    return state


def batches(records: list[StoredRecord]) -> Iterator[Batch]:
    """As the loop gives them."""
    for start in range(0, len(records), BATCH):
        yield Batch(CUSTOMER_EVENTS.name, "topic-id", 0, records[start : start + BATCH])


async def a_worker(state: CustomerState) -> tuple[Worker, Owned, Rescoring]:
    """One that owns every partition, all rows in one of them, and has looked at its customers on the eve of the busy day."""
    worker = Worker(
        Nowhere(), ReplayClock(BUSY_DAY - timedelta(hours=1)), SegmentationSettings(clock="replay"), load_shipped_models("groceries")
    )
    owned = Owned(0, state, Positions(events_topic_id="topic-id"), generation=1, silent_rounds=2)
    worker.owned = {0: owned} | {n: Owned(n, CustomerState(), Positions(), generation=1) for n in range(1, PARTITION_COUNT)}
    rescoring = Rescoring(worker, calm_seconds=0)
    while state.count and rescoring.rounds < 2:
        await rescoring.tick()
    return worker, owned, rescoring


async def whole_path(records: list[StoredRecord], known: CustomerState) -> tuple[float, int]:
    """Seconds for the events, and how many changes of membership they made."""
    worker, owned, _ = await a_worker(known.keep_only(known.every_row()))
    bought, changes = int(owned.state.purchase_count.sum()), owned.change_number
    began = time.process_time()
    for batch in batches(records):
        apply_batch(owned, batch, worker)
        await worker.write(owned)
    seconds = time.process_time() - began
    assert int(owned.state.purchase_count.sum()) == bought + len(records)
    return seconds, owned.change_number - changes


def decode_only(records: list[StoredRecord]) -> float:
    """Seconds to read the same fields and do nothing with them."""
    began = time.process_time()
    for batch in batches(records):
        decode(batch.records, Reading("USD"))
    return time.process_time() - began


async def rescoring(state: CustomerState) -> dict[str, float]:
    """Seconds of one round over all rows a day later, and of its longest tick."""
    worker, owned, timer = await a_worker(state)
    worker.clock.observe(worker.now() + timedelta(days=1))
    longest = total = 0.0
    rounds, changes = timer.rounds, owned.change_number
    while timer.rounds == rounds:
        began = time.process_time()
        await timer.tick()
        took = time.process_time() - began
        longest, total = max(longest, took), total + took
    return {"seconds": total, "longest_tick_seconds": longest, "rows_changed": owned.change_number - changes}


def recovery(state: CustomerState) -> float:
    """Rows a second, from changelog records."""
    owned = Owned(0, state, Positions(), generation=1)
    rows = state.every_row()[:200_000]
    records = [StoredRecord(n, 0, each.key, each.value) for n, each in enumerate(owned.row_messages(rows))]
    reader = Recovery()
    began = time.process_time()
    for start in range(0, len(records), 5000):
        reader.read(records[start : start + 5000])
    return len(rows) / (time.process_time() - began)


def stream_figures(count: int, profiles: int, lines: int) -> dict[str, Any]:
    """Events a second, of customers with a year of history and of customers never seen before, beside decoding alone."""
    records = events(count, profiles, lines)
    known, changed = best_of(lambda: asyncio.run(whole_path(records, a_year_of(known_ids(profiles), 26))))
    new, _ = best_of(lambda: asyncio.run(whole_path(records, CustomerState())))
    bare, _ = best_of(lambda: (decode_only(records), 0))
    return {
        "bytes_per_event": sum(len(record.value or b"") for record in records) // len(records),
        "known_customers_events_per_second": round(count / known),
        "known_customers_changes_per_event": round(changed / count, 3),
        "new_customers_events_per_second": round(count / new),
        "decode_only_per_second": round(count / bare),
        "share_of_decode_only": round(bare / known, 3),
    }


def best_of(measure: Callable[[], tuple[float, int]], times: int = 3) -> tuple[float, int]:
    """The shortest of a few."""
    gc.collect()
    return min(measure() for _ in range(times))


def measured(event_count: int, row_count: int) -> dict[str, Any]:
    """All figures."""
    figures: dict[str, Any] = {}
    for name, lines, count in (("one_line", 1, event_count), ("ten_lines", 10, event_count // 4)):
        for profiles, crowd in ((count // 4, "many_profiles"), (800, "few_profiles")):
            figures[f"{name}_{crowd}"] = stream_figures(count, profiles, lines)
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    state = a_year_of(known_ids(row_count), 12)
    figures["rows"] = {
        "count": row_count,
        "bytes_per_row_with_index": round(sum(_used(state)) / row_count, 1),
        "peak_resident_growth_bytes_per_row": round((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / row_count, 1),
        "rescoring": {name: round(value, 3) for name, value in asyncio.run(rescoring(state)).items()},
        "recovered_rows_per_second": round(recovery(state)),
    }
    return figures


def _used(state: CustomerState) -> Iterator[int]:
    """Bytes of each column without spare room, and of the index."""
    from services.segmentation.domain.state.rows import FACTS, MARKS

    yield state._index.size_bytes
    yield state.count * 16
    for column in (*FACTS.values(), *MARKS.values()):
        yield state.count * column.dtype.itemsize * column.width


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    figures = measured(chosen.events, chosen.rows)
    if chosen.json:
        print(json.dumps(figures, indent=2))
        return
    for name, values in figures.items():
        print(name)
        for what, value in values.items():
            print(f"  {what:40} {value}")


if __name__ == "__main__":
    main()
