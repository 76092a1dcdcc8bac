"""What is kept no longer than the company has said."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from services.identity.domain.privacy import Retained
from services.identity.settings import IdentitySettings
from services.identity.store import positions, timeline
from tests.identity.world import CARD, NOON, World, day, interaction, purchase

pytestmark = pytest.mark.anyio
RULES = IdentitySettings(retention_days={Retained.INTERACTIONS: 30, Retained.OUTCOMES: 30})


async def test_old_interactions_are_emptied_and_purchases_and_young_ones_stay(empty: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.identity.retention.PORTION", 2)
    world = await World(RULES, empty).start()
    old = [interaction(f"old-{number}", words="old words") for number in range(5)]
    await world.send(*old, purchase("old"), purchase("wrong", amount=-1))
    world.clock.observe(day(31))
    await world.send(interaction("young", at=day(31), words="young words"))
    for _ in range(6):
        await world.bus.tick()
    kept = {each["_id"]: bytes(each["event"]) for each in empty["timeline"].find({})}
    assert sorted(len(text) > 0 for text in kept.values()) == [False] * 5 + [True] * 2
    assert timeline.event_under("till/1\x1fold-1") is None
    [profile] = {each["profile"] for each in empty["timeline"].find({})}
    assert {each["_id"][7:] for each in timeline.history([profile], 50, None)} == {"young", "old"}
    # What was emptied is still known by its name.
    await world.send(old[0])
    assert positions.outcomes()["repeated"] == 1


async def test_what_was_parked_long_ago_is_emptied_and_still_counted(empty: Any) -> None:
    world = await World(RULES, empty).start()
    await world.send(purchase("wrong", amount=-1))
    world.clock.observe(NOON + timedelta(days=31))
    await world.bus.tick()
    [noted] = empty["outcomes"].find({})
    assert (noted["event"], noted["reason"], positions.outcomes()["parked"]) == (None, "negative_amount", 1)


async def test_without_a_rule_everything_stays(world: World) -> None:
    await (await world.start()).send(interaction("1", CARD, words="words"))
    world.clock.observe(NOON + timedelta(days=10_000))
    await world.bus.tick()
    assert timeline.event_under("till/1\x1f1")
