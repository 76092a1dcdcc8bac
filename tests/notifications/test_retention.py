"""What messages said goes, and what readers did with them; that they were sent, when and why not stays."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from services.notifications.domain.interactions import Kind, response_to
from services.notifications.store import messages, responses
from services.notifications.store.words import FIELDS
from shared.contracts.topics import OFFERS
from shared.retained import Retained
from tests.notifications.world import NOON, World


@pytest.fixture(autouse=True)
def no_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.retention.RESTS", 0)
    monkeypatch.setattr("shared.retention.ROUND_RESTS", timedelta(0))
    monkeypatch.setattr("shared.retention.RESTS_AFTER_ROUND", 0)


def worded(world: World) -> set[str]:
    """The messages that still say something."""
    return {each["_id"] for each in world.database["messages"].find({}) if any(each.get(name) is not None for name in FIELDS)}


def respond(message_id: str, at: datetime, *, told: bool) -> None:
    message = messages.find(message_id)
    assert message is not None
    response = response_to(message, Kind.OPENED, "email:household-1@example.com", at)
    assert responses.record(response)
    if told:
        responses.reported([response.response_id])


def test_what_finished_messages_said_goes_and_caps_and_reports_stay(new_world: Callable[..., World]) -> None:
    world = new_world(retention_days={Retained.MESSAGES: 1}, marketing_cap_per_week=1)

    async def scenario() -> None:
        await world.bus.start()
        await world.know(1, 2)
        await world.know(3, consent=False)
        await world.offer(1, 2, 3)
        for _ in range(3):
            await world.bus.tick()
        assert sorted(state for state, _ in world.states()) == ["sent", "sent", "suppressed"]
        sent = [each["_id"] for each in world.messages(state="sent")]
        respond(sent[0], NOON, told=True)
        respond(sent[0], NOON + timedelta(days=3), told=True)
        everybody = [each["customer_id"] for each in world.messages()]
        before = (
            sorted(messages.tally(), key=str),
            messages.history(everybody, NOON - timedelta(days=7)),
            sorted(world.outcomes(), key=str),
        )
        assert len(worded(world)) == 3

        world.clock.observe(NOON + timedelta(days=3))
        await world.offer(1, offer_id="young", at=NOON + timedelta(days=3), days=30)
        # The cap of a week holds it back, and it is young.
        young = {each["_id"] for each in world.messages(reason="frequency_cap")}
        assert len(young) == 1
        await live_until(world, lambda: worded(world) == young and world.database["responses"].count_documents({}) == 1)
        # The cap still counts what was sent, and holds the next one back, too.
        await world.offer(1, offer_id="next", at=NOON + timedelta(days=3), days=30)
        assert len(world.messages(reason="frequency_cap")) == 2
        tally = sorted((each for each in messages.tally() if each[2] != "frequency_cap"), key=str)
        outcomes = sorted((each for each in world.outcomes() if each[1] != "frequency_cap"), key=str)
        assert (tally, messages.history(everybody, NOON - timedelta(days=7)), outcomes) == before
        assert [each["at"] for each in world.database["responses"].find({})] == [NOON + timedelta(days=3)]
        # The offer comes again: it was sent, and is not sent again.
        world.bus.redeliver(OFFERS)
        await world.bus.settle()
        assert len(world.messages(state="sent")) == 2
        assert len(worded(world)) == 2

    asyncio.run(scenario())


async def live_until(world: World, done: Callable[[], bool]) -> None:
    """Let the timers run until that is so, and a little longer."""
    for _ in range(400):
        await world.bus.tick()
        await asyncio.sleep(0.01)
        if done():
            break
    for _ in range(10):
        await world.bus.tick()
        await asyncio.sleep(0.01)
    assert done()


def test_what_is_not_told_yet_stays_and_a_worker_that_dies_is_followed_by_one_that_goes_on(
    new_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "RETIRED_AT_ONCE", 1)
    world = new_world()

    async def scenario() -> None:
        await world.bus.start()
        await world.know(1, 2, 3, 4)
        await world.offer(1, 2, 3, 4)
        for _ in range(3):
            await world.bus.tick()

    asyncio.run(scenario())
    every: list[dict[str, Any]] = world.messages()
    untold = every[0]["_id"]
    world.database["messages"].update_one({"_id": untold}, {"$set": {"unreported": True}})
    respond(untold, NOON, told=False)
    later = NOON + timedelta(days=400)
    first = messages.retire(later)
    done = next(first) + next(first)
    first.close()
    assert done + sum(messages.retire(later)) + sum(messages.retire(later)) == 3
    assert worded(world) == {untold}
    assert sum(responses.retire(later)) == 0
    assert sum(messages.retire(later)) == 0
