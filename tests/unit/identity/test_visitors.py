"""Whose a device is that nobody but visitors used, and whose numbers are whose."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.identity.domain.called import Called
from services.identity.domain.merging import Asked
from services.identity.domain.resolution import Demoted, new_profile_id, resolve
from services.identity.domain.trust import Limit, Rules, Verdict
from tests.unit.identity.test_merging import decide, link, partition, rules_of, split

DEVICE = ("user", "anonymous")
"""By a user one, by a device the other."""


def called(*references: str) -> Called:
    return Called(dict.fromkeys(references, 0))


def login(user: str, device: str) -> Asked:
    """An event names a user and a device."""
    return link(user, device, DEVICE)


def test_a_visitor_is_whoever_logs_in_on_the_device_first_and_a_device_that_is_somebodys_stays_theirs() -> None:
    named = {
        "ann": called("user:ann"),
        "bob": called("user:bob", "anonymous:2"),
        "visitor": called("anonymous:1"),
        "family": called("phone:+1"),
    }
    decisions, groups = decide([login("ann", "visitor"), login("bob", "visitor")], Rules(), named)
    assert rules_of(decisions) == [Verdict.WEAK_REFERENCE]
    assert partition(groups, named) == {frozenset(("ann", "visitor")), frozenset(("bob",)), frozenset(("family",))}
    assert rules_of(decide([login("ann", "bob"), login("ann", "family")], Rules(), named)[0]) == [Verdict.WEAK_REFERENCE] * 2


def test_a_visitor_who_was_split_off_stays_apart_and_too_many_devices_are_refused() -> None:
    named = {"ann": called("user:ann"), "visitor": called("anonymous:1"), "other": called("anonymous:2")}
    split_off = [login("ann", "visitor"), split("ann", "visitor"), login("ann", "visitor")]
    assert rules_of(decide(split_off, Rules(), named)[0]) == [Verdict.SPLIT_BEFORE]
    few = Rules(limits={"anonymous": Limit(1)})
    assert rules_of(decide([login("ann", "visitor"), login("ann", "other")], few, named)[0]) == [Verdict.LIMIT_ANONYMOUS]


@given(st.dictionaries(st.sampled_from("1234"), st.sampled_from("abc")), st.randoms(use_true_random=False))
def test_whose_visitors_devices_were_does_not_depend_on_the_order_of_the_links(logins: dict[str, str], order: Any) -> None:
    """Each device is one user's here; where several log in on one, the first has it."""
    named = {**{user: called(f"user:{user}") for user in "abc"}, **{device: called(f"anonymous:{device}") for device in "1234"}}
    links = [login(user, device) for device, user in logins.items()] * 2
    order.shuffle(links)
    decisions, groups = decide(links, Rules(), named)
    assert rules_of(decisions) == []
    assert partition(groups, "abc") == {frozenset((user, *(device for device, owner in logins.items() if owner == user))) for user in "abc"}


def test_a_customer_has_one_user_of_each_system_and_their_numbers_are_not_one() -> None:
    known, held = {"user:7": "p", "email:a@b.c": "p"}, {"p": called("user:7", "email:a@b.c")}
    shop = resolve(("user:shopify/7", "email:a@b.c"), known, Rules(), held)
    assert (shop.profile, shop.added, shop.demoted) == ("p", ("user:shopify/7",), ())
    assert resolve(("user:shopify/7",), known, Rules(), held).profile == new_profile_id("user:shopify/7")
    known, held = {**known, "user:shopify/7": "p"}, {"p": called("user:7", "email:a@b.c", "user:shopify/7")}
    other = resolve(("user:shopify/8", "email:a@b.c"), known, Rules(), held)
    assert (other.profile, other.demoted) == (new_profile_id("user:shopify/8"), (Demoted("email:a@b.c", Verdict.LIMIT_USER),))


def test_two_numbers_of_one_system_are_two_people_and_of_two_systems_one() -> None:
    named = {"a": called("user:1", "email:x@y.z"), "b": called("user:shopify/1"), "c": called("user:shopify/2", "user:poslog/1")}
    to_b, to_c = link("a", "b", ("email", "user")), link("a", "c", ("email", "user"))
    assert rules_of(decide([to_b], Rules(), named)[0]) == rules_of(decide([to_c], Rules(), named)[0]) == []
    assert rules_of(decide([to_b, to_c], Rules(), named)[0]) == [Verdict.LIMIT_USER]
