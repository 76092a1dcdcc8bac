"""What is known of a customer does not depend on the order in which it was said."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from functools import reduce
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.identity.domain.customers import (
    CustomerState,
    after_all_said,
    announcement,
    as_published,
    join,
    retired_references,
    seen_as,
    what_it_says,
)
from services.identity.domain.events import SourceEvent, read_event
from tests.identity.world import CARD, NOON, consent, day, identify, purchase

PROFILE = "a" * 32


def read(sent: dict[str, Any]) -> SourceEvent:
    event = read_event(json.dumps(sent).encode(), "USD")
    assert isinstance(event, SourceEvent), event
    return event


def says(sent: dict[str, Any]) -> CustomerState:
    event = read(sent)
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


OLD, NEW = "email:abel.old@example.com", "email:zoe.new@example.com"


def test_the_newest_address_is_published_first_and_one_that_was_retired_not_at_all() -> None:
    told = [identify("1", (CARD, OLD)), identify("2", (CARD, NEW), at=day(1)), purchase("3", OLD, at=day(2))]
    assert as_published(after(*told)).references == (CARD, NEW, OLD)
    told.append(identify("4", (CARD,), at=day(3), retired=[NEW]))
    state = after(*told)
    assert as_published(state).references == (CARD, OLD)
    assert retired_references(state) == (NEW,)
    assert NEW in state.references, "what comes late still finds them by it"
    assert after_all_said(state, NOON) > day(3)
    told.append(identify("5", (CARD, NEW), at=day(4)))
    assert as_published(after(*told)).references == (CARD, NEW, OLD)


def test_of_a_merged_customer_the_newest_word_of_any_profile_counts() -> None:
    """Also of a form that named both, and so is kept under the card."""
    by_card, by_mail = "a" * 32, "b" * 32
    retires = what_it_says(read(identify("2", (OLD,), at=day(2), retired=[OLD])), by_mail, by_mail, (OLD,))
    names = what_it_says(read(identify("3", (CARD, OLD), at=day(3))), by_card, by_card, (CARD,), (OLD,))
    before = what_it_says(read(identify("1", (CARD,))), by_card, by_card, (CARD,))

    def published(*states: CustomerState) -> tuple[str, ...]:
        known = {by_card: replace(reduce(join, states[:-1]), version=1), by_mail: replace(states[-1], version=1)}
        return as_published(seen_as(by_card, 1, known.keys(), known)).references

    assert published(before, retires) == (CARD,)
    assert published(before, names, retires) == (CARD, OLD)
    assert as_published(replace(join(before, names), version=1)).references == (CARD,), "by itself it has no such address"


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
    lambda number, at, traits, zone, references, retired: identify(
        f"i{number}", references, at=at, traits={**traits, "number": number}, time_zone=zone, consents=[], retired=list(retired)
    ),
    st.integers(0, 99),
    MOMENTS,
    st.dictionaries(st.sampled_from("abc"), st.none() | st.integers(0, 2) | st.sampled_from(["x", "y"]), max_size=3),
    st.none() | st.sampled_from(["UTC", "Asia/Bangkok"]),
    st.lists(st.sampled_from([CARD, "email:a@b.c", "phone:+66812345678"]), min_size=1, max_size=3).map(tuple),
    st.sets(st.sampled_from([CARD, "email:a@b.c", "email:never@said.org"])),
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
    assert as_published(after(*shuffled)).references == as_published(after(*history)).references


@given(HISTORIES, HISTORIES, HISTORIES)
def test_any_grouping_ends_in_the_same_state(one: Any, two: Any, three: Any) -> None:
    unique = {sent["id"]: sent for sent in (*one, *two, *three)}
    a, b, c = (after(*(unique[sent["id"]] for sent in part)) for part in (one, two, three))
    assert join(join(a, b), c) == join(a, join(b, c))
    assert join(a, b) == join(b, a)
    assert join(a, a) == a
