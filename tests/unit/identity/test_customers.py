"""What is known of a customer does not depend on the order in which it was said."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from functools import reduce
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.identity.domain.customers import CustomerState, announcement, as_published, join, what_it_says
from services.identity.domain.events import SourceEvent, read_event
from tests.identity.world import CARD, NOON, consent, day, identify, purchase

PROFILE = "a" * 32


def says(sent: dict[str, Any]) -> CustomerState:
    event = read_event(json.dumps(sent).encode(), "USD")
    assert isinstance(event, SourceEvent), event
    return what_it_says(event, PROFILE, PROFILE, event.references)


def after(*sent: dict[str, Any]) -> CustomerState:
    return replace(reduce(join, map(says, sent)), version=1)


def granted(state: CustomerState) -> list[bool]:
    return [each.granted for each in as_published(state).consents]


def test_the_newest_event_time_wins_not_the_last_arrival() -> None:
    old, new = identify("1", traits={"city": "Bangkok"}, at=day(0)), identify("2", traits={"city": "Chiang Mai"}, at=day(1))
    assert as_published(after(new, old)).traits == {"city": "Chiang Mai"}


def test_a_trait_that_is_not_repeated_stays() -> None:
    assert as_published(after(identify("1", traits={"city": "Bangkok"}), identify("2", at=day(1)))).traits == {"city": "Bangkok"}


def test_a_trait_set_to_null_is_gone() -> None:
    assert as_published(after(identify("1", traits={"city": "Bangkok"}), identify("2", traits={"city": None}, at=day(1)))).traits == {}


def test_a_withdrawal_ends_a_consent_and_a_later_consent_renews_it() -> None:
    assert granted(after(consent("1", True), consent("2", False, at=day(1)))) == [False]
    assert granted(after(consent("3", True, at=day(2)), consent("1", True), consent("2", False, at=day(1)))) == [True]


def test_of_two_statements_at_the_same_time_the_refusal_stands() -> None:
    assert granted(after(consent("1", True), consent("2", False))) == [False]
    assert granted(after(consent("2", False), consent("1", True))) == [False]
    both = [{"purpose": "marketing", "channel": "sms", "granted": said} for said in (False, True)]
    assert granted(after(identify("1", consents=both))) == [False]


def test_wishes_are_published() -> None:
    published = as_published(
        after(identify("1", preferred_channel="line", language="th", time_zone="Asia/Bangkok", customer_type="retailer"))
    )
    assert (published.preferred_channel, published.language, published.time_zone) == ("line", "th", "Asia/Bangkok")
    assert published.customer_type == "retailer"
    assert as_published(after(purchase("1"))).customer_type == "consumer"


def test_a_customer_was_first_seen_at_its_oldest_event() -> None:
    assert as_published(after(purchase("1", at=day(3)), purchase("2", at=day(1)))).first_seen_at == day(1)


def test_more_traits_than_the_contract_takes_are_published_as_the_newest() -> None:
    said = [identify(str(number), traits={f"trait {number}": number}, at=day(number)) for number in range(70)]
    published = as_published(after(*said)).traits
    assert len(published) == 64
    assert "trait 69" in published
    assert "trait 0" not in published


def test_a_version_is_published_under_one_id() -> None:
    state = after(identify("1"))
    assert announcement(state) == announcement(state)
    assert announcement(state).id != announcement(replace(state, version=2)).id


MOMENTS = st.integers(0, 3).map(lambda minutes: NOON + timedelta(minutes=minutes))
IDENTIFIES = st.builds(
    lambda number, at, traits, zone, references: identify(
        f"i{number}", references, at=at, traits={**traits, "number": number}, time_zone=zone, consents=[]
    ),
    st.integers(0, 99),
    MOMENTS,
    st.dictionaries(st.sampled_from("abc"), st.none() | st.integers(0, 2) | st.sampled_from(["x", "y"]), max_size=3),
    st.none() | st.sampled_from(["UTC", "Asia/Bangkok"]),
    st.lists(st.sampled_from([CARD, "email:a@b.c", "phone:+66812345678"]), min_size=1, max_size=3).map(tuple),
)
CONSENTS = st.builds(
    lambda number, at, yes, channel: consent(f"c{number}", yes, at=at, channel=channel),
    st.integers(0, 99),
    MOMENTS,
    st.booleans(),
    st.sampled_from(["email", "sms"]),
)
PURCHASES = st.builds(lambda number, at: purchase(f"p{number}", at=at), st.integers(0, 99), MOMENTS)
HISTORIES = st.lists(IDENTIFIES | CONSENTS | PURCHASES, min_size=1, max_size=8, unique_by=lambda sent: sent["id"])


@given(HISTORIES, st.randoms(use_true_random=False))
def test_any_order_and_any_repetition_ends_in_the_same_state(history: list[dict[str, Any]], random: Any) -> None:
    shuffled = history + random.choices(history, k=3)
    random.shuffle(shuffled)
    assert after(*shuffled) == after(*history)


@given(HISTORIES, HISTORIES, HISTORIES)
def test_any_grouping_ends_in_the_same_state(one: Any, two: Any, three: Any) -> None:
    unique = {sent["id"]: sent for sent in (*one, *two, *three)}
    a, b, c = (after(*(unique[sent["id"]] for sent in part)) for part in (one, two, three))
    assert join(join(a, b), c) == join(a, join(b, c))
    assert join(a, b) == join(b, a)
    assert join(a, a) == a
