"""Customers that turn out to be one are one to the gate: caps, repeats, suppressions and consents of all their profiles count."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notifications.domain.contacts import Contact, Suppression, profiles_of, suppression_subjects
from services.notifications.store import contacts, suppressions
from tests.notifications.world import NOON, Sink, World, customer_id

pytestmark = pytest.mark.anyio


async def merge(world: World, home: int, other: int, version: int = 2, **said: Any) -> None:
    """Identity publishes that one is part of the other."""
    await world.know(other, version=version, into=home)
    await world.know(home, version=version, members=(other,), **said)


async def two(world: World) -> None:
    await world.bus.start()
    await world.know(1, 2)


async def test_an_offer_to_a_merged_profile_goes_to_the_customer_that_it_is_part_of(world: World, sink: Sink) -> None:
    await two(world)
    await merge(world, 1, 2)
    await world.offer(2)
    assert sink.recipients == ["household-1@example.com"]
    assert [each["customer_id"] for each in world.deliveries()] == [customer_id(2)]
    assert contacts.count() == 1


async def test_what_one_profile_was_sent_counts_against_the_caps_of_all(world: World, sink: Sink) -> None:
    await two(world)
    await world.offer(2, program="welcome", template="welcome")
    await merge(world, 1, 2)
    await world.offer(1)
    assert sorted(world.outcomes(), key=str) == [("sent", None), ("suppressed", "frequency_cap")]
    await world.know(1, 2, version=3)
    await world.offer(1, offer_id="after the split")
    assert sink.recipients == ["household-2@example.com", "household-1@example.com"]


async def test_messages_to_two_profiles_that_leave_at_once_count_each_other(world: World, sink: Sink) -> None:
    await two(world)
    await merge(world, 1, 2)
    await world.offer(1, 2, program="a")
    assert sorted(world.outcomes(), key=str) == [("sent", None), ("suppressed", "repeat")]
    assert len(sink.mails) == 1


async def test_an_open_offer_of_the_same_program_is_not_repeated_to_another_profile(new_world: Any, sink: Sink) -> None:
    world = new_world(email_cap_per_day=9, marketing_cap_per_week=9)
    await two(world)
    await world.offer(2)
    await merge(world, 1, 2)
    await world.offer(1)
    assert sorted(world.outcomes(), key=str) == [("sent", None), ("suppressed", "repeat")]


async def test_who_unsubscribed_under_one_profile_unsubscribed_as_a_whole_until_a_split(world: World, sink: Sink) -> None:
    await two(world)
    suppressions.add(Suppression(f"customer:{customer_id(2)}", "email", "marketing"), "unsubscribed", NOON)
    await merge(world, 1, 2)
    await world.offer(1)
    await world.know(1, 2, version=3)
    await world.offer(1, offer_id="after the split")
    assert world.outcomes() == [("suppressed", "suppression_list"), ("sent", None)]


async def test_a_profile_whose_customer_is_not_known_yet_waits(world: World, sink: Sink) -> None:
    await world.bus.start()
    await world.know(2, version=2, into=1)
    await world.offer(2)
    assert world.states() == [("due", "unknown_customer")]
    await world.know(2, version=3, into=3)
    assert contacts.read([customer_id(2)]) == {}


IDS = st.sampled_from("abcd")


@given(IDS, IDS, st.lists(IDS, max_size=4))
def test_whoever_is_asked_for_all_profiles_are_asked_about(asked: str, home: str, members: Sequence[str]) -> None:
    contact = Contact(home, 1, members=tuple(members))
    found: Collection[str] = profiles_of(asked, contact)
    assert set(found) == {asked, home, *members}
    assert {f"customer:{each}" for each in found} <= set(suppression_subjects(asked, contact))
