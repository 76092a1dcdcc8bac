"""Refits that die in between, and workers that start again: what was accepted is said, and a restart is no reason to fit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from services.segmentation import modelling
from services.segmentation.domain.fitting import BackTest, Candidate
from services.segmentation.domain.models.scoring_model import Market
from services.segmentation.domain.need_fitting import NeedCandidate
from services.segmentation.modelling import Modelling
from services.segmentation.models_in_use import FITTED, model_from, parameters_of
from services.segmentation.need_contract import need_labels_from
from services.segmentation.refit import keep_and_publish, publish_what_was_kept, read_published
from services.segmentation.refit_needs import keep_and_publish_needs
from services.segmentation.shipped import load_shipped_models
from services.segmentation.store import models as store
from shared import contracts
from shared.contracts.envelope import Event
from shared.contracts.scores import NeedModelPublished, ScoringModelPublished
from shared.contracts.topics import SCORING_MODELS
from shared.mongo import connect, disconnect, in_store
from shared.streaming.errors import Unavailable
from shared.streaming.records import Record
from tests.unit.segmentation.bed import START, Bed

LARGE = Market(buyers=1000, history_days=365)
TEST = BackTest(20_000, 90, 1000, 0.5, 0.8, 0.1, 0.01, 0.02, None)


class Crash(BaseException):
    """Stands for kill -9."""


@pytest.fixture
def kept(database: str) -> Iterator[None]:
    """A database that keeps no fits yet."""
    mongo = connect("segmentation", database)
    mongo.drop_database("segmentation")
    yield
    disconnect("segmentation")


def a_fit(version: int, *, accepted: bool = True) -> tuple[Candidate, ScoringModelPublished]:
    shipped = load_shipped_models("music").shipped
    published = ScoringModelPublished(
        model=FITTED, version=version, parameters=parameters_of(shipped), fitted_at=START + timedelta(days=version - 1),
        data_from="2024-01-01", data_until="2025-01-01", customers=1000,
    )  # fmt: skip
    return Candidate(model_from(published), 1000, TEST, TEST, accepted, "a test"), published


@dataclass
class Office:
    """The part of a worker that has fits made, on the bus in memory."""

    bed: Bed
    refits: list[str] = field(default_factory=list)
    dies_over: int = 0
    """The version that the next refit keeps, and then dies."""
    modelling: Modelling = field(init=False)

    def open(self, **made: Any) -> None:
        """A worker starts: it has read what was published."""
        self.bed.worker.market = LARGE
        self.modelling = Modelling(self.bed.worker, self._follow, self._refit, **made)

    async def wait(self) -> None:
        """Ticks, until they begin nothing any more."""
        quiet = 0
        while quiet < 5:
            await self.modelling.tick()
            await asyncio.sleep(0.005)
            at_work = (self.modelling._remembering, self.modelling._fitting)
            quiet = 0 if any(task is not None and not task.done() for task in at_work) else quiet + 1

    async def _follow(self) -> AsyncIterator[Sequence[Record]]:
        await asyncio.Event().wait()
        yield []

    async def _refit(self, now: str) -> tuple[int, str]:
        self.refits.append(now)
        if not self.dies_over:
            return 0, ""
        await keep_and_die(self, self.dies_over)
        return -9, ""

    def versions(self) -> list[int]:
        return [each["data"]["version"] for each in self.bed.bus.events(SCORING_MODELS) if each["type"] == ScoringModelPublished.event_type]


def play(story: Callable[[Office], Awaitable[None]], directory: Path) -> None:
    async def whole() -> None:
        office = Office(Bed(directory))
        await office.bed.start()
        try:
            await story(office)
        finally:
            if hasattr(office, "modelling"):
                await office.modelling.finish()

    asyncio.run(whole())


async def keep_and_die(office: Office, version: int) -> None:
    office.bed.bus.fail_publishes(1, SCORING_MODELS, error=Crash())  # type: ignore[arg-type]
    with pytest.raises(Crash):
        await keep_and_publish(*a_fit(version), office.bed.bus.append)


def test_the_next_refit_publishes_what_one_that_died_had_kept(kept: None, tmp_path: Path) -> None:
    async def story(office: Office) -> None:
        bus = office.bed.bus
        await keep_and_die(office, 1)
        assert office.versions() == []
        for _ in range(2):
            known = load_shipped_models("music")
            await read_published(office.bed._read_models, known)
            await publish_what_was_kept(await in_store(store.look_back), known, bus.append)
            await read_published(office.bed._read_models, known)
            assert known.version == 1
        assert office.versions() == [1]

    play(story, tmp_path)


def test_what_was_sent_twice_is_one_event(kept: None, tmp_path: Path) -> None:
    async def story(office: Office) -> None:
        bus = office.bed.bus
        await keep_and_publish(*a_fit(1), bus.append)
        await publish_what_was_kept(await in_store(store.look_back), load_shipped_models("music"), bus.append)
        first, second = (each for each in bus.records(SCORING_MODELS) if each.key == FITTED.encode())
        assert first.value == second.value

    play(story, tmp_path)


def test_a_worker_that_starts_publishes_what_a_refit_that_died_had_kept(kept: None, tmp_path: Path) -> None:
    async def story(office: Office) -> None:
        await keep_and_publish(*a_fit(1), office.bed.bus.append)
        await keep_and_die(office, 2)
        await keep_and_publish(*a_fit(3, accepted=False), office.bed.bus.append)
        await read_published(office.bed._read_models, office.bed.worker.models)
        office.open()
        await office.wait()
        assert office.versions() == [1, 2]

    play(story, tmp_path)


def test_a_worker_publishes_what_its_own_refit_died_over(kept: None, tmp_path: Path) -> None:
    async def story(office: Office) -> None:
        office.dies_over = 1
        office.open()
        await office.wait()
        assert len(office.refits) == 1
        assert office.versions() == [1]

    play(story, tmp_path)


def test_a_worker_that_starts_publishes_needs_that_nobody_heard_of(kept: None, tmp_path: Path) -> None:
    example = Path(contracts.__file__).parent / "examples" / "NeedModelPublished.json"
    needs = Event[NeedModelPublished].model_validate_json(example.read_text()).data

    async def story(office: Office) -> None:
        bus = office.bed.bus
        bus.fail_publishes(1, SCORING_MODELS, error=Crash())  # type: ignore[arg-type]
        found = NeedCandidate(need_labels_from(needs).model, 1000, None)
        with pytest.raises(Crash):
            await keep_and_publish_needs(found, needs, bus.append)
        for _ in range(2):
            office.open()
            await office.wait()
            await office.modelling.finish()
            await read_published(office.bed._read_models, office.bed.worker.models)
        (said,) = (each for each in bus.events(SCORING_MODELS) if each["type"] == NeedModelPublished.event_type)
        assert said["data"]["version"] == needs.version

    play(story, tmp_path)


def test_a_restart_is_no_reason_to_fit_and_the_next_fit_comes_in_its_time(kept: None, tmp_path: Path) -> None:
    async def story(office: Office) -> None:
        await keep_and_publish(*a_fit(1, accepted=False), office.bed.bus.append)
        office.bed.clock.observe(START + timedelta(days=1))
        office.open()
        await office.wait()
        assert office.refits == []
        await office.bed.crash()
        office.open()
        await office.wait()
        assert office.refits == []
        office.bed.clock.observe(START + timedelta(days=7))
        await office.wait()
        assert len(office.refits) == 1

    play(story, tmp_path)


def test_without_any_fit_the_first_comes_at_once_and_once(kept: None, tmp_path: Path) -> None:
    async def story(office: Office) -> None:
        office.open()
        await office.wait()
        assert len(office.refits) == 1

    play(story, tmp_path)


def test_a_fit_of_the_future_of_a_replay_that_begins_anew_holds_nothing_up_for_ever(kept: None, tmp_path: Path) -> None:
    async def story(office: Office) -> None:
        await keep_and_publish(*a_fit(300), office.bed.bus.append)
        office.open()
        await office.wait()
        office.bed.clock.observe(START + timedelta(days=8))
        await office.wait()
        assert len(office.refits) == 1

    play(story, tmp_path)


def test_a_database_that_is_away_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modelling, "RETRY_SECONDS", 0.01)
    asked = 0

    async def away_at_first() -> store.Kept:
        nonlocal asked
        asked += 1
        if asked < 4:
            raise Unavailable("database: a test took it away")
        return store.Kept(START)

    async def story(office: Office) -> None:
        office.open(look_back=away_at_first)
        await office.modelling.tick()
        await office.bed.buy("1", 1)
        await office.bed.settle()
        assert office.bed.totals["purchases"] == 1
        assert office.refits == []
        await office.wait()
        assert (asked, office.refits) == (4, [])

    play(story, tmp_path)


def test_who_takes_the_fits_over_asks_when_the_last_one_was(kept: None, tmp_path: Path) -> None:
    async def story(office: Office) -> None:
        office.open()
        owned = dict(office.bed.worker.owned)
        office.bed.worker.owned.clear()
        await office.wait()
        assert office.refits == []
        await keep_and_publish(*a_fit(1), office.bed.bus.append)
        office.bed.worker.owned.update(owned)
        await office.wait()
        assert office.refits == []

    play(story, tmp_path)
