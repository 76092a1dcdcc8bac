"""Another model judges everyone otherwise: others hear of it, and nothing is anybody's doing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.segmentation.domain.models.bg_nbd import BgNbd
from services.segmentation.domain.models.calibration import Calibration
from services.segmentation.domain.models.scoring_model import ScoringModel
from services.segmentation.domain.models.season import PERIODS, Season
from services.segmentation.domain.signs import SIGNS
from services.segmentation.domain.state import FORMAT
from services.segmentation.models_in_use import RANKS, model_from, parameters_of
from services.segmentation.shipped import load_shipped_models
from shared.contracts.scores import ScoringModelPublished
from shared.contracts.topics import SEGMENTATION_STATE
from tests.unit.segmentation.bed import START, Bed, dying

PEOPLE = [f"p{number}" for number in range(12)]
GLOOMY = ScoringModel("fitted-1", BgNbd(0.05, 60.0, 4.0, 0.5), load_shipped_models("groceries").shipped.amounts)
"""Thinks that nobody comes back."""


def run(story: Callable[[Bed], Awaitable[None]], directory: Path, **made: Any) -> Bed:
    async def play() -> Bed:
        bed = Bed(directory, **made)
        await bed.start()
        await story(bed)
        return bed

    return asyncio.run(play())


async def trade(bed: Bed) -> None:
    for day in range(0, 40, 4):
        for who in PEOPLE:
            await bed.buy(who, day)
    await bed.settle()
    # The first round finds the market, the second judges by it, the third finds nothing new.
    for _ in range(3):
        await bed.age(1)


def told(bed: Bed) -> set[str]:
    return {each["id"] for each in bed.changes}


def since(bed: Bed, before: set[str]) -> list[dict[str, Any]]:
    return [each["data"] for each in bed.changes if each["id"] not in before]


def causes(bed: Bed, before: set[str]) -> set[str]:
    return {each["cause"] for each in since(bed, before)}


def test_what_a_new_model_moves_is_told_as_its_doing(tmp_path: Path) -> None:
    async def story(bed: Bed) -> None:
        await trade(bed)
        before = told(bed)
        bed.judge_by(GLOOMY)
        await bed.age(0)
        assert causes(bed, before) == {"model"}
        assert {row["membership"] for row in bed.rows.values()}
        before = told(bed)
        await bed.age(40)
        assert "model" not in causes(bed, before)

    run(story, tmp_path)


def test_what_the_old_model_would_have_moved_as_well_is_the_events_doing(tmp_path: Path) -> None:
    async def story(bed: Bed) -> None:
        await trade(bed)
        before = told(bed)
        bed.judge_by(GLOOMY)
        bed.worker.take_up_what_is_new()
        for who in PEOPLE[:3]:
            for _ in range(3):
                await bed.interact(who, 41, "CouponRedeemed")
        await bed.settle()
        lovers = [each["cause"] for each in since(bed, before) if each["segment"] == "coupon_lovers"]
        assert lovers
        assert set(lovers) == {"event"}

    run(story, tmp_path)


@pytest.mark.parametrize("dies_at", range(1, 8))
def test_a_crash_while_a_model_is_taken_up_leaves_the_rest_its_doing(tmp_path: Path, dies_at: int) -> None:
    async def story(bed: Bed) -> None:
        await trade(bed)
        before = told(bed)
        bed.judge_by(GLOOMY)
        with dying(bed, dies_at):
            await bed.age(0)
        await bed.crash()
        await bed.age(1)
        assert causes(bed, before) == {"model"}
        ids = [(each["id"], each["data"]["cause"]) for each in bed.changes]
        assert len({id for id, _ in ids}) == len(set(ids))

    run(story, tmp_path)


def test_few_customers_are_judged_by_ranks_and_scores_say_so(tmp_path: Path) -> None:
    async def story(bed: Bed) -> None:
        await trade(bed)
        for who in PEOPLE[:4]:
            await bed.buy(who, 45)
        await bed.settle()
        await bed.age(1)
        assert bed.worker.model.name == RANKS
        assert bed.worker.model.ranks_only

    run(story, tmp_path, ranks=True)


def test_rows_of_another_format_are_rebuilt_from_the_timeline(tmp_path: Path) -> None:
    async def story(bed: Bed) -> None:
        await trade(bed)
        totals = bed.totals
        log = bed.bus._logs[SEGMENTATION_STATE.name]
        for records in log.partitions:
            for at, record in enumerate(records):
                value = record.value or b""
                now = f'"format":{FORMAT}'.encode()
                old = b"\x01" + value[1:] if value[0] == FORMAT else value.replace(now, b'"format":1')
                records[at] = replace(record, value=old)
        for path in (tmp_path / "segmentation").glob("*"):
            path.unlink()
        caught_up = bed.catch_ups
        await bed.crash()
        assert bed.catch_ups == caught_up + 8
        assert bed.totals == totals
        await bed.crash()
        assert bed.catch_ups == caught_up + 8

    run(story, tmp_path)


def test_a_published_model_is_the_one_that_was_fitted() -> None:
    weights = tuple(np.linspace(-1, 2, len(SIGNS)).tolist())
    model = replace(GLOOMY, name="fitted-7", calibration=Calibration(-0.5, 0.9, weights))
    season = Season(tuple(np.linspace(0.5, 2.0, PERIODS).tolist()))
    for each in (model, replace(GLOOMY, name="fitted-7"), replace(model, season=season)):
        published = ScoringModelPublished(model="fitted", version=7, parameters=parameters_of(each), fitted_at=START)
        assert model_from(ScoringModelPublished.model_validate_json(published.model_dump_json())) == each
