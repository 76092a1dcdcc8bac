"""Which profiles are one customer: guards, splits, and what does not depend on the order."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.identity.domain.called import Called
from services.identity.domain.merging import Action, Asked, Decision, Groups, decide_all, groups_after, prejudged
from services.identity.domain.trust import NO_RULES, Limit, Rules, Verdict

NUMBERS = count()
NAMED = {name: Called({f"loyalty_card:{name}": 0}) for name in "abcdefgh"}


def link(one: str, other: str, kinds: tuple[str, ...] = ("loyalty_card", "email"), said: tuple[str, ...] = ()) -> Asked:
    """An event names both."""
    return Asked(f"{one}{other}{next(NUMBERS)}", "event", (one, other), kinds, said=said or kinds)


def request(one: str, other: str) -> Asked:
    """A person says that they are one."""
    return link(one, other, ())


def split(profile: str, *apart: str) -> Asked:
    """A person says that these are somebody else."""
    return Asked(f"{profile}/{next(NUMBERS)}", "event", (profile,), apart=apart)


def decide(asked: Iterable[Asked], rules: Rules = NO_RULES, named: Any = NAMED) -> tuple[list[Decision], Groups]:
    groups = Groups()
    return decide_all(list(asked), groups, named, rules), groups


def partition(groups: Groups, profiles: Iterable[str] = NAMED) -> set[frozenset[str]]:
    return {groups.of(profile) for profile in profiles}


def erasure(profile: str) -> Asked:
    """Somebody asks to be erased."""
    return Asked(f"{profile}!{next(NUMBERS)}", "event", (profile,), is_erasure=True)


def rules_of(decisions: Iterable[Decision]) -> list[Verdict]:
    return [each.rule for each in decisions if each.action is Action.REFUSED]


def test_a_link_makes_one_of_two_and_links_reach_on() -> None:
    _, groups = decide([link("a", "b"), link("c", "d"), link("b", "c")])
    assert groups.of("d") == frozenset("abcd")


def test_what_is_known_is_no_decision() -> None:
    decisions, _ = decide([link("a", "b"), link("b", "a")])
    assert len(decisions) == 1


def test_two_users_are_two_people_and_no_event_makes_them_one_but_an_alias() -> None:
    named = {"a": Called({"user:1": 0, "email:x@y.z": 0}), "b": Called({"user:2": 0})}
    assert rules_of(decide([link("a", "b", ("user", "email"))], Rules(), named)[0]) == [Verdict.LIMIT_USER]
    assert rules_of(decide([link("a", "b", ("user", "user"))], Rules(), named)[0]) == []


def test_two_users_of_two_systems_are_one_person() -> None:
    named = {"a": Called({"user:shopify/1": 0, "email:x@y.z": 0}), "b": Called({"user:erp/1": 0}), "c": Called({"user:erp/2": 0})}
    assert rules_of(decide([link("a", "b", ("user", "email"))], Rules(), named)[0]) == []
    two = link("a", "b", ("user", "user"), said=("user:shopify/", "user:erp/"))
    refused = [Verdict.LIMIT_USER]
    assert rules_of(decide([two, link("a", "c", ("user", "user"), said=("user:shopify/", "user:erp/"))], Rules(), named)[0]) == refused
    assert rules_of(decide([two, link("b", "c", ("user", "user"), said=("user:erp/", "user:erp/"))], Rules(), named)[0]) == []


def test_what_one_of_them_retired_does_not_count_together() -> None:
    rules = Rules(limits={"email": Limit(1)})
    named = {"a": Called({"email:1": 0}), "b": Called({"email:2": 0}, {}, {"email:1": 5}), "c": Called({"email:2": 0})}
    assert rules_of(decide([link("a", "b")], rules, named)[0]) == []
    assert rules_of(decide([link("a", "c")], rules, named)[0]) == [Verdict.LIMIT_EMAIL]


def test_a_limit_of_a_period_counts_what_came_within_it() -> None:
    day = 86_400_000_000
    rules = Rules(limits={"email": Limit(2, days=10)})
    spread = {"a": Called({"email:1": 0, "email:2": 9 * day}), "b": Called({"email:3": 10 * day})}
    close = {"a": Called({"email:1": 0, "email:2": 9 * day}), "b": Called({"email:3": 10 * day - 1})}
    assert rules_of(decide([link("a", "b")], rules, spread)[0]) == []
    assert rules_of(decide([link("a", "b")], rules, close)[0]) == [Verdict.LIMIT_EMAIL]


def test_a_customer_has_only_so_many_profiles() -> None:
    decisions, groups = decide([link("a", "b"), link("b", "c"), request("b", "c")], Rules(profile_limit=2))
    assert rules_of(decisions) == [Verdict.LIMIT_PROFILES, Verdict.LIMIT_PROFILES]
    assert groups.of("a") == frozenset("ab")


@pytest.mark.parametrize(
    ("kinds", "rule"),
    [
        (("loyalty_card", "email"), None),
        (("user", "anonymous"), None),
        (("anonymous", "user"), None),
        (("phone", "anonymous"), Verdict.WEAK_REFERENCE),
        (("anonymous", "anonymous"), Verdict.WEAK_REFERENCE),
        (("phone", "loyalty_card"), Verdict.WEAK_REFERENCE),
    ],
)
def test_only_strong_references_merge_or_ask_whether_a_device_is_a_visitors(kinds: tuple[str, str], rule: Verdict | None) -> None:
    assert prejudged(kinds, Rules()) == rule
    assert prejudged(kinds, Rules(merge_by=frozenset())) == Verdict.MERGES_OFF


def test_a_split_undoes_a_merge_and_no_event_merges_again() -> None:
    decisions, groups = decide([link("a", "b"), split("a", "b"), link("a", "b"), link("b", "c"), link("c", "a")])
    assert rules_of(decisions) == [Verdict.SPLIT_BEFORE, Verdict.SPLIT_BEFORE]
    assert partition(groups, "abc") == {frozenset("a"), frozenset("bc")}


def test_who_is_split_off_leaves_the_others_together_also_where_only_they_linked_them() -> None:
    _, groups = decide([link("a", "b"), link("b", "c"), split("a", "b")])
    assert partition(groups, "abc") == {frozenset("ac"), frozenset("b")}


def test_a_person_may_take_a_split_back_and_then_events_may_merge_again() -> None:
    _, groups = decide([link("a", "b"), split("a", "b"), request("a", "b"), split("b", "a")])
    assert groups.forbid(frozenset("a"), frozenset("b"))
    _, groups = decide([link("a", "b"), split("a", "b"), request("a", "b")])
    assert groups.of("a") == frozenset("ab")
    assert not groups.vetoes


def test_a_split_names_some_of_the_customers_profiles_and_not_all() -> None:
    decisions, _ = decide([split("a", "a"), split("a", "b"), link("a", "b"), split("a", "a", "b")])
    assert rules_of(decisions) == [Verdict.NOT_ITS_PROFILES] * 3


def test_nobody_merges_with_a_profile_that_is_not_there() -> None:
    assert rules_of(decide([request("a", "z"), request("z", "z")])[0]) == [Verdict.UNKNOWN_PROFILE] * 2


def test_an_erasure_takes_the_whole_customer_and_nothing_is_merged_with_it_or_split_from_it() -> None:
    decisions, groups = decide([link("a", "b"), erasure("b"), link("b", "c"), request("c", "a"), split("a", "b"), split("c", "a")])
    assert decisions[1].members == groups.erased == set("ab")
    assert rules_of(decisions) == [Verdict.ERASED] * 4
    assert partition(groups, "abc") == {frozenset("ab"), frozenset("c")}


def test_an_erasure_takes_nobody_who_was_split_off_before() -> None:
    _, groups = decide([link("a", "b"), split("a", "b"), erasure("a"), link("b", "c"), link("a", "a")])
    assert groups.erased == {"a"}
    assert groups.of("b") == frozenset("bc")


PAIRS = st.tuples(*[st.sampled_from(sorted(NAMED))] * 2).filter(lambda pair: pair[0] != pair[1])
LINKS = st.builds(lambda pair: link(*pair), PAIRS)
REQUESTS = st.builds(lambda pair: request(*pair), PAIRS)
SPLITS = st.builds(lambda pair, more: split(pair[0], *sorted({pair[1], *more})), PAIRS, st.sets(st.sampled_from(sorted(NAMED)), max_size=2))
ERASURES = st.builds(erasure, st.sampled_from(sorted(NAMED)))
RULES = st.builds(
    lambda profiles, cards: Rules(limits={"loyalty_card": Limit(cards)}, profile_limit=profiles), st.integers(2, 9), st.integers(1, 9)
)


@given(st.lists(LINKS, max_size=12), st.randoms(use_true_random=False))
def test_without_refusals_any_order_ends_in_the_connected_components(links: list[Asked], random: Any) -> None:
    shuffled = random.sample(links, len(links))
    assert partition(decide(links)[1]) == partition(decide(shuffled)[1])


@given(st.lists(LINKS | REQUESTS | SPLITS | ERASURES, max_size=14), RULES)
def test_decisions_alone_say_who_is_one_customer(asked: list[Asked], rules: Rules) -> None:
    decisions, groups = decide(asked, rules)
    assert partition(groups_after(decisions)) == partition(groups)
    assert (groups_after(decisions).vetoes, groups_after(decisions).erased) == (groups.vetoes, groups.erased)
    assert all(groups.erased.isdisjoint(group) or group <= groups.erased for group in partition(groups))
    assert all(len(group) <= rules.profile_limit for group in partition(groups))
    assert sum(map(len, partition(groups))) == len(NAMED)


@given(st.lists(LINKS | REQUESTS | SPLITS | ERASURES, max_size=14), RULES, st.sets(st.sampled_from(sorted(NAMED)), min_size=1))
def test_the_decisions_about_some_profiles_say_all_about_them(asked: list[Asked], rules: Rules, some: set[str]) -> None:
    decisions, groups = decide(asked, rules)
    about = groups_after(each for each in decisions if each.members & some)
    assert {profile: about.of(profile) for profile in some} == {profile: groups.of(profile) for profile in some}
    assert about.erased & some == groups.erased & some


@given(st.lists(LINKS | REQUESTS | SPLITS, max_size=10), PAIRS)
def test_a_merge_and_the_split_of_what_it_joined_leave_everybody_where_they_were(asked: list[Asked], pair: tuple[str, str]) -> None:
    _, groups = decide(asked)
    before, other = partition(groups), groups.of(pair[1])
    if pair[0] not in other:
        decide_all([request(*pair), split(pair[0], *other)], groups, NAMED, NO_RULES)
        assert partition(groups) == before


@given(st.lists(LINKS | REQUESTS | SPLITS, max_size=14), RULES)
def test_whom_a_person_parted_no_event_joins(asked: list[Asked], rules: Rules) -> None:
    _, groups = decide(asked, rules)
    for group in partition(groups):
        assert not any(pair <= group for pair in groups.vetoes)
