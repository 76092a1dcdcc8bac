"""What is kept no longer than the company has said."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import zip_longest
from typing import Any

import pytest

from services.identity import inactive
from services.identity.domain.customers import microseconds
from services.identity.domain.privacy import Reason
from services.identity.domain.resolution import new_profile_id
from services.identity.settings import IdentitySettings
from services.identity.store import customers, positions, privacy, retention, timeline
from shared import retention as shared_retention
from shared.access import store as audit
from shared.clock import ReplayClock, WallClock
from shared.mongo import in_store
from shared.retained import Retained
from shared.streaming.errors import Stuck
from tests.identity.world import CARD, NOON, World, consent, day, identify, interaction, merge, purchase

pytestmark = pytest.mark.anyio
RULES = IdentitySettings(retention_days={Retained.INTERACTIONS: 30, Retained.OUTCOMES: 30, Retained.UPDATES: 30, Retained.AUDIT: 30})


def texts(database: Any) -> dict[str, bytes]:
    return {each["_id"][7:]: bytes(each["event"]) for each in database["timeline"].find({})}


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


async def test_old_interactions_and_forms_are_emptied_and_purchases_and_young_ones_stay(empty: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("shared.retention.RESTS", 0)
    monkeypatch.setattr("shared.retention.ROUND_RESTS", timedelta(0))
    monkeypatch.setattr("shared.retention.RESTS_AFTER_ROUND", 0)
    monkeypatch.setattr("services.identity.store.timeline.WALKED_AT_ONCE", 2)
    world = await World(RULES, empty).start()
    old = [interaction(f"old-{number}", f"loyalty_card:{number}", words="old words") for number in range(5)]
    nobodys = interaction("nobody", None, words="old words")
    form = identify("form", traits={"name": "Ann"})
    await world.send(*old, nobodys, form, consent("said", True), purchase("old"), purchase("wrong", amount=-1))
    world.clock.observe(day(31))
    await world.send(interaction("young", at=day(31), words="young words"), identify("young-form", at=day(31)))
    emptied = {*(f"old-{number}" for number in range(5)), "nobody", "form", "said"}
    await live_until(world, lambda: {name for name, text in texts(empty).items() if not text} == emptied)
    # Many rounds later, too, nothing else has gone.
    assert {name for name, text in texts(empty).items() if text} == {"young", "young-form", "old"}
    assert timeline.event_under("till/1\x1fold-1") is None
    # What followed from the forms stays, and what was emptied is still known by its name.
    state = customers.load([new_profile_id(CARD)])[new_profile_id(CARD)]
    assert (state.traits["name"].value, len(state.references)) == ("Ann", 2)
    assert len(customers.statements_of([new_profile_id(CARD)])) == 1
    await world.send(old[0], form)
    assert positions.outcomes()["repeated"] == 2
    [noted] = empty["outcomes"].find({})
    assert (noted["event"], noted["reason"], positions.outcomes()["parked"]) == (None, "negative_amount", 1)


async def test_what_is_half_done_is_not_emptied(empty: Any) -> None:
    world = await World(RULES, empty).start()
    with (
        world.failing_write("customers", RuntimeError("dies before it tells"), method="bulk_write", done=False),
        pytest.raises(Stuck),
    ):
        await world.send(identify("form"))
    assert list(texts(empty)) == ["form"]
    assert sum(retention.empty_events(Retained.UPDATES, "customer-updates-v1", day(10_000))) == 0
    assert all(texts(empty).values())
    await world.bus.settle()
    assert sum(retention.empty_events(Retained.UPDATES, "customer-updates-v1", day(10_000))) == 1


async def test_a_worker_that_dies_in_between_is_followed_by_one_that_goes_on_where_it_was(world: World, monkeypatch: Any) -> None:
    monkeypatch.setattr("services.identity.store.timeline.WALKED_AT_ONCE", 1)
    await world.start()
    await world.send(*(interaction(str(number), f"loyalty_card:{number}") for number in range(6)))
    first = retention.empty_events(Retained.INTERACTIONS, "interactions-v1", day(31))
    done = [next(first), next(first), next(first)]
    first.close()
    place = world.database["retention"].find_one({"_id": "interactions"})["place"]
    assert place
    rest = list(retention.empty_events(Retained.INTERACTIONS, "interactions-v1", day(31)))
    assert sum(done) + sum(rest) == 6
    assert world.database["retention"].find_one({"_id": "interactions"})["place"] == ""
    round_again = list(retention.empty_events(Retained.INTERACTIONS, "interactions-v1", day(31)))
    assert (sum(round_again), len(rest) < len(round_again)) == (0, True)


async def test_two_workers_at_once_empty_each_event_once(world: World, monkeypatch: Any) -> None:
    monkeypatch.setattr("services.identity.store.timeline.WALKED_AT_ONCE", 2)
    await world.start()
    await world.send(*(interaction(str(number), f"loyalty_card:{number}") for number in range(1, 9)))
    walks = [retention.empty_events(Retained.INTERACTIONS, "interactions-v1", day(31)) for _ in range(2)]
    assert sum(one + other for one, other in zip_longest(*walks, fillvalue=0)) == 8
    assert not any(texts(world.database).values())


async def test_without_a_rule_everything_stays(world: World) -> None:
    await (await world.start()).send(interaction("1", CARD, words="words"))
    world.clock.observe(NOON + timedelta(days=10_000))
    for _ in range(5):
        await world.bus.tick()
        await asyncio.sleep(0.01)
    assert timeline.event_under("till/1\x1f1")


async def test_old_entries_of_the_audit_log_go_a_portion_a_step(empty: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(audit, "RETIRED_AT_ONCE", 2)
    now = datetime(2026, 6, 1, tzinfo=UTC)
    times = [now - timedelta(days=age) for age in (100, 90, 80, 31, 30, 29, 0)]
    audit.append("identity", [{"_id": audit.id_of(at, "-x"), "at": at, "about": ["somebody"], "who": "key:1"} for at in times])
    wall = ReplayClock(now)
    keeping = shared_retention.Retention("identity", RULES.retention_days, {}, wall)
    before = shared_retention.RETIRED.labels("audit")._value.get()
    left = []
    for _ in range(4):
        await keeping.work()
        left.append(empty["audit"].count_documents({}))
    assert left == [5, 3, 3, 3]
    assert [each["at"] for each in empty["audit"].find({}).sort("_id", 1)] == times[4:]
    assert shared_retention.RETIRED.labels("audit")._value.get() - before == 4
    # It rests after a round, and looks again when the wall's clock has gone on.
    wall.observe(now + timedelta(hours=2))
    await keeping.work()
    assert [each["at"] for each in empty["audit"].find({}).sort("_id", 1)] == times[5:]


def mail(id: str, kind: str, at: datetime) -> dict[str, Any]:
    sent = interaction(id, CARD, kind, at)
    return {**sent, "source": "dear/notifications"}


async def asked(days: int = 20, now: datetime = day(40)) -> int:
    """What one round of the rule asks for."""
    return await in_store(lambda: sum(inactive.ask_for_erasures(ReplayClock(now), WallClock(), now - timedelta(days=days))))


async def test_who_was_not_heard_of_is_to_be_erased_once_and_nobody_else(world: World) -> None:
    await world.start()
    await world.send(purchase("1"), purchase("2", "loyalty_card:2"), purchase("3", "loyalty_card:3"), purchase("4", "loyalty_card:4"))
    world.clock.observe(day(30))
    # One was heard of; two are one customer, of whose one profile something was heard; to one we only wrote.
    await world.send(purchase("5", "loyalty_card:2", at=day(30)), merge("6", "loyalty_card:3", "loyalty_card:4"))
    await world.send(purchase("7", "loyalty_card:4", at=day(30)), mail("8", "EmailSent", day(31)))
    assert await asked() == 1
    [request] = privacy.page("", 10)
    assert (request["customer_id"], request["kind"], request["reason"]) == (new_profile_id(CARD), "erasure", Reason.RETENTION)
    assert request["silent_since"] == microseconds(NOON)
    assert await asked() == 0
    # Another worker, or one that died before the other was done, makes the same one.
    await in_store(privacy.change, request["_id"], state="done")
    assert await asked() == 0
    assert len(privacy.page("", 10)) == 1


@pytest.mark.parametrize(("kind", "count"), [("EmailSent", 1), ("EmailOpened", 0)])
async def test_who_answers_our_mails_is_heard_of_also_when_what_they_say_was_emptied(world: World, kind: str, count: int) -> None:
    await world.start()
    await world.send(purchase("1"))
    world.clock.observe(day(30))
    await world.send(mail("2", kind, day(30)))
    assert await in_store(lambda: sum(retention.empty_events(Retained.INTERACTIONS, "interactions-v1", day(32)))) == 1
    assert await asked() == count


async def test_so_many_requests_wait_at_a_time(world: World, monkeypatch: Any) -> None:
    monkeypatch.setattr(inactive, "WAITING_MAX", 2)
    await world.start()
    await world.send(*(purchase(str(number), f"loyalty_card:{number}") for number in range(1, 5)))
    steps = inactive.ask_for_erasures(ReplayClock(day(400)), WallClock(), day(35))
    assert sum(next(steps) for _ in range(20)) == 2
    for each in privacy.page("", 10):
        privacy.change(each["_id"], state="done")
    assert sum(steps) == 2
