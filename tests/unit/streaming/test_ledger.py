"""Which batches are current, how far partitions are settled, and how far they lag."""

from __future__ import annotations

from types import SimpleNamespace

from prometheus_client import REGISTRY

from shared.streaming.ledger import Ledger, joined
from shared.streaming.records import StoredRecord
from shared.streaming.transport import Drained, fold
from shared.streaming.watching import Lag


def records(first: int, count: int, at_ms: int = 1000) -> list[StoredRecord]:
    return [StoredRecord(first + number, at_ms + number, None, b"") for number in range(count)]


def test_settling_moves_to_after_the_last_record_even_where_offsets_have_gaps() -> None:
    ledger = Ledger()
    reading = ledger.open("t", "id", 0, 5)
    fetched = ledger.fetch("t", 0, 5, [StoredRecord(7, 1, None, b""), StoredRecord(12, 1, None, b"")])
    assert fetched is not None
    ledger.settled(fetched)
    assert reading.settled_to == 13


def test_what_is_fetched_for_a_closed_partition_is_dropped() -> None:
    ledger = Ledger()
    assert ledger.fetch("t", 0, 0, records(0, 1)) is None
    ledger.open("t", "id", 0, 0)
    ledger.close("t", 0)
    assert ledger.fetch("t", 0, 0, records(0, 1)) is None


def test_batches_from_before_a_rewind_or_a_reopening_are_not_current() -> None:
    ledger = Ledger()
    reading = ledger.open("t", "id", 0, 0)
    before = ledger.fetch("t", 0, 0, records(0, 3))
    assert before is not None
    assert ledger.is_current(before)
    ledger.rewind(reading)
    assert not ledger.is_current(before)
    after = ledger.fetch("t", 0, 0, records(0, 3))
    assert after is not None
    assert ledger.is_current(after)
    ledger.close("t", 0)
    assert not ledger.is_current(after)
    ledger.open("t", "id", 0, 0)
    assert not ledger.is_current(after)


def test_folding_keeps_order_and_ends_at_the_last_offset() -> None:
    ledger = Ledger()
    ledger.open("t", "id", 0, 0)
    tp, closed = SimpleNamespace(topic="t", partition=0), SimpleNamespace(topic="t", partition=1)
    raw = [SimpleNamespace(offset=offset, timestamp=9, timestamp_type=0, value=b"") for offset in (4, 5, 9)]

    class Key(SimpleNamespace):
        def __hash__(self) -> int:
            return hash((self.topic, self.partition))

    folded = fold(ledger, {Key(**vars(tp)): Drained(4, raw), Key(**vars(closed)): Drained(0, raw)})  # type: ignore[dict-item]
    assert len(folded) == 1
    (record,) = next(iter(folded.values()))
    assert record.offset == 9
    assert record.value.follows == 4
    assert [each.offset for each in record.value.batch.records] == [4, 5, 9]


def _lag(name: str, partition: int) -> float | None:
    return REGISTRY.get_sample_value(f"dear_stream_lag_{name}", {"topic": "lagging", "partition": str(partition)})


def test_lag_in_seconds_is_the_age_of_the_oldest_unsettled_record_and_nothing_when_idle() -> None:
    ledger, lag = Ledger(), Lag()
    ledger.open("lagging", "id", 0, 0)
    idle = ledger.open("lagging", "id", 1, 500)
    fetched = ledger.fetch("lagging", 0, 0, records(0, 10, at_ms=100_000))
    ends = {("lagging", 0): 30, ("lagging", 1): idle.settled_to}
    assert lag.look(ledger.readings(), ends, now=160.0) == 30
    assert _lag("messages", 0) == 30
    assert _lag("seconds", 0) == 60.0
    assert _lag("messages", 1) == _lag("seconds", 1) == 0

    assert fetched is not None
    ledger.settled(fetched)
    # What follows was not fetched yet: since we noticed it, which is not before the last look.
    assert lag.look(ledger.readings(), ends, now=161.0) == 20
    assert _lag("seconds", 0) == 1.0

    ends["lagging", 1] += 1
    lag.look(ledger.readings(), ends, now=200.0)
    assert _lag("seconds", 1) == 0.0, "a long idle partition has not been behind for long"

    ledger.close("lagging", 0)
    lag.look(ledger.readings(), ends, now=162.0)
    assert _lag("messages", 0) is None


def test_what_waits_of_one_partition_is_one_batch_if_it_follows_up_to_so_many_records() -> None:
    ledger = Ledger()
    for partition in (0, 1):
        ledger.open("t", "id", partition, 0)
    parts = [(0, 0, records(0, 2)), (1, 0, records(0, 1)), (0, 2, records(2, 3)), (1, 1, records(3, 1)), (0, 5, records(5, 2))]
    waiting = [fetched for part in parts if (fetched := ledger.fetch("t", *part)) is not None]
    whole = joined(waiting, 5)
    assert [(each.reading.partition, each.follows, [record.offset for record in each.records]) for each in whole] == [
        (0, 0, [0, 1, 2, 3, 4]),
        (0, 5, [5, 6]),
        (1, 0, [0, 3]),
    ]


def test_what_was_lost_on_the_way_or_fetched_before_a_rewind_is_joined_to_nothing() -> None:
    ledger = Ledger()
    reading = ledger.open("t", "id", 0, 0)
    waiting = [ledger.fetch("t", 0, 0, records(0, 2)), ledger.fetch("t", 0, 4, records(4, 2))]
    ledger.rewind(reading)
    waiting.append(ledger.fetch("t", 0, 6, records(6, 1)))
    there = [each for each in waiting if each is not None]
    assert joined(there, 100) == there
