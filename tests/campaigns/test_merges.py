"""Customers that turn out to be one: their points, offers and holdouts follow, and come apart again with them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.campaigns.api.loyalty import _balances
from services.campaigns.domain.holdout import holdout
from services.campaigns.settings import CampaignsSettings
from services.campaigns.store import customers, ledger, offers
from shared.clock import ReplayClock
from shared.contracts.topics import CUSTOMERS, SEGMENT_CHANGES
from shared.mongo import connect, disconnect
from shared.streaming.memory import MemoryBus
from tests.campaigns.test_offering import is_treated
from tests.campaigns.world import NOON, World, bought, profile

pytestmark = pytest.mark.anyio
ONE, OTHER, THIRD = [number for number in range(200) if is_treated(number)][:3]


async def merge(world: World, home: int, other: int, version: int) -> None:
    """Identity publishes that one is part of the other; their partitions may be read in any order."""
    await world.know(other, version=version, into=home)
    await world.know(home, version=version, members=[other])
    await world.bus.settle()


async def split(world: World, *numbers: int, version: int) -> None:
    for number in numbers:
        await world.know(number, version=version)
    await world.bus.settle()


async def test_balances_are_summed_while_two_are_one_and_no_entry_moves(world: World) -> None:
    await world.bus.start()
    for number in (ONE, OTHER):
        await world.identity.tell(number, bought(f"p{number}", 1000))
    await merge(world, ONE, OTHER, 2)
    both = [profile(ONE), profile(OTHER)]
    assert _balances(both) == dict.fromkeys(both, 20)
    assert ledger.summary(customers.all_owners()).liability_points == 20
    await world.identity.tell(OTHER, bought("later", 500))
    await world.bus.settle()
    assert world.posted()[-1]["customer_id"] == profile(ONE)
    await split(world, ONE, OTHER, version=3)
    assert _balances(both) == {profile(ONE): 10, profile(OTHER): 15}


async def test_an_offer_to_a_member_cools_the_program_down_for_the_whole_customer(world: World) -> None:
    await world.bus.start()
    await world.enter(OTHER, "leaving", 1)
    await world.bus.settle()
    await merge(world, ONE, OTHER, 2)
    await world.enter(ONE, "leaving", 1)
    await world.enter(OTHER, "leaving", 2)
    await world.bus.settle()
    assert [offer["customer_id"] for offer in world.offers(program="win_back")] == [profile(OTHER)]
    assert {row[:2] for row in offers.skip_counts()} == {("win_back", "cooling_down")}
    shown = offers.page(customers.members([profile(ONE)])[profile(ONE)], None, 10)
    assert {offer["customer_id"] for offer in shown if offer["program"] == "win_back"} == {profile(OTHER)}
    await split(world, ONE, OTHER, version=3)
    await world.enter(ONE, "leaving", 3)
    await world.bus.settle()
    assert {offer["customer_id"] for offer in world.offers(program="win_back")} == {profile(ONE), profile(OTHER)}


async def test_a_cause_told_again_after_a_merge_or_a_split_has_the_offer_that_it_had(world: World) -> None:
    await world.bus.start()
    await world.enter(OTHER, "leaving", 1)
    await world.bus.settle()
    await merge(world, ONE, OTHER, 2)
    world.bus.redeliver(SEGMENT_CHANGES)
    await world.bus.settle()
    await split(world, ONE, OTHER, version=3)
    world.bus.redeliver(SEGMENT_CHANGES)
    await world.bus.settle()
    assert len(world.offers(program="win_back")) == 1
    assert len({each["offer_id"] for each in world.published() if each["program"] == "win_back"}) == 1


async def test_a_cause_of_a_member_is_an_offer_to_the_customer_and_its_holdout_holds(world: World) -> None:
    held_out = next(number for number in range(1000) if holdout("win_back", 0.1, profile(number)))
    await world.bus.start()
    await merge(world, held_out, OTHER, 2)
    await world.enter(OTHER, "leaving", 1)
    await world.bus.settle()
    (offer,) = world.offers(program="win_back")
    assert (offer["customer_id"], offer["status"]) == (profile(held_out), "held_out")


async def test_who_is_part_of_another_is_not_welcomed_nor_when_it_comes_back(world: World) -> None:
    await world.bus.start()
    await world.know(OTHER, into=ONE)
    await world.bus.settle()
    await split(world, OTHER, version=2)
    assert world.offers(program="welcome") == []


async def test_a_customer_merged_twice_is_found_whichever_was_read_first(world: World) -> None:
    await world.bus.start()
    await world.know(THIRD, version=3, into=OTHER)
    await world.know(OTHER, version=2, into=ONE)
    await world.bus.settle()
    assert customers.homes([profile(THIRD), profile(OTHER), profile(9999)]) == {
        profile(THIRD): profile(ONE), profile(OTHER): profile(ONE), profile(9999): profile(9999),
    }  # fmt: skip


STEPS = st.lists(st.sampled_from(["merge", "split", "buy", "enter"]), min_size=1, max_size=8)


async def live_through(steps: list[str], again: list[int], database: Any) -> Any:
    """Play the steps, with topics delivered again after some of them; what is left."""
    database.client.drop_database("campaigns")
    world = World(CampaignsSettings(), ReplayClock(NOON), MemoryBus(), database)
    await world.bus.start()
    for number, step in enumerate(steps, 2):
        match step:
            case "merge":
                await merge(world, ONE, OTHER, number)
            case "split":
                await split(world, ONE, OTHER, version=number)
            case "buy":
                await world.identity.tell(OTHER, bought(f"p{number}", 1000))
            case "enter":
                await world.enter(OTHER, "leaving", number)
        await world.bus.settle()
        if number in again:
            for topic in (CUSTOMERS, SEGMENT_CHANGES):
                world.bus.redeliver(topic)
            await world.bus.settle()
    both = [profile(ONE), profile(OTHER)]
    kept = {each["_id"]: (each["customer_id"], each["status"]) for each in world.offers()}
    return _balances(both), customers.members(both), kept


@settings(max_examples=8, suppress_health_check=list(HealthCheck))
@given(STEPS, st.lists(st.integers(2, 9), max_size=3))
def test_redeliveries_at_any_time_end_where_a_clean_run_ends(database: str, steps: list[str], again: list[int]) -> None:
    client = connect("campaigns", database)
    try:
        clean = asyncio.run(live_through(steps, [], client["campaigns"]))
        assert asyncio.run(live_through(steps, again, client["campaigns"])) == clean
    finally:
        disconnect("campaigns")
