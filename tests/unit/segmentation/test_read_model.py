"""What the read model writes and when; the store is looked at where it is called."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute
from pymongo.errors import BulkWriteError

from services.segmentation import read_model, rescoring
from services.segmentation.api.scores import add_totals
from services.segmentation.domain.events import DAY_MS
from services.segmentation.domain.market import Buyers, Sample, market_of
from services.segmentation.domain.models.spread import Spread
from services.segmentation.partitions import SegmentationPartitions
from services.segmentation.read_model import ReadModel
from services.segmentation.store import history
from services.segmentation.store import scores as store
from services.segmentation.telling import ScoreTelling
from shared.contracts.topics import SCORES
from shared.streaming.errors import Unavailable
from tests.unit.segmentation.bed import START, Bed, profile


@dataclass
class Writes:
    """What was written, in order; a write fails or waits where a test says so."""

    scores: list[list[str]] = field(default_factory=list)
    documents: dict[str, dict[str, Any]] = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)
    summaries: list[dict[str, Any]] = field(default_factory=list)
    points: list[dict[str, Any]] = field(default_factory=list)
    sizes: list[dict[str, Any]] = field(default_factory=list)
    curves: list[dict[str, Any]] = field(default_factory=list)
    fails: bool = False
    may_end: threading.Event = field(default_factory=threading.Event)

    def write_scores(self, documents: Sequence[dict[str, Any]]) -> None:
        assert self.may_end.wait(5)
        if self.fails:
            self.fails = False
            raise ValueError("a value that the database does not take")
        self.scores.append([each["_id"] for each in documents])
        self.documents |= {each["_id"]: each for each in documents}

    def as_of(self) -> datetime | None:
        """As the API would say after these writes."""
        known: dict[int, dict[str, Any]] = {}
        for each in self.summaries:
            known.setdefault(each["_id"], {"as_of": None}).update(each)
        return store.as_of(list(known.values()))

    def totals(self) -> list[dict[str, Any]]:
        return [each for each in self.summaries if "totals" in each]


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Writes]:
    writes = Writes()
    writes.may_end.set()
    monkeypatch.setattr(store, "write_scores", writes.write_scores)
    monkeypatch.setattr(store, "forget_all", writes.gone.extend)
    monkeypatch.setattr(store, "write_summaries", writes.summaries.extend)
    monkeypatch.setattr(history, "write_score_points", writes.points.extend)
    monkeypatch.setattr(history, "write_size_points", writes.sizes.extend)
    monkeypatch.setattr(store, "write_curve", writes.curves.append)
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


def test_totals_are_written_when_something_moved_and_as_of_keeps_up_with_the_clock(tmp_path: Path, writes: Writes) -> None:
    async def written_after(bed: Bed, model: ReadModel, seconds: float) -> tuple[int, int]:
        """How many summaries, and how many of them with totals."""
        bed.clock.observe(bed.clock.now() + timedelta(seconds=seconds))
        before = len(writes.summaries), len(writes.totals())
        await write(model)
        return len(writes.summaries) - before[0], len(writes.totals()) - before[1]

    async def story(bed: Bed, model: ReadModel) -> None:
        assert await written_after(bed, model, 0) == (8, 8)
        assert await written_after(bed, model, 0.75) == (0, 0)
        assert await written_after(bed, model, 0.75) == (8, 0)
        assert writes.as_of() == bed.clock.now()
        await bed.buy("1", 0)
        await bed.settle()
        # `as_of` is the oldest of all: those at rest keep up with what moves.
        assert await written_after(bed, model, 0.5) == (8, 1)
        bed.rescoring.rounds += 1
        assert await written_after(bed, model, 0.0) == (8, 8)

    play(story, tmp_path)


async def buy(bed: Bed, *customers: int, day: float) -> None:
    for number in customers:
        await bed.buy(str(number), day)
    await bed.settle()


def test_as_of_never_promises_what_still_waits(tmp_path: Path, writes: Writes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_model, "PORTION", 3)

    async def story(bed: Bed, model: ReadModel) -> None:
        await buy(bed, *range(2, 8), day=0)
        began = bed.clock.now()
        answers = []
        for second in range(1, 5):
            await write(model)
            answers.append(writes.as_of())
            bed.clock.observe(began + timedelta(seconds=second))
        # Seven customers are there after three writes of three: before, nothing can be promised.
        assert answers[:3] == [None, None, began + timedelta(seconds=2)]
        await buy(bed, *range(1, 8), day=1)
        promised = writes.as_of()
        await write(model)
        assert writes.as_of() == promised
        for _ in range(3):
            await write(model)
        assert writes.as_of() == bed.clock.now()

    play(story, tmp_path)


def test_who_moves_all_the_time_holds_nobody_back(tmp_path: Path, writes: Writes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_model, "PORTION", 2)

    async def story(bed: Bed, model: ReadModel) -> None:
        await buy(bed, *range(2, 9), day=0)
        moments = []
        for day in range(1, 13):
            await buy(bed, *range(1, 5), day=day)
            await write(model)
            moments.append(writes.as_of())
        assert len({customer for portion in writes.scores for customer in portion}) == 8
        promised = [moment for moment in moments if moment is not None]
        assert promised == sorted(promised)
        assert promised[-1] > promised[0]

    play(story, tmp_path)


def test_a_write_that_failed_leaves_as_of_where_it_was(tmp_path: Path, writes: Writes, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(bed: Bed, model: ReadModel) -> None:
        await write(model)
        await write(model)
        promised, points = writes.as_of(), len(writes.points)
        monkeypatch.setattr(store, "write_scores", _away)
        await buy(bed, 1, day=3)
        await write(model)
        await write(model)
        assert (writes.as_of(), len(writes.points)) == (promised, points)
        monkeypatch.setattr(store, "write_scores", writes.write_scores)
        await write(model)
        await write(model)
        assert writes.as_of() == bed.clock.now()
        assert len(writes.points) == points + 1

    play(story, tmp_path)


def _away(_: Sequence[dict[str, Any]]) -> None:
    raise Unavailable("database: a test took it away")


def test_the_history_has_a_point_where_something_worth_telling_changed(tmp_path: Path, writes: Writes) -> None:
    async def story(bed: Bed, model: ReadModel) -> None:
        await bed.introduce("99")
        await write(model)
        assert [each["_id"] for each in writes.points] == [f"{profile('1')}/{_today(bed) % history.KEPT_DAYS}"]
        await bed.interact("1", 0, "WebVisit")
        await bed.settle()
        await write(model)
        assert len(writes.scores) == 2
        assert len(writes.points) == 1, "an interaction changes no score"
        await bed.age(40)
        await write(model)
        await bed.buy("1", 40)
        await bed.settle()
        await write(model)
        old, left, back = writes.points
        assert (left["_id"], left["day"]) == (back["_id"], old["day"] + 40)
        assert left["risk"] > back["risk"]

    play(story, tmp_path)


def test_what_was_stored_by_one_market_and_told_by_the_next_is_stored_again(
    tmp_path: Path, writes: Writes, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A round is one tick, as below.
    monkeypatch.setattr(rescoring, "ENOUGH_SECONDS", 60.0)

    async def story(bed: Bed, model: ReadModel) -> None:
        for _ in range(3):
            await bed.age(1)
        for number in range(10):
            await buy(bed, number, day=4 + number)
        await write(model)
        # A round is over.
        bed.worker.market = bed.worker.look_at_market()
        await ScoreTelling(bed.worker).tick()
        await bed.age(1)
        await write(model)
        told = {each["data"]["customer_id"]: each["data"]["scores"]["rfm_cell"] for each in bed.bus.events(SCORES)}
        assert len(set(told.values())) > 2
        assert {customer: document["rfm_cell"] for customer, document in writes.documents.items()} == told
        writes.scores.clear()
        await bed.age(0)
        await write(model)
        assert writes.scores == [], "and then there is an end to it"

    play(story, tmp_path)


def _today(bed: Bed) -> int:
    return bed.worker.now_ms() // DAY_MS


def test_after_a_restart_only_what_changed_since_is_a_point(tmp_path: Path, writes: Writes, monkeypatch: pytest.MonkeyPatch) -> None:
    # A round is one tick, however busy the machine is: nothing is told in the middle of it, by the market before.
    monkeypatch.setattr(rescoring, "ENOUGH_SECONDS", 60.0)

    async def story(bed: Bed, model: ReadModel) -> None:
        await buy(bed, 2, day=0)
        await bed.age(0)
        for who in ("1", "2"):
            # Told by the market that the round found, whichever it was judged by.
            await bed.interact(who, 0, "WebVisit")
        await bed.settle()
        for _ in range(3):
            await bed.bus.tick()
        await write(model)
        await bed.restart()
        writes.points.clear()
        again = ReadModel(bed.worker, bed.rescoring)
        await write(again)
        await bed.interact("1", 0, "WebVisit")
        await bed.settle()
        await write(again)
        assert (writes.scores[-1], writes.points) == ([profile("1")], [])
        await buy(bed, 2, day=60)
        await write(again)
        assert [each["_id"].split("/")[0] for each in writes.points] == [profile("2")]

    play(story, tmp_path)


def test_a_segments_size_is_kept_by_partition_and_day_when_it_changed(tmp_path: Path, writes: Writes) -> None:
    async def story(bed: Bed, model: ReadModel) -> None:
        await write(model)
        assert sorted(each["partition"] for each in writes.sizes) == list(range(8))
        assert sum(each["sizes"]["new"] for each in writes.sizes) == 1
        writes.sizes.clear()
        await bed.interact("1", 0, "WebVisit")
        await bed.settle()
        await write(model)
        assert writes.sizes == []
        await bed.age(1)
        await write(model)
        assert sorted(each["partition"] for each in writes.sizes) == list(range(8))

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


def buyers(*year_spend: int) -> Buyers:
    some = Spread.of_counts(np.array([0, len(year_spend)]))
    return Buyers(some, some, Spread.of_ascending(np.sort(year_spend)), sum(year_spend), 365)


def test_the_curves_of_both_kinds_are_kept_and_answered(tmp_path: Path, writes: Writes, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(bed: Bed, model: ReadModel) -> None:
        bed.worker.settings = bed.worker.settings.model_copy(update={"value_by": "profit"})
        bed.worker.market = market_of([Sample(buyers(*range(100, 300)), buyers(*[50] * 119, 10**6))])
        await write(model)
        monkeypatch.setattr(store, "read_curves", lambda: writes.curves[-1:])
        by_spend = await _value_curve()
        assert (by_spend["basis"], by_spend["buyers"], by_spend["of_all_buyers"]) == ("spend", 200, False)
        assert by_spend["class_a_minor"] < 300
        traders = by_spend["traders"]
        assert (traders["buyers"], traders["class_a_minor"]) == (120, 10**6)
        assert traders["points"][0]["spend_share"] > 0.99
        assert traders["points"][-1] == {"customer_share": 1.0, "spend_share": 1.0}

        # Costs are known now; and too few traders are left to have a curve of their own.
        bed.worker.margin_share = 0.3
        bed.worker.market = market_of([Sample(buyers(*range(100, 300)), buyers(10, 20, 30))])
        model._curve_round = -1
        await write(model)
        by_profit = await _value_curve()
        assert (by_profit["basis"], by_profit["buyers"], by_profit["of_all_buyers"]) == ("profit", 200, False)
        assert (by_profit["traders"]["buyers"], by_profit["traders"]["of_all_buyers"]) == (203, True)

    play(story, tmp_path)


async def _value_curve() -> Any:
    router = APIRouter()
    add_totals(router)
    (endpoint,) = (route.endpoint for route in router.routes if isinstance(route, APIRoute) and route.path == "/v1/value-curve")
    return await endpoint()


def test_who_was_merged_leaves_the_read_model_and_who_waits_for_rows_holds_nobody_back(tmp_path: Path, writes: Writes) -> None:
    async def story(bed: Bed, model: ReadModel) -> None:
        for who in ("2", "3"):
            await bed.introduce(who)
            await bed.buy(who, 1, 500)
        await bed.settle()
        await write(model)
        await model.tick()
        written = len(writes.scores)
        await bed.publish_customer("1", 1, "2", "3")
        await bed.publish_customer("2", 2, into="1")
        await bed.settle()
        await write(model)
        await model.tick()
        assert all(profile("1") not in each for each in writes.scores[written:])
        assert writes.gone == [profile("2")]
        assert not any(len(marks.waiting()) for marks in model._marks.values())
        assert (writes.as_of() or START) >= bed.clock.now()
        await bed.publish_customer("3", 2, into="1")
        await bed.settle()
        await write(model)
        await model.tick()
        assert writes.documents[profile("1")]["others"] == sorted([profile("2"), profile("3")])
        assert writes.documents[profile("1")]["bought_minor"] == 2000
        assert writes.gone == [profile("2"), profile("3")]
        await bed.buy("2", 2, 500)
        await bed.settle()
        await write(model)
        assert writes.documents[profile("1")]["bought_minor"] == 2500
        assert writes.gone == [profile("2"), profile("3")]

    play(story, tmp_path)
