"""Points are money: one entry per cause, whatever is repeated, lost, reordered or raced."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from services.campaigns.audit import LedgerAudit
from services.campaigns.handlers.loyalty import Posting
from services.campaigns.handlers.reading import read_purchases
from services.campaigns.metrics import LEDGER_IMBALANCE
from services.campaigns.store import customers, ledger, prepare, programs
from shared.contracts.envelope import Event
from shared.contracts.interactions import InteractionRecorded
from shared.contracts.offers import PointsPosted
from shared.contracts.topics import CUSTOMER_EVENTS, LOYALTY
from shared.streaming.memory import MemoryBus
from shared.streaming.records import Message
from tests.campaigns.world import NOON, World, bought, profile, refunded

pytestmark = pytest.mark.anyio


def balance(world: World, number: int) -> int:
    return sum(entry["points"] for entry in world.entries(profile_id=profile(number)))


async def test_a_purchase_earns_a_point_for_each_whole_unit_and_says_so(world: World) -> None:
    await world.bus.start()
    await world.identity.tell(1, bought("p1", 1999), bought("p2", 99))
    await world.bus.settle()
    assert balance(world, 1) == 19
    assert len(world.entries()) == 2
    events = [Event[PointsPosted].model_validate_json(record.value or b"") for record in world.bus.records(LOYALTY)]
    assert {(event.data.cause_id, event.data.points, event.data.kind) for event in events} == {("p1", 19, "earned"), ("p2", 0, "earned")}
    assert {record.key for record in world.bus.records(LOYALTY)} == {profile(1).encode()}


async def test_a_batch_delivered_again_adds_no_points_and_repeats_its_news(world: World) -> None:
    await world.bus.start()
    await world.identity.tell(1, bought("p1", 1000), refunded("r1", 250))
    await world.bus.settle()
    world.bus.redeliver(CUSTOMER_EVENTS)
    await world.bus.settle()
    assert balance(world, 1) == 8
    assert len(world.entries()) == 2
    ids = [event["id"] for event in world.bus.events(LOYALTY)]
    assert len(ids) == 4
    assert len(set(ids)) == 2


async def test_an_entry_told_again_is_told_as_it_stands_whatever_became_of_its_rule(world: World) -> None:
    await world.bus.start()
    await world.identity.tell(1, bought("p1", 1000))
    await world.bus.settle()
    (rule,) = (program for program in programs.every_version() if program.earning)
    dearer = rule.earning.model_copy(update={"minor_per_point": 500})
    programs.add(rule.model_copy(update={"version": 2, "earning": dearer}), NOON)
    world.bus.redeliver(CUSTOMER_EVENTS)
    await world.bus.settle()
    assert [posted["points"] for posted in world.posted()] == [10, 10]


async def test_a_crash_between_entry_and_news_loses_neither(world: World) -> None:
    await world.bus.start()
    world.bus.fail_publishes(3, LOYALTY)
    await world.identity.tell(1, bought("p1", 1000), bought("p2", 500))
    await world.bus.settle()
    assert balance(world, 1) == 15
    assert sorted(posted["cause_id"] for posted in world.posted()) == ["p1", "p2"]


async def test_news_that_was_sent_in_part_is_repeated_whole(world: World) -> None:
    await world.bus.start()
    world.bus.fail_publishes(1, LOYALTY, sent_first=1)
    await world.identity.tell(1, bought("p1", 1000), bought("p2", 500))
    await world.bus.settle()
    assert [posted["cause_id"] for posted in world.posted()] == ["p1", "p1", "p2"]
    assert balance(world, 1) == 15


async def test_a_refund_may_come_before_its_purchase(world: World) -> None:
    await world.bus.start()
    await world.identity.tell(1, refunded("r1", 399, NOON + timedelta(days=1)))
    await world.bus.settle()
    assert balance(world, 1) == -3
    await world.identity.tell(1, bought("p1", 1000))
    await world.bus.settle()
    assert balance(world, 1) == 7


async def test_workers_that_race_for_a_cause_leave_one_entry(world: World) -> None:
    await world.bus.start()
    messages = await world.identity.tell(1, *(bought(f"p{number}", 100 * number) for number in range(50)))
    purchases, _ = read_purchases(world.bus.records(CUSTOMER_EVENTS))
    postings = [Posting(MemoryBus(), world.clock) for _ in range(4)]
    await asyncio.gather(*(posting.post(purchases[::step]) for posting, step in zip(postings, (1, -1, 1, -1), strict=True)))
    assert len(world.entries()) == len(messages) == 50
    assert balance(world, 1) == sum(range(50))


async def test_interactions_earn_nothing_even_when_they_mention_purchases(world: World) -> None:
    await world.bus.start()
    mention = InteractionRecorded(reference=None, kind="CouponRedeemed", properties={"note": "dear.PurchaseRecorded"})
    await world.identity.tell(1, ("i1", mention, NOON), bought("p1", 100))
    await world.bus.settle()
    assert [entry["cause_id"] for entry in world.entries()] == ["p1"]


async def test_what_cannot_be_read_is_parked_and_its_neighbours_pass(world: World) -> None:
    await world.bus.start()
    (good,) = await world.identity.tell(1, bought("p1", 100), store=False)
    key = profile(1).encode()
    negative = (good.value or b"").replace(b'"amount_minor":100', b'"amount_minor":-100').replace(b'"p1"', b'"p2"')
    stranger = (good.value or b"").replace(b'"p1"', b'"p3"')
    poison = [Message(key, b"{"), Message(key, b"\xff\xfe"), Message(key, None), Message(key, negative), Message(b"nobody", stranger)]
    await world.bus.publish(CUSTOMER_EVENTS, poison)
    await world.identity.tell(1, bought("p4", 200))
    await world.bus.settle()
    assert sorted(entry["cause_id"] for entry in world.entries()) == ["p1", "p4"]
    assert [parked["reason"] for parked in world.bus.parked()] == ["invalid"] * 5


async def test_points_of_a_member_are_told_to_its_customer_and_stay_with_its_profile(world: World) -> None:
    await world.bus.start()
    await world.know(1, version=2, members=[2])
    await world.bus.settle()
    await world.identity.tell(2, bought("p1", 300))
    await world.bus.settle()
    (posted,) = world.posted()
    assert (posted["customer_id"], posted["profile_id"]) == (profile(1), profile(2))
    assert balance(world, 2) == 3
    assert ledger.summary(customers.all_owners()).ledger_sum == 3
    await world.know(1, version=3)
    await world.bus.settle()
    assert customers.all_owners() == {}


async def test_a_balance_is_the_sum_of_its_entries_both_ways_of_reading(world: World) -> None:
    await world.bus.start()
    for number in range(30):
        await world.identity.tell(number, bought(f"p{number}", 100 * number), refunded(f"r{number}", 1000))
    await world.bus.settle()
    wanted = [profile(number) for number in range(30)]
    expected = {profile(number): number - 10 for number in range(30)}
    assert ledger.balances(wanted, known_profiles=30) == expected
    assert ledger.balances(wanted[:3], known_profiles=1_000) == {each: expected[each] for each in wanted[:3]}
    summary = ledger.summary({})
    assert (summary.entries, summary.ledger_sum) == (60, sum(expected.values()))
    assert summary.liability_points == sum(range(20))
    assert summary.debt_points == sum(range(11))
    assert summary.by_kind == {"earned": sum(range(30)), "reversed": -300}


async def test_the_audit_finds_points_that_their_cause_does_not_explain(world: World) -> None:
    await world.bus.start()
    await world.identity.tell(1, bought("p1", 1000), bought("p2", 2000))
    await world.bus.settle()
    audit = LedgerAudit(point_value_minor=1)

    async def a_whole_round() -> float:
        await audit.check_some()
        await audit.check_some()
        return float(LEDGER_IMBALANCE._value.get())

    assert await a_whole_round() == 0
    world.database["ledger"].update_one({"cause_id": "p1"}, {"$inc": {"points": 7}})
    assert await a_whole_round() >= 7
    world.database["ledger"].update_one({"cause_id": "p1"}, {"$inc": {"points": -7}})
    assert await a_whole_round() == 0
    copy = world.entries(cause_id="p2")[0]
    world.database["ledger"].insert_one({**copy, "_id": "smuggled"})
    assert await a_whole_round() >= 20


def test_preparing_twice_is_harmless(world: World) -> None:
    prepare()
    prepare()
