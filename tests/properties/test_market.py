"""One market for everybody, whoever owns which partitions: merged spreads, kinds kept apart, and never a half of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.segmentation import markets as markets_module
from services.segmentation.changelog import market_from, market_meta
from services.segmentation.domain.arrays import Integers
from services.segmentation.domain.events import DAY_MS, EventBatch, Kind
from services.segmentation.domain.fitting import fit_model
from services.segmentation.domain.market import ENOUGH_OF_A_KIND, Gathering, market_of, sample_of
from services.segmentation.domain.models.rfm import CELLS
from services.segmentation.domain.models.scoring_model import Market
from services.segmentation.domain.models.spread import COARSE, Spread
from services.segmentation.domain.models.value_curve import CLASS_A, ValueCurve
from services.segmentation.domain.scoring import Question, ScoreBatch, score
from services.segmentation.domain.state import CustomerState, apply_events
from services.segmentation.markets import Known, Markets, has_moved, market_key, message_of
from services.segmentation.owned import Owned
from services.segmentation.positions import Positions
from services.segmentation.refit import PARTITION
from services.segmentation.rescoring import Rescoring
from services.segmentation.settings import SegmentationSettings
from services.segmentation.shipped import load_shipped_models
from services.segmentation.worker import Worker
from shared.clock import ReplayClock
from shared.contracts.topics import PARTITION_COUNT, SCORING_MODELS
from shared.streaming.memory import MemoryBus
from shared.streaming.partitions import partition_for
from shared.streaming.records import StoredRecord
from tests.unit.segmentation.bed import START, Bed

TODAY = 20_089
MODEL = load_shipped_models("groceries").shipped
SHARES = (0.2, 0.4, 0.6, 0.8)

columns = st.builds(
    lambda seed, size, ties, skew: drawn(np.random.default_rng(seed), size, ties, skew),
    st.integers(0, 2**32 - 1),
    st.integers(1, 6000),
    st.floats(0.0, 0.95),
    st.sampled_from([0.3, 1.0, 3.0]),
)


def drawn(chance: np.random.Generator, size: int, ties: float, skew: float) -> Integers:
    """Skewed amounts, a share of them tied at one of a few values."""
    values = np.expm1(chance.normal(6, skew, size)).astype(np.int64)
    tied = chance.random(size) < ties
    values[tied] = chance.choice(np.array([-200, 0, 1, 199, 999, 5000]), int(tied.sum()))
    return values


def split_up(values: Integers, parts: int, seed: int) -> list[Integers]:
    """Some to each, very unequally."""
    chance = np.random.default_rng(seed)
    where = chance.choice(parts, len(values), p=chance.dirichlet(np.full(parts, 0.4)))
    return [values[where == part] for part in range(parts)]


def exactly(values: Integers) -> Spread:
    return Spread.of_ascending(np.sort(values))


@given(values=columns, parts=st.integers(1, 8), seed=st.integers(0, 1000), thin=st.integers(0, 8))
def test_merged_quantiles_are_within_half_a_percentile(values: Integers, parts: int, seed: int, thin: int) -> None:
    spreads = [exactly(each) for each in split_up(values, parts, seed)]
    merged = Spread.together([each.thinned() if n < thin else each for n, each in enumerate(spreads)])
    assert merged.size == len(values)
    for share, cut in zip(SHARES, merged.quantiles(SHARES), strict=True):
        below, up_to = np.mean(values < cut), np.mean(values <= cut)
        assert below - 0.005 <= share <= up_to + 0.005


@given(values=columns, parts=st.integers(1, 8), seed=st.integers(0, 1000))
def test_merged_value_classes_bring_their_share_within_half_a_percent(values: Integers, parts: int, seed: int) -> None:
    spend = np.maximum(values, 0)
    whole = spend.sum()
    curve = ValueCurve.of(Spread.together([exactly(each).thinned() for each in split_up(values, parts, seed)]))
    if not whole:
        assert curve.customer_share == ()
        return
    for share, least in ((0.80, curve.class_a_minor), (0.95, curve.class_b_minor)):
        assert spend[spend >= least].sum() / whole >= share - 0.005
        assert spend[spend > least].sum() / whole <= share + 0.005
    for customers, brought in zip(curve.customer_share, curve.spend_share, strict=True):
        best = np.sort(spend)[::-1][: round(customers * len(spend))].sum() / whole
        assert brought == pytest.approx(best, abs=0.01)


@given(values=columns, parts=st.integers(1, 8), seed=st.integers(0, 1000))
def test_nothing_is_lost_where_no_part_is_thinned(values: Integers, parts: int, seed: int) -> None:
    merged = Spread.together([exactly(each) for each in split_up(values, parts, seed)])
    assert merged.quantiles(SHARES).tolist() == np.quantile(values, SHARES, method="inverted_cdf").tolist()
    whole = exactly(values)
    assert all((getattr(merged, name) == getattr(whole, name)).all() for name in ("upto", "count", "total_minor"))
    assert ValueCurve.of(merged) == ValueCurve.of(whole)


@given(values=columns)
def test_a_thin_spread_is_small(values: Integers) -> None:
    thin = exactly(values).thinned()
    assert len(thin.upto) <= 2 * COARSE + 1
    assert thin.size == len(values)
    assert thin.total_minor.sum() == np.maximum(values, 0).sum()


# Kinds.


def a_crowd(count: int, seed: int, scale: float, trader: bool = False, first_id: int = 0) -> CustomerState:
    """Buyers of a year; traders spend a hundred times as much."""
    chance, state = np.random.default_rng(seed), CustomerState()
    ids = np.stack([np.zeros(count, dtype=np.uint64), np.arange(first_id, first_id + count, dtype=np.uint64)], axis=1)
    for _ in range(8):
        who = ids[chance.random(count) < chance.random(count)]
        day = TODAY - 1 - chance.integers(0, 365, len(who))
        amounts = (chance.gamma(2.0, scale, len(who)) + 1).astype(np.int64)
        kinds, ones = np.full(len(who), Kind.PURCHASE, dtype=np.int64), np.ones(len(who), dtype=np.int64)
        apply_events(state, EventBatch(who, kinds, day * DAY_MS, amounts, ones))
    state.customer_type[: state.count] = chance.integers(1, 3, state.count) if trader else 0
    return state


def scored(state: CustomerState, market: Market) -> ScoreBatch:
    return score(state, state.every_row(), Question(TODAY, MODEL, market))


def both_kinds(traders: int) -> CustomerState:
    state = a_crowd(2000, 1, 1000)
    state.take_over(a_crowd(traders, 2, 100_000, trader=True, first_id=10_000))
    return state


def test_traders_and_consumers_are_judged_each_among_their_own() -> None:
    mixed, consumers, traders = both_kinds(500), a_crowd(2000, 1, 1000), a_crowd(500, 2, 100_000, trader=True, first_id=10_000)
    market = market_of([sample_of(scored(mixed, Market()))])
    found = scored(mixed, market)
    for alone in (consumers, traders):
        own = market_of([sample_of(scored(alone, Market()))])
        expected = scored(alone, own)
        rows = mixed.find(alone.ids[: alone.count])
        for name in ("cell", "value_class", "expected_value_minor", "risk"):
            assert (getattr(found, name)[rows] == getattr(expected, name)).all(), name
    cells = [{CELLS[cell] for cell in found.cell[found.trader == kind]} for kind in (False, True)]
    assert "lost" in cells[0] & cells[1]
    assert "champions" in cells[0] & cells[1]


def test_what_traders_spend_does_not_spread_what_consumers_are_thought_to() -> None:
    consumers, mixed = (fit_model("kinds", state, TODAY).amounts for state in (a_crowd(2000, 1, 1000), both_kinds(500)))
    assert mixed.population_mean == pytest.approx(consumers.population_mean, rel=0.05)
    assert mixed.p == pytest.approx(consumers.p, rel=0.1)
    # All consumers here draw from one distribution, and so do all traders; taken together as they are, q would be near 1.
    assert min(mixed.q, consumers.q) > 50


def test_too_few_traders_are_judged_among_everybody_and_change_nothing_for_consumers() -> None:
    few = both_kinds(ENOUGH_OF_A_KIND // 2)
    market = market_of([sample_of(scored(few, Market()))])
    found = scored(few, market)
    best = found.value_class[found.trader & found.bought]
    assert (best == CLASS_A).mean() > 0.9
    consumers = a_crowd(2000, 1, 1000)
    alone = scored(consumers, market_of([sample_of(scored(consumers, Market()))]))
    rows = few.find(consumers.ids[: consumers.count])
    assert (found.value_class[rows] == alone.value_class).all()
    assert (found.cell[rows] == alone.cell).all()
    assert market.traders.buyers == market.buyers


@pytest.mark.parametrize("traders", [0, 50, 500])
def test_a_market_is_kept_as_it_is(traders: int) -> None:
    state = both_kinds(traders) if traders else a_crowd(2000, 1, 1000)
    market = market_of([sample_of(scored(state, Market()))])
    kept = market_from(market_meta(market))
    first, again = scored(state, market), scored(state, kept)
    assert all((getattr(first, name) == getattr(again, name)).all() for name in ("cell", "value_class", "expected_value_minor"))
    assert (kept.buyers, kept.history_days) == (market.buyers, market.history_days)


def test_slices_gather_to_the_whole() -> None:
    state = both_kinds(300)
    scores, gathering = scored(state, Market()), Gathering()
    for part in np.array_split(state.every_row(), 7):
        gathering.add(score(state, part, Question(TODAY, MODEL, Market())))
    assert market_meta(market_of([gathering.sample()])) == market_meta(market_of([sample_of(scores)]))


# Several workers.


def test_the_market_lies_where_the_models_are_heard_of() -> None:
    assert {partition_for(market_key(number)) for number in range(PARTITION_COUNT)} == {PARTITION}
    assert len({market_key(number) for number in range(PARTITION_COUNT)}) == PARTITION_COUNT


class Workers:
    """Several workers over one bus, with partitions given by hand; each hears what is published, as a follower does."""

    def __init__(self, states: list[CustomerState]) -> None:
        self.bus, self.clock, self.states = MemoryBus(), ReplayClock(datetime(2025, 1, 1, tzinfo=UTC) + timedelta(hours=1)), states
        self.heard: dict[int, int] = {}
        self.generation = 1

    def join(self, *partitions: int) -> Rescoring:
        models = load_shipped_models("groceries")
        worker = Worker(self.bus, self.clock, SegmentationSettings(clock="replay"), models)
        self.open(worker, *partitions)
        return Rescoring(worker, calm_seconds=0)

    def open(self, worker: Worker, *partitions: int) -> None:
        self.generation += 1
        for number in partitions:
            worker.owned[number] = Owned(number, self.states[number], Positions(events_topic_id="id"), generation=self.generation)

    async def round(self, rescoring: Rescoring) -> None:
        """A day passes, and one round of re-scoring is made and told."""
        self.clock.observe(self.clock.now() + timedelta(days=1))
        rounds = rescoring.rounds
        for _ in range(200):
            if rescoring.rounds > rounds:
                break
            await rescoring.tick()
        assert rescoring.rounds > rounds
        await rescoring._worker.tell_market()

    def hear(self, rescoring: Rescoring) -> None:
        records = self.bus.records(SCORING_MODELS, PARTITION)
        rescoring._worker.markets.hear(records[self.heard.get(id(rescoring), 0) :])
        self.heard[id(rescoring)] = len(records)

    def exact(self) -> Market:
        today = int((self.clock.now() - datetime(1970, 1, 1, tzinfo=UTC)).days)
        ask = Question(today, MODEL, Market())
        return market_of([sample_of(score(state, state.every_row(), ask)) for state in self.states])


def a_shop(seed: int = 3, buyers: int = 1500) -> list[CustomerState]:
    return [a_crowd(buyers, seed + number, 1000 * (1 + number), first_id=number * 100_000) for number in range(PARTITION_COUNT)]


def play(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(story())


def test_one_worker_has_the_exact_market_and_two_have_nearly_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(markets_module, "PAUSE_SECONDS", 0.0)

    async def story() -> None:
        shop = Workers(a_shop())
        alone = shop.join(*range(PARTITION_COUNT))
        await shop.round(alone)
        assert market_meta(alone._worker.market) == market_meta(shop.exact())

        one, two = shop.join(0, 1, 2), shop.join(3, 4, 5, 6, 7)
        for _ in range(2):
            for each in (one, two):
                await shop.round(each)
                shop.hear(one)
                shop.hear(two)
        spends = [scored(state, Market()).year_spend_minor for state in shop.states]
        spend = np.concatenate([values[state.purchase_count[: state.count] > 0] for values, state in zip(spends, shop.states, strict=True)])
        for each in (one, two):
            market = each._worker.market
            assert market.buyers == shop.exact().buyers
            assert market.consumers.mean_spend_minor == pytest.approx(shop.exact().consumers.mean_spend_minor, rel=1e-9)
            for share, cut in zip(SHARES, market.consumers.quintiles.spend_minor, strict=True):
                assert np.mean(spend < cut) - 0.005 <= share <= np.mean(spend <= cut) + 0.005

    play(story)


def test_no_worker_judges_by_half_a_market() -> None:
    async def story() -> None:
        shop = Workers(a_shop())
        one, two = shop.join(0, 1, 2), shop.join(3, 4, 5, 6, 7)
        await shop.round(one)
        assert one._worker.market.buyers == 0
        await shop.round(two)
        shop.hear(one)
        shop.hear(two)
        # No day has to pass: what was waited for is there. The round after takes up the model that so many buyers can have.
        for _ in range(50):
            await one.tick()
        assert one.rounds == 3
        assert one._worker.market.buyers == shop.exact().buyers
        for _ in range(50):
            await one.tick()
        assert one.rounds == 3

    play(story)


def test_who_was_judged_by_no_market_at_all_is_judged_again_at_once() -> None:
    async def story() -> None:
        shop = Workers(a_shop(buyers=50))
        alone = shop.join(*range(PARTITION_COUNT))
        alone._worker.models.risk_by_rank_sum = ()
        alone._worker.model = alone._worker.models.shipped
        await shop.round(alone)
        for _ in range(50):
            await alone.tick()
        assert alone.rounds == 2
        classes = [tally.classes() for tally in alone.tallies.values()]
        assert all(sum(each[name]["customers"] for each in classes) > 0 for name in "ABC")

    play(story)


def test_rebuilt_rows_stay_silent_until_two_rounds_have_known_a_whole_market() -> None:
    async def story() -> None:
        shop = Workers(a_shop(buyers=50))
        one, two = shop.join(0, 1, 2, 3), shop.join(4, 5, 6, 7)
        one._worker.owned[0].silent_rounds = 2
        await shop.round(one)
        assert one._worker.owned[0].silent_rounds == 2
        await shop.round(two)
        shop.hear(one)
        for _ in range(50):
            await one.tick()
        assert one._worker.owned[0].silent_rounds == 0

    play(story)


def test_a_partition_that_moves_is_known_all_the_time() -> None:
    async def story() -> None:
        shop = Workers(a_shop())
        one, two = shop.join(*range(PARTITION_COUNT)), shop.join()
        await shop.round(one)
        shop.hear(two)
        for number in (0, 1):
            del one._worker.owned[number]
        shop.open(two._worker, 0, 1)
        for each in (one, two):
            await shop.round(each)
            assert each._worker.market.buyers == shop.exact().buyers

    play(story)


def test_what_an_earlier_owner_still_says_changes_nothing_and_is_written_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(markets_module, "PAUSE_SECONDS", 0.0)

    async def story() -> None:
        shop = Workers(a_shop())
        paused = shop.join(*range(PARTITION_COUNT))
        await shop.round(paused)
        late = message_of(0, Known(sample_of(scored(CustomerState(), Market())), 1), shop.clock.now())
        owner = shop.join(*range(PARTITION_COUNT))
        await shop.round(owner)
        shop.hear(owner)
        await shop.bus.append(SCORING_MODELS, late)
        shop.hear(owner)
        assert owner._worker.markets.known[0].sample.consumers.count > 0
        before = len(shop.bus.records(SCORING_MODELS))
        await owner._worker.tell_market()
        assert len(shop.bus.records(SCORING_MODELS)) == before + 1
        reader = Markets()
        reader.hear(shop.bus.records(SCORING_MODELS))
        assert reader.known[0].sample.consumers.count == owner._worker.markets.known[0].sample.consumers.count

    play(story)


def test_a_market_at_rest_is_published_once_and_a_moving_one_at_a_bounded_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        shop = Workers(a_shop())
        one = shop.join(*range(PARTITION_COUNT))
        await shop.round(one)
        told = len(shop.bus.records(SCORING_MODELS))
        assert told == PARTITION_COUNT
        for _ in range(20):
            await shop.round(one)
        assert len(shop.bus.records(SCORING_MODELS)) == told
        monkeypatch.setattr(markets_module, "PAUSE_SECONDS", 0.0)
        await one._worker.tell_market()
        assert len(shop.bus.records(SCORING_MODELS)) == told + PARTITION_COUNT
        await one._worker.tell_market()
        assert len(shop.bus.records(SCORING_MODELS)) == told + PARTITION_COUNT

    play(story)


def test_a_sample_travels_in_a_small_message_and_only_moves_that_matter_make_one() -> None:
    sample = sample_of(scored(a_crowd(40_000, 5, 3000), Market())).thinned()
    message = message_of(2, Known(sample, 9), datetime(2025, 1, 1, tzinfo=UTC))
    assert message.value is not None
    assert len(message.value) < 64_000
    reader = Markets()
    reader.hear(
        [StoredRecord(0, 0, message.key, message.value), StoredRecord(1, 0, message.key, b"{}"), StoredRecord(2, 0, b"other", b"{}")]
    )
    assert reader.known[2].generation == 9
    assert not has_moved(reader.known[2].sample, sample)
    assert has_moved(sample_of(scored(a_crowd(40_000, 6, 3300), Market())).thinned(), sample)


def test_the_beds_market_is_published(tmp_path: Path) -> None:
    async def story() -> None:
        bed = Bed(tmp_path)
        await bed.start()
        for who in range(30):
            await bed.buy(f"p{who}", who % 5)
        await bed.settle()
        await bed.age(1)
        reader: Any = Markets()
        reader.hear(bed.bus.records(SCORING_MODELS, PARTITION))
        assert sum(known.sample.consumers.count for known in reader.known.values()) == 30
        assert reader.is_whole_with(())
        assert bed.clock.now() > START

    play(story)
