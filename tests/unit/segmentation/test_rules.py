"""Rules as masks against rules as plain sentences about one customer, and what is refused, with its path."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from services.segmentation.api.segments import _segment
from services.segmentation.domain.models.scoring_model import Market
from services.segmentation.domain.rules import CHOICES, QUANTITIES, View, explain
from services.segmentation.domain.scoring import Question, score
from services.segmentation.domain.segments import SHIPPED, Segment, Segments, memberships
from services.segmentation.domain.state.consents import CONSENTS, consent_bits
from services.segmentation.shipped import load_shipped_models
from shared.contracts.customers import Consent
from shared.problems import Problem
from tests.unit.segmentation.bed import START
from tests.unit.segmentation.histories import FIRST_DAY, Event, applied, events

COMPARE = {"at_least": "__ge__", "above": "__gt__", "at_most": "__le__", "below": "__lt__"}
numbers = st.one_of(st.integers(-2, 400), st.floats(-1, 2, allow_nan=False))
comparisons = st.builds(
    lambda field, bounds, days: {"field": field, **bounds} | ({"within_days": days} if field == "purchase_days" and days else {}),
    st.sampled_from(sorted(QUANTITIES)),
    st.dictionaries(st.sampled_from(sorted(COMPARE)), numbers, min_size=1, max_size=2),
    st.one_of(st.none(), st.integers(1, 512)),
)
choices = st.sampled_from(sorted(CHOICES)).flatmap(
    lambda field: st.lists(st.sampled_from(CHOICES[field][0]), min_size=1, max_size=3).map(lambda values: {"field": field, "in": values})
)
allowed = st.sampled_from(CONSENTS).map(lambda name: {"consent": name})
rules = st.recursive(
    st.one_of(comparisons, choices, allowed),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"all": parts}),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"any": parts}),
        inner.map(lambda part: {"not": part}),
    ),
    max_leaves=8,
)


def view_of(history: list[Event], consents: int = 0) -> View:
    state = applied(history)
    state.consents[: state.count] = consents
    ask = Question(FIRST_DAY + 400, load_shipped_models("groceries").shipped, Market())
    return View(state, score(state, state.every_row(), ask), ask)


def plainly(rule: dict[str, Any], view: View, row: int) -> bool:
    """The rule for one customer, one word after the other."""
    if "all" in rule:
        return all(plainly(each, view, row) for each in rule["all"])
    if "any" in rule:
        return any(plainly(each, view, row) for each in rule["any"])
    if "not" in rule:
        return not plainly(rule["not"], view, row)
    if "consent" in rule:
        return bool(int(view.state.consents[row]) >> CONSENTS.index(rule["consent"]) & 1)
    if "in" in rule:
        names, read = CHOICES[rule["field"]]
        return names[int(read(view)[row])] in rule["in"]
    if QUANTITIES[rule["field"]].buyers_only and not view.state.purchase_count[row]:
        return False
    value = QUANTITIES[rule["field"]].read(view)[row].item()
    if "within_days" in rule:
        last, bits = int(view.state.last_day[row]), view.state.bitmap[row]
        days = range(view.ask.today - rule["within_days"] + 1, view.ask.today + 1)
        value = sum(1 for day in days if last - 512 < day <= last and int(bits[day % 512 // 64]) >> (day % 64) & 1)
    return all(bool(getattr(float(value), COMPARE[word])(float(rule[word]))) for word in COMPARE if word in rule)


@given(rules, events(400), st.integers(0, 2 ** len(CONSENTS) - 1))
def test_masks_say_what_the_words_say(rule: dict[str, Any], history: list[Event], consents: int) -> None:
    view = view_of(history, consents)
    segment = Segment.model_validate({"name": "s", "enters": rule})
    assert segment.enters.holds(view).tolist() == [plainly(rule, view, row) for row in range(view.state.count)]
    if view.state.count:
        assert explain(segment.enters, view)["holds"] == plainly(rule, view, 0)
    assert Segment.model_validate(segment.model_dump(by_alias=True, exclude_none=True)) == segment


@pytest.mark.parametrize(
    ("rule", "at"),
    [
        ({"enters": {"all": [{"field": "risk", "at_least": 0.5}, {"field": "rsik", "at_least": 1}]}}, "enters/all/1"),
        ({"enters": {"not": {"any": [{"field": "risk", "at_most": "much"}]}}}, "enters/not/any/0/at_most"),
        ({"enters": {"field": "risk"}}, "enters"),
        ({"enters": {"field": "rfm_cell", "in": ["champion"]}}, "enters"),
        ({"enters": {"field": "risk", "at_least": 0.5, "atmost": 1}}, "enters/atmost"),
        ({"enters": {"field": "risk", "above": 0.5, "within_days": 3}}, "enters"),
        ({"enters": {"consent": "marketing/fax"}}, "enters"),
        ({"enters": {"all": []}}, "enters/all"),
        ({"enters": {}}, "enters"),
        ({"enters": 7}, "enters"),
        ({}, "enters"),
        ({"enters": {"field": "risk", "above": 0}, "stays": {"field": "risk", "above": float("nan")}}, "stays/above"),
        ({"enters": {"field": "risk", "above": 0}, "colour": "red"}, "colour"),
    ],
)
def test_an_invalid_rule_is_refused_with_its_path(rule: dict[str, Any], at: str) -> None:
    with pytest.raises(Problem) as refused:
        _segment("mine", rule)
    assert refused.value.more["errors"][0]["at"] == at


def test_a_rule_can_be_neither_too_deep_nor_too_long() -> None:
    deep: dict[str, Any] = {"field": "risk", "above": 0}
    for _ in range(9):
        deep = {"not": deep}
    for rule in (deep, {"any": [{"field": "risk", "above": 0}] * 51}):
        with pytest.raises(ValidationError, match="at most 50 conditions, at most 8 deep"):
            Segment.model_validate({"name": "mine", "enters": rule})


def test_who_is_inside_stays_by_a_rule_of_its_own() -> None:
    segment = Segment.model_validate(
        {"name": "mine", "enters": {"field": "purchases", "at_least": 3}, "stays": {"field": "purchases", "at_least": 2}}
    )
    view = view_of([(bytes(15) + bytes([who]), 0, FIRST_DAY * 86_400_000, 100, 1) for who in (1, 1, 1, 2, 2, 3)])
    for inside in (0, 1):
        was = np.full(view.state.count, inside << 13, dtype=np.uint64)
        now = memberships(view, was, Segments({13: segment}))
        assert (now >> np.uint64(13)).tolist() == [1, inside, 0]


def test_consents_are_those_in_force() -> None:
    given = [
        Consent(purpose="marketing", channel="email", granted=True, at=START),
        Consent(purpose="service", channel="sms", granted=False, at=START),
    ]
    assert [name for bit, name in enumerate(CONSENTS) if consent_bits(given) >> bit & 1] == ["marketing/email"]


def test_every_shipped_segment_can_be_explained() -> None:
    view = view_of([(bytes(15) + b"\x01", 0, FIRST_DAY * 86_400_000, 100, 1)])
    for segment in SHIPPED.by_bit.values():
        assert explain(segment.enters, view)["holds"] == bool(segment.enters.holds(view)[0])
