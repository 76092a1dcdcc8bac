"""Need segments: found where there are some, the same with every seed and under the same number next month, and small enough to publish."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from scipy.sparse import csr_array

from services.segmentation.domain.arrays import Floats, Integers
from services.segmentation.domain.needs import NO_NEED, NeedModel, assign, fit_needs, matched, model_from
from stack.datasets import load_complete_journey

HALF_LIFE_DAYS = 180


def alike(one: Integers, other: Integers) -> float:
    """The adjusted Rand index of two ways to part the same customers (Hubert and Arabie 1985)."""
    table = np.zeros((one.max() + 1, other.max() + 1))
    np.add.at(table, (one, other), 1)
    both, ours, theirs = ((counts * (counts - 1) / 2).sum() for counts in (table, table.sum(axis=1), table.sum(axis=0)))
    expected = ours * theirs / (len(one) * (len(one) - 1) / 2)
    return float((both - expected) / ((ours + theirs) / 2 - expected))


@lru_cache
def households(until_share: float = 1.0) -> tuple[csr_array, tuple[str, ...]]:
    """Complete Journey: time-decayed lines of each household by product category, up to a share of the year."""
    journey = load_complete_journey()
    categories = tuple(sorted({category for category in journey.product_category if category}))
    place = {category: at for at, category in enumerate(categories)}
    code = np.array([place.get(category or "", -1) for category in journey.product_category])
    basket = np.repeat(np.arange(len(journey.basket["id"])), np.diff(journey.line_start))
    _, row = np.unique(journey.basket["household"], return_inverse=True)
    day = journey.basket["at_seconds"] // 86_400
    end = day.min() + until_share * (day.max() + 1 - day.min())
    column = code[journey.line["product"]]
    seen = (column >= 0) & (day[basket] < end)
    decayed = 0.5 ** ((end - day[basket[seen]]) / HALF_LIFE_DAYS)
    shape = (int(row.max()) + 1, len(categories))
    return csr_array((decayed, (row[basket[seen]], column[seen])), shape=shape), categories


@lru_cache
def fitted(seed: int, size: int) -> NeedModel:
    affinities, categories = households()
    return fit_needs(affinities, categories, seed, sizes=(size,))


def simulated(customers: int = 1200, seed: int = 1) -> tuple[Floats, Integers]:
    """Five needs over twelve categories, plainly apart."""
    chance = np.random.default_rng(seed)
    need = chance.integers(0, 5, customers)
    pace = np.full((5, 12), 0.3)
    for each in range(5):
        pace[each, 2 * each : 2 * each + 2] = 8.0
    return chance.poisson(pace[need] * chance.gamma(2.0, 0.5, (customers, 1)) + 0.05).astype(float), need


LETTERS = tuple("abcdefghijkl")


@pytest.mark.parametrize("size", [4, 5, 6])
def test_segments_of_real_households_do_not_depend_on_the_seed(size: int) -> None:
    affinities, _ = households()
    labels = [assign(affinities, fitted(seed, size)) for seed in range(3)]
    pairs = [alike(labels[one], labels[other]) for one in range(3) for other in range(one)]
    assert np.mean(pairs) >= 0.9
    first = fitted(0, size)
    for seed in (1, 2):
        again = matched(fitted(seed, size), first)
        assert (assign(affinities, again) == labels[0]).mean() >= 0.9
        assert dict(zip(again.numbers, again.names, strict=True)) == dict(zip(first.numbers, first.names, strict=True))


def test_segments_keep_their_numbers_and_names_as_time_passes() -> None:
    earlier, categories = households(0.9)
    before = fit_needs(earlier, categories, 5, sizes=(4,))
    later, _ = households()
    after = fit_needs(later, categories, 6, before, sizes=(4,))
    assert dict(zip(after.numbers, after.names, strict=True)) == dict(zip(before.numbers, before.names, strict=True))
    both = (assign(earlier, before) != NO_NEED) & (assign(later, after) != NO_NEED)
    assert (assign(earlier, before)[both] == assign(later, after)[both]).mean() > 0.75


def test_plain_needs_are_found_and_named_by_what_they_buy_more_of() -> None:
    affinities, need = simulated()
    model = fit_needs(affinities, LETTERS, 3)
    assert len(model.numbers) == 5
    assert alike(assign(affinities, model), need) > 0.95
    assert {frozenset(name.lower().split(", ")) for name in model.names} == {frozenset(pair) for pair in ("ab", "cd", "ef", "gh", "ij")}
    assert sum(model.shares) == pytest.approx(1.0)


def test_the_same_seed_gives_the_same_model_and_sparse_the_same_as_dense() -> None:
    affinities, _ = simulated()
    one, again, sparse = (fit_needs(of, LETTERS, 9, sizes=(5,)) for of in (affinities, affinities, csr_array(affinities)))
    assert one.parameters() == again.parameters()
    assert (assign(affinities, one) == assign(csr_array(affinities), sparse)).all()
    assert one.names == sparse.names


def test_a_model_travels_as_json() -> None:
    affinities, _ = simulated()
    model = fit_needs(affinities, LETTERS, 3, sizes=(5,))
    again = model_from(json.loads(json.dumps(model.parameters())))
    assert (assign(affinities, again) == assign(affinities, model)).all()
    assert (again.numbers, again.names, again.categories) == (model.numbers, model.names, model.categories)


def test_who_bought_nothing_needs_nothing_yet_and_changes_nothing() -> None:
    affinities, _ = simulated()
    model = fit_needs(affinities, LETTERS, 3, sizes=(5,))
    with_strangers = np.vstack([affinities, np.zeros((5, 12))])
    assert (assign(with_strangers, model)[-5:] == NO_NEED).all()
    assert fit_needs(with_strangers, LETTERS, 3, sizes=(5,)).parameters() == model.parameters()


def test_a_new_need_gets_a_new_number_and_the_others_keep_theirs() -> None:
    affinities, need = simulated()
    before = fit_needs(affinities[need < 4], LETTERS, 3, sizes=(4,))
    moved = replace(before, numbers=(7, 3, 5, 1), names=("w", "x", "y", "z"))
    after = fit_needs(affinities, LETTERS, 4, moved, sizes=(5,))
    assert sorted(after.numbers) == [0, 1, 3, 5, 7]
    assert {"w", "x", "y", "z"} < set(after.names)
    old = assign(affinities[need < 4], moved)
    assert (assign(affinities[need < 4], after) == old).mean() > 0.95


def test_categories_may_come_and_go_between_two_models() -> None:
    affinities, _ = simulated()
    before = fit_needs(affinities, LETTERS, 3, sizes=(5,))
    shuffled = [11, *range(11)]
    renamed = ("new", *LETTERS[:11])
    after = fit_needs(affinities[:, shuffled], renamed, 4, before, sizes=(5,))
    assert sorted(after.numbers) == sorted(before.numbers)
    assert (assign(affinities[:, shuffled], after) == assign(affinities, before)).mean() > 0.95


@pytest.mark.parametrize("shape", [(50, 12), (500, 5)])
def test_too_little_to_tell_needs_apart_is_said(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="needs take"):
        fit_needs(np.ones(shape), tuple("abcdefghijkl"[: shape[1]]), 1)


def test_customers_who_are_all_the_same_do_no_harm() -> None:
    model = fit_needs(np.ones((300, 12)), LETTERS, 1)
    assert len(set(assign(np.ones((300, 12)), model))) == 1
