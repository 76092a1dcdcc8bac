"""Rows are the same whatever order, repetition and split of the stream brought their events, on the way that every batch takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.segmentation.domain.state import CustomerState
from services.segmentation.handlers import apply_batch
from services.segmentation.owned import Owned
from services.segmentation.positions import Positions
from services.segmentation.settings import SegmentationSettings
from services.segmentation.shipped import load_shipped_models
from services.segmentation.worker import Worker
from shared.clock import ReplayClock
from shared.contracts.envelope import EventData, envelope
from shared.contracts.interactions import InteractionRecorded
from shared.contracts.purchases import PurchaseLine, PurchaseRecorded, PurchaseRefunded
from shared.contracts.topics import CUSTOMER_EVENTS
from shared.streaming.memory import MemoryBus
from shared.streaming.records import Batch, Position, StoredRecord, origin_header
from tests.unit.segmentation.bed import START, profile
from tests.unit.segmentation.histories import rows_by_id

ORIGINS = (("purchases-id", 0), ("purchases-id", 1), ("interactions-id", 0))
"""The logs that events entered by."""
FOREIGN = "EUR"
BY_PATH = ("change_number", "membership")
"""What depends on when rows were settled: segments ask the clock and the market too."""


@dataclass(frozen=True)
class Said:
    """One event."""

    who: str
    day: int
    kind: str
    amount: int

    @property
    def is_poison(self) -> bool:
        return self.kind == "foreign"

    def data(self) -> EventData:
        reference = f"loyalty_card:{self.who}"
        if self.kind == "refund":
            return PurchaseRefunded(reference=reference, store="1", currency="USD", amount_minor=self.amount)
        if self.kind in ("purchase", "foreign"):
            line = PurchaseLine(sku="apple", quantity=1, amount_minor=self.amount, department=f"d{self.amount % 3}", unit_cost_minor=7)
            return PurchaseRecorded(reference=reference, store="1", currency=FOREIGN if self.is_poison else "USD", lines=(line,))
        return InteractionRecorded(reference=reference, kind=self.kind, properties={"need": "organic"})


KINDS = ("purchase", "purchase", "purchase", "refund", "foreign", "CouponRedeemed", "ComplaintMade", "NeedStated", "EmailOpened")
saids = st.builds(
    Said, who=st.sampled_from("abcd"), day=st.integers(0, 500), kind=st.sampled_from(KINDS), amount=st.integers(1, 100_000)
)  # fmt: skip
logs = st.lists(st.lists(saids, max_size=12), min_size=len(ORIGINS), max_size=len(ORIGINS))
steps = st.lists(st.tuples(st.integers(0, len(ORIGINS) - 1), st.sampled_from((0, 0, 0, 1, 3, 20))), max_size=60)
reads = st.lists(st.tuples(st.integers(1, 9), st.sampled_from((0, 0, 1, 4, 40))), max_size=30)


def sent(entered: list[list[Said]], in_steps: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """(log, offset) of what identity passes on: each log in its order, and some of it again from an earlier place on."""
    at, passed_on = [0] * len(entered), []
    for log, back in [*in_steps, *((log, 0) for log, all_of in enumerate(entered) for _ in range(len(all_of)))]:
        at[log] = max(at[log] - back, 0)
        if at[log] < len(entered[log]):
            passed_on.append((log, at[log]))
            at[log] += 1
    return passed_on


def split(records: list[StoredRecord], in_reads: list[tuple[int, int]]) -> Iterator[list[StoredRecord]]:
    """Batches of any size; now and then the reader goes back, and gets records with their old offsets again."""
    at = 0
    for size, back in [*in_reads, (len(records), 0)]:
        if records[at : at + size]:
            yield records[at : at + size]
        at = max(min(at + size, len(records)) - back, 0)


def as_record(offset: int, log: int, at: int, said: Said) -> StoredRecord:
    event = envelope(said.data(), id=f"{log}/{at}", source="till", time=START + timedelta(days=said.day))
    header = origin_header(Position(*ORIGINS[log], at), 0)
    return StoredRecord(offset, 0, profile(said.who).encode(), event.model_dump_json().encode(), (header,))


def read(batches: Iterator[list[StoredRecord]]) -> tuple[dict[str, Any], set[int], Positions]:
    """Rows, offsets of rejects, and positions of a partition that these batches came to."""
    settings = SegmentationSettings(clock="replay", data_dir=Path("unused"))
    worker = Worker(MemoryBus(), ReplayClock(START), settings, load_shipped_models("groceries"))
    owned, rejected = Owned(0, CustomerState(), Positions(), generation=1), set()
    for records in batches:
        rejects = apply_batch(owned, Batch(CUSTOMER_EVENTS.name, "events-id", 0, records), worker)
        rejected |= {each.offset for each in rejects}
    rows = {who.hex(): {name: value for name, value in row.items() if name not in BY_PATH} for who, row in rows_by_id(owned.state).items()}
    return rows, rejected, owned.positions


@given(logs, steps, reads)
def test_rows_are_the_same_after_any_order_repetition_and_split(
    entered: list[list[Said]], in_steps: list[tuple[int, int]], in_reads: list[tuple[int, int]]
) -> None:
    passed_on = sent(entered, in_steps)
    records = [as_record(offset, log, at, entered[log][at]) for offset, (log, at) in enumerate(passed_on)]
    rows, rejected, positions = read(split(records, in_reads))

    # The same events, each once, alone and by the calendar: every one in a log of its own, or its place in the log would matter.
    once = sorted((said.day, log, at) for log, all_of in enumerate(entered) for at, said in enumerate(all_of))
    alone = [as_record(offset, log, at, entered[log][at]) for offset, (_, log, at) in enumerate(once)]
    plain: dict[str, Any] = {}
    for who in sorted({said.who for all_of in entered for said in all_of}):
        own = [_in_a_log_of_its_own(each) for each in alone if each.key == profile(who).encode()]
        plain |= read(iter([[each] for each in own]))[0]
    assert rows == plain

    assert {passed_on[offset] for offset in rejected} == {
        (log, at) for log, all_of in enumerate(entered) for at, said in enumerate(all_of) if said.is_poison
    }
    newest = {f"{name}/{number}".encode(): len(all_of) - 1 for (name, number), all_of in zip(ORIGINS, entered, strict=True) if all_of}
    assert positions.vector == newest
    assert positions.applied == len(records) - 1


def _in_a_log_of_its_own(record: StoredRecord) -> StoredRecord:
    return StoredRecord(record.offset, 0, record.key, record.value, (origin_header(Position(f"alone-{record.offset}", 0, 0), 0),))
