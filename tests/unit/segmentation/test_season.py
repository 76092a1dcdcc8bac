"""The season is learned from last year, shifts the risk with the calendar, and is used only where it helps."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import date
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from services.segmentation.domain import fitting
from services.segmentation.domain.arrays import Floats
from services.segmentation.domain.events import DAY_MS, EventBatch, Kind
from services.segmentation.domain.fitting import back_test, candidate, fit_model, window_before
from services.segmentation.domain.models.season import (
    DAMPING_DAYS,
    HIGHEST,
    LOWEST,
    NO_SEASON,
    PERIODS,
    Season,
    index_of,
    newest_beginning,
)
from services.segmentation.domain.seasons import ENOUGH_DAYS, learn_season
from services.segmentation.domain.state import CustomerState, apply_events
from services.segmentation.shipped import load_shipped_models
from shared.contracts.topics import SCORES
from tests.unit.segmentation.bed import START, Bed

EPOCH = date(1970, 1, 1)
TODAY = (date(2025, 12, 31) - EPOCH).days
HORIZON = 56
SPAN = 620


def strength(day: Floats) -> Floats:
    """A shop that lives on its autumn: by day of the year."""
    of: Floats = 1.0 + 0.4 * np.cos(2 * np.pi * (day - (date(2025, 11, 20) - EPOCH).days) / 365.25)
    return of


@lru_cache
def a_shop(today: int = TODAY, seasonal: bool = True, seed: int = 4) -> CustomerState:
    """Rows of 4,000 customers who buy at their own pace, times the season."""
    chance, state, count = np.random.default_rng(seed), CustomerState(), 4000
    ids = np.stack([np.zeros(count, dtype=np.uint64), np.arange(count, dtype=np.uint64)], axis=1)
    pace = chance.gamma(0.8, 0.02, count)
    begins = today - SPAN + chance.integers(0, 300, count)
    for day in range(today - SPAN, today + 1):
        chances = pace * (float(strength(np.array(day))) if seasonal else 1.0)
        who = ids[(begins == day) | ((begins < day) & (chance.random(count) < chances))]
        kinds, ones = np.full(len(who), Kind.PURCHASE, dtype=np.int64), np.ones(len(who), dtype=np.int64)
        apply_events(state, EventBatch(who, kinds, np.full(len(who), day * DAY_MS), chance.integers(500, 5000, len(who)), ones))
    return state


def test_the_index_of_each_window_is_recovered() -> None:
    state = a_shop()
    season = learn_season(state, state.every_row(), fit_model("s", state, TODAY), TODAY, HORIZON)
    known = [place for place, index in enumerate(season.indexes) if index != 1.0]
    assert len(known) >= 10
    days = [newest_beginning(period, TODAY - HORIZON) for period in known]
    true = np.array([strength(np.arange(day + 1, day + 1 + HORIZON)).mean() for day in days])
    learned = np.array([season.indexes[place] for place in known])
    assert np.corrcoef(true, learned)[0, 1] > 0.94
    # The level is that of the days that a customer's rate is known from, which early in a short history are of one season themselves.
    assert learned / learned.mean() == pytest.approx(true / true.mean(), abs=0.2)


def test_rows_of_a_shop_without_seasons_teach_none() -> None:
    state = a_shop(seasonal=False)
    season = learn_season(state, state.every_row(), fit_model("s", state, TODAY), TODAY, HORIZON)
    assert season.indexes == pytest.approx([1.0] * PERIODS, abs=0.15)


@pytest.mark.parametrize("today", [TODAY, TODAY - 60, TODAY - 200])
def test_last_years_season_makes_the_back_test_better(today: int) -> None:
    state = a_shop(today)
    judged = window_before(state, today, HORIZON)
    plain = fit_model("s", judged.state, judged.day)
    seasonal = replace(plain, season=learn_season(state, state.every_row(), plain, judged.day, HORIZON))
    steady, with_season = (back_test(each, judged.state, judged.day, judged.outcome, HORIZON) for each in (plain, seasonal))
    assert seasonal.season != NO_SEASON
    assert with_season.brier < steady.brier
    assert abs(with_season.total_error) < abs(steady.total_error) / 2
    assert with_season.auc == pytest.approx(steady.auc, abs=0.002)


def test_nothing_of_the_judged_window_is_seen() -> None:
    state = a_shop()
    judged = window_before(state, TODAY, HORIZON)
    plain = fit_model("s", judged.state, judged.day)
    seen = learn_season(state, state.every_row(), plain, judged.day, HORIZON)
    later = state.keep_only(state.every_row())
    who, ones = later.ids[:2000], np.ones(2000, dtype=np.int64)
    apply_events(later, EventBatch(who, ones * Kind.PURCHASE, ones * ((judged.day + 3) * DAY_MS), ones * 100, ones))
    found = learn_season(later, later.every_row(), plain, judged.day, HORIZON)
    # But for what newer days have pushed out of the bitmaps.
    assert found.indexes == pytest.approx(seen.indexes, abs=1e-4)


def test_a_refit_takes_the_season_where_it_helps_and_says_so() -> None:
    state = a_shop()
    shipped = load_shipped_models("music").shipped
    # Two periods earlier, when the signs alone do not make up for the season.
    found = candidate("fitted-1", state, TODAY - 2 * 28, HORIZON, shipped)
    assert found.accepted
    assert found.model.season != NO_SEASON
    steady = candidate("fitted-1", a_shop(seasonal=False), TODAY, HORIZON, shipped).model
    assert steady.season.at(TODAY) == pytest.approx(1.0, abs=0.1)


def test_a_season_that_makes_the_back_test_worse_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "learn_season", lambda *_: Season((LOWEST,) * PERIODS))
    found = candidate("fitted-1", a_shop(seasonal=False), TODAY, HORIZON, load_shipped_models("music").shipped)
    assert found.model.season == NO_SEASON


def test_too_short_a_history_teaches_nothing() -> None:
    state = a_shop()
    first = int(state.first_day[: state.count].min())
    model = fit_model("s", state, TODAY)
    assert learn_season(state, state.every_row(), model, first + ENOUGH_DAYS + HORIZON - 1, HORIZON) == NO_SEASON
    assert learn_season(CustomerState(), np.zeros(0, dtype=np.int64), model, TODAY, HORIZON) == NO_SEASON


def test_an_index_is_damped_and_bounded() -> None:
    assert index_of(0, 0) == 1.0
    assert index_of(2 * DAMPING_DAYS, DAMPING_DAYS) == 1.5
    assert index_of(1e6, 1.0) == HIGHEST
    assert index_of(0.0, 1e6) == LOWEST


def test_a_season_glides_through_the_year_and_begins_anew() -> None:
    season = Season(tuple(1.0 + period / 100 for period in range(PERIODS)))
    first = (date(2024, 1, 1) - EPOCH).days
    assert season.at(first) == 1.0
    steps = [abs(season.at(first + day + 1) - season.at(first + day)) for day in range(366 * 2)]
    assert max(steps) < 0.12 / 28 + 0.01
    for period in range(PERIODS):
        assert season.at(newest_beginning(period, first + 400)) == pytest.approx(season.indexes[period], abs=0.005)
    assert NO_SEASON.at(first) == 1.0


def test_the_worker_judges_by_the_time_of_the_year(tmp_path: Path) -> None:
    """In the quiet half a steady customer's silence is no alarm: the same row, the same age, another season."""
    quiet = (START.date() - EPOCH).days + 46
    beginnings = [newest_beginning(period, quiet + 366) for period in range(PERIODS)]
    indexes = tuple(LOWEST if (day - quiet) % 365 < 100 else HIGHEST for day in beginnings)
    shipped = load_shipped_models("groceries").shipped
    risks: dict[str, float] = {}

    async def story(name: str, season: Season) -> None:
        bed = Bed(tmp_path / name, fitted=replace(shipped, name="fitted-1", season=season))
        await bed.start()
        for day in range(0, 45, 5):
            await bed.buy("p1", day)
        await bed.settle()
        await bed.age(1)
        for _ in range(4):
            await bed.bus.tick()
        risks[name] = bed.bus.events(SCORES)[-1]["data"]["scores"]["buys_again"]

    asyncio.run(story("steady", NO_SEASON))
    asyncio.run(story("seasonal", Season(indexes)))
    asyncio.run(story("busy", Season(tuple(reversed(indexes)))))
    assert risks["seasonal"] != risks["steady"]
    assert len(set(risks.values())) == 3
