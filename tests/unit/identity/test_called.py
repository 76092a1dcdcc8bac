"""The newest address is the one, and one that was retired is nobody's, in whatever order that was said."""

from __future__ import annotations

import json
from functools import reduce
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.identity.domain.called import Called
from services.identity.domain.events import SourceEvent, read_event
from services.identity.domain.graves import Graves
from services.identity.domain.trust import Rules
from services.identity.people import resolve_all
from tests.identity.world import day, identify

OLD, NEW, CARD = "email:abel.old@example.com", "email:zoe.new@example.com", "loyalty_card:1"


def form(at: int, *references: str, retired: tuple[str, ...] = ()) -> Called:
    named = dict.fromkeys(references, at)
    return Called(named, named, dict.fromkeys(retired, at))


def purchase(at: int, reference: str) -> Called:
    return Called({reference: at})


def shown(*said: Called) -> tuple[str, ...]:
    called = reduce(Called.joined, said)
    return called.newest_first(called.in_use())


def test_the_one_that_was_first_named_most_recently_comes_first() -> None:
    assert shown(form(1, OLD), form(2, NEW)) == (NEW, OLD)
    # Buying under the old one again, or naming it again, makes it no newer: it was known all the time.
    assert shown(form(1, OLD), form(2, NEW), purchase(3, OLD), form(4, OLD)) == (NEW, OLD)
    assert shown(form(1, NEW), purchase(2, OLD)) == (OLD, NEW)


def test_kinds_come_in_the_order_of_their_strength_and_ties_by_their_text() -> None:
    named = ("anonymous:1", "line:1", "phone:+661", "user:1", NEW, OLD, CARD)
    assert shown(form(1, *named)) == (CARD, "user:1", OLD, NEW, "phone:+661", "line:1", "anonymous:1")


@pytest.mark.parametrize(
    ("said", "in_use"),
    [
        ((form(1, OLD), form(2, CARD, retired=(OLD,))), (CARD,)),
        ((form(2, OLD), form(2, CARD, retired=(OLD,))), (CARD,)),
        ((form(1, OLD, retired=(OLD,)),), ()),
        ((form(1, OLD), form(2, CARD, retired=(OLD,)), purchase(3, OLD)), (CARD,)),
        ((form(1, OLD), form(2, CARD, retired=(OLD,)), form(3, OLD)), (CARD, OLD)),
        ((purchase(5, OLD), form(2, CARD, retired=(OLD,))), (CARD,)),
    ],
    ids=["retired", "of the same time", "at once", "bought under again", "named again", "never named by a form"],
)
def test_the_newest_word_of_a_form_says_whether_it_is_theirs(said: tuple[Called, ...], in_use: tuple[str, ...]) -> None:
    assert {shown(*some) for some in permutations(said)} == {in_use}


def test_one_that_was_taken_back_counts_from_then() -> None:
    said = (form(1, OLD), form(2, NEW), form(3, CARD, retired=(OLD,)), form(4, OLD))
    assert shown(*said) == (CARD, OLD, NEW)


REFERENCES = st.lists(st.sampled_from([OLD, NEW, CARD]), max_size=3).map(tuple)
FORMS = st.builds(lambda at, named, retired: form(at, *named, retired=retired), st.integers(0, 4), REFERENCES, REFERENCES)
SAYINGS = FORMS | st.builds(purchase, st.integers(0, 4), st.sampled_from([OLD, NEW, CARD]))


@given(st.lists(SAYINGS, min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_neither_order_nor_repetition_matters(said: list[Called], random: object) -> None:
    shuffled = said + random.choices(said, k=3)  # type: ignore[attr-defined]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert reduce(Called.joined, shuffled) == reduce(Called.joined, said)


@given(st.lists(FORMS, min_size=1, max_size=8))
def test_what_is_shown_follows_from_the_newest_words(said: list[Called]) -> None:
    """Against the plain definition."""
    expected = set()
    for reference in (OLD, NEW, CARD):
        words = [(at, False) for each in said for name, at in each.said.items() if name == reference]
        words += [(at, True) for each in said for name, at in each.retired.items() if name == reference]
        is_named = any(reference in each.since for each in said)
        if is_named and not max(words)[1]:
            expected.add(reference)
    assert set(shown(*said)) == expected


def events(*sent: dict[str, Any]) -> list[SourceEvent]:
    found = [read_event(json.dumps(each).encode(), "USD") for each in sent]
    return [each for each in found if isinstance(each, SourceEvent)]


def test_within_a_batch_each_event_knows_what_those_before_it_retired_or_took_back() -> None:
    five = [f"email:{number}@example.com" for number in range(5)]
    known, named = dict.fromkeys((CARD, *five), "p"), dict.fromkeys((CARD, *five), 0)
    retires, adds = identify("1", (CARD,), at=day(1), retired=five[:1]), identify("2", (CARD, NEW), at=day(2))
    takes_back = identify("3", (CARD, five[0]), at=day(2))

    def added(*sent: dict[str, Any]) -> dict[str, str]:
        return resolve_all(events(*sent), known, Rules(), {"p": Called(named)}, Graves())[1]

    assert added(adds) == {}
    assert added(retires, adds) == {NEW: "p"}
    assert added(retires, takes_back, adds) == {}
