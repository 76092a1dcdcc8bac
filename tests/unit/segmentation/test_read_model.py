"""What the read model writes and when; the store is looked at where it is called."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pymongo.errors import BulkWriteError

from services.segmentation import read_model
from services.segmentation.partitions import SegmentationPartitions
from services.segmentation.read_model import ReadModel
from services.segmentation.store import scores as store
from tests.unit.segmentation.bed import Bed


@dataclass
class Writes:
    """What was written, in order; a write fails or waits where a test says so."""

    scores: list[list[str]] = field(default_factory=list)
    summaries: list[dict[str, Any]] = field(default_factory=list)
    fails: bool = False
    may_end: threading.Event = field(default_factory=threading.Event)

    def write_scores(self, documents: Sequence[dict[str, Any]]) -> None:
        assert self.may_end.wait(5)
        if self.fails:
            self.fails = False
            raise ValueError("a value that the database does not take")
        self.scores.append([each["_id"] for each in documents])


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Writes]:
    writes = Writes()
    writes.may_end.set()
    monkeypatch.setattr(store, "write_scores", writes.write_scores)
    monkeypatch.setattr(store, "write_summary", writes.summaries.append)
    monkeypatch.setattr(store, "write_curve", lambda _: None)
    monkeypatch.setattr(read_model, "RESTS", 0)
    yield writes
    writes.may_end.set()


def play(story: Callable[[Bed, ReadModel], Awaitable[None]], directory: Path) -> None:
    bed = Bed(directory)

    async def begin() -> None:
        await bed.start()
        await bed.buy("1", 0)
        await bed.settle()
        await story(bed, ReadModel(bed.worker, bed.rescoring))

    asyncio.run(begin())


async def write(model: ReadModel) -> None:
    await model.tick()
    await model.finish()


def test_an_unexpected_failure_is_raised_once_and_written_again(tmp_path: Path, writes: Writes) -> None:
    async def story(bed: Bed, model: ReadModel) -> None:
        writes.fails = True
        await write(model)
        with pytest.raises(ValueError, match="does not take"):
            await model.tick()
        assert not writes.scores
        await write(model)
        await model.tick()

    play(story, tmp_path)
    assert [len(customers) for customers in writes.scores] == [1]


def test_at_rest_totals_are_written_every_ten_seconds_and_at_once_when_anything_moves(tmp_path: Path, writes: Writes) -> None:
    async def written_after(bed: Bed, model: ReadModel, seconds: float) -> int:
        bed.clock.observe(bed.clock.now() + timedelta(seconds=seconds))
        before = len(writes.summaries)
        await write(model)
        return len(writes.summaries) - before

    async def story(bed: Bed, model: ReadModel) -> None:
        assert await written_after(bed, model, 0) == 8
        assert [await written_after(bed, model, 0.75) for _ in range(13)] == [0] * 13
        assert await written_after(bed, model, 0.75) == 8
        await bed.buy("1", 0)
        await bed.settle()
        assert await written_after(bed, model, 0.5) == 1
        await bed.buy("1", 0)
        await bed.settle()
        assert await written_after(bed, model, 0.75) == 8  # `as_of` is the oldest of all: it keeps up with what moves.
        bed.rescoring.rounds += 1
        assert await written_after(bed, model, 0.0) == 8

    play(story, tmp_path)


def test_a_partition_is_not_let_go_while_its_scores_are_being_written(tmp_path: Path, writes: Writes) -> None:
    async def story(bed: Bed, model: ReadModel) -> None:
        partitions = SegmentationPartitions(bed.worker, bed.partitions._sources, model.finish)
        await partitions.start(bed.bus.topic_ids)
        writes.may_end.clear()
        await model.tick()
        closing = asyncio.create_task(partitions.close("customers-v1", next(iter(bed.worker.owned))))
        await asyncio.sleep(0.05)
        assert not closing.done()
        writes.may_end.set()
        await closing
        assert writes.scores

    play(story, tmp_path)


def test_a_write_that_does_not_end_holds_nobody_up(tmp_path: Path, writes: Writes, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(bed: Bed, model: ReadModel) -> None:
        monkeypatch.setattr(read_model, "LONGEST_SECONDS", 0.05)
        writes.may_end.clear()
        await model.tick()
        await asyncio.wait_for(model.finish(), 1)
        assert not writes.scores
        writes.may_end.set()

    play(story, tmp_path)


class Contested:
    """A collection in which another owner inserts a customer between our look and our insert."""

    def __init__(self, code: int) -> None:
        self.code = code
        self.written: list[list[str]] = []

    def bulk_write(self, requests: Sequence[Any], ordered: bool) -> None:
        self.written.append([each._filter["_id"] for each in requests])
        if len(self.written) == 1:
            raise BulkWriteError({"writeErrors": [{"index": 1, "code": self.code}], "writeConcernErrors": []})


@pytest.mark.parametrize(("code", "written"), [(11000, [["a", "b"], ["b"]]), (121, [["a", "b"]])])
def test_two_owners_that_insert_the_same_customer_are_no_failure(
    monkeypatch: pytest.MonkeyPatch, code: int, written: list[list[str]]
) -> None:
    contested = Contested(code)
    monkeypatch.setattr(store.CustomerScores, "_get_collection", lambda: contested)
    documents = [{"_id": "a"}, {"_id": "b"}]
    if code == 11000:
        store.write_scores(documents)
    else:
        with pytest.raises(BulkWriteError):
            store.write_scores(documents)
    assert contested.written == written
