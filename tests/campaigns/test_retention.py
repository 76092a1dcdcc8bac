"""What offers said goes once they are settled; that they were made, and what came of them, stays."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from services.campaigns.api.offers import _report
from services.campaigns.settings import CampaignsSettings
from services.campaigns.store import offers
from shared.clock import ReplayClock
from shared.contracts.topics import SEGMENT_CHANGES
from shared.mongo import in_store
from shared.retained import Retained
from shared.streaming.memory import MemoryBus
from tests.campaigns.world import NOON, World, profile

pytestmark = pytest.mark.anyio


async def some_offers(world: World) -> None:
    """Offers to twelve customers, of which two are still to be delivered."""
    await world.bus.start()
    numbers = {profile(number): number for number in range(12)}
    for number in numbers.values():
        await world.enter(number, "leaving", 1)
    await world.bus.settle()
    for each in world.offers(status="pending")[2:]:
        await world.deliver(each["_id"], numbers[each["customer_id"]], "sent")
    await world.bus.settle()
    assert (len(world.offers()), len(world.offers(status="pending"))) == (12, 2)


def said(world: World) -> set[str]:
    return {each["_id"] for each in world.offers() if each["content"] or each["score"]}


async def test_what_settled_offers_said_goes_and_reports_and_decisions_stay(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.retention.RESTS", 0)
    monkeypatch.setattr("shared.retention.ROUND_RESTS", timedelta(0))
    monkeypatch.setattr("shared.retention.RESTS_AFTER_ROUND", 0)
    world = World(CampaignsSettings(retention_days={Retained.OFFERS: 30}), ReplayClock(NOON), MemoryBus(), world.database)
    await some_offers(world)
    assert len(said(world)) == 12
    world.clock.observe(NOON + timedelta(days=31))
    await world.enter(20, "leaving", 1, at=NOON + timedelta(days=31))
    await world.bus.settle()
    report, offered = await in_store(_report), {each["_id"]: each["status"] for each in world.offers()}
    left = {each["_id"] for each in world.offers() if each["status"] == "pending" or each["decided_at"] > NOON + timedelta(days=1)}
    assert len(left) == 3
    for _ in range(400):
        await world.bus.tick()
        await asyncio.sleep(0.01)
        if said(world) == left:
            break
    # Many rounds later, too, and when the causes come again, nothing else has changed.
    world.bus.redeliver(SEGMENT_CHANGES)
    await world.bus.settle()
    for _ in range(10):
        await world.bus.tick()
        await asyncio.sleep(0.01)
    assert said(world) == left
    assert (await in_store(_report), {each["_id"]: each["status"] for each in world.offers()}) == (report, offered)


async def test_who_goes_on_after_a_death_empties_the_rest_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offers, "RETIRED_AT_ONCE", 1)
    await some_offers(world)
    first = offers.retire(NOON + timedelta(days=1))
    done = sum(next(first) for _ in range(4))
    first.close()
    assert world.database["retention"].find_one({"_id": "offers"})["place"]
    assert done + sum(offers.retire(NOON + timedelta(days=1))) == 10
    assert sum(offers.retire(NOON + timedelta(days=1))) == 0
