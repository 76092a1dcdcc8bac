"""Each cause is decided once, held out is held out on every path, and the report partitions."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from itertools import permutations

import pytest

from services.campaigns.api.offers import _report
from services.campaigns.domain.holdout import holdout
from services.campaigns.handlers.offers import Offering, on_segment_changes
from services.campaigns.store import customers, offers
from shared.contracts.envelope import Event
from shared.contracts.offers import OfferDecided
from shared.contracts.topics import CUSTOMERS, DELIVERIES, OFFERS, SEGMENT_CHANGES
from shared.streaming.memory import MemoryBus
from shared.streaming.partitions import partition_for
from shared.streaming.records import Batch, Message
from tests.campaigns.world import NOON, SOME_SCORES, World, profile

pytestmark = pytest.mark.anyio


def is_treated(number: int) -> bool:
    return not any(holdout(program, share, profile(number)) for program, share in (("welcome", 0.05), ("win_back", 0.1)))


TREATED = next(number for number in range(100) if is_treated(number))


async def test_a_newly_known_customer_is_welcomed_once(world: World) -> None:
    await world.bus.start()
    await world.know(TREATED)
    await world.know(TREATED, version=2)
    await world.bus.settle()
    await world.know(TREATED, version=3)
    await world.bus.settle()
    world.bus.redeliver(CUSTOMERS)
    await world.bus.settle()
    (offer,) = world.offers()
    assert (offer["program"], offer["status"]) == ("welcome", "pending")
    assert {event["id"] for event in world.bus.events(OFFERS)} == {world.bus.events(OFFERS)[0]["id"]}
    (record, *_) = world.bus.records(OFFERS)
    assert record.key == profile(TREATED).encode()
    assert Event[OfferDecided].model_validate_json(record.value or b"").data.offer_id == offer["_id"]


async def test_a_welcome_keeps_the_scores_that_were_told_before_the_customer_and_later_ones_are_not_kept(world: World) -> None:
    await world.bus.start()
    await world.score(TREATED)
    await world.bus.settle()
    await world.know(TREATED)
    await world.bus.settle()
    (offer,) = world.offers(program="welcome")
    assert offer["score"]["risk"] == SOME_SCORES.risk
    assert [kept["_id"] for kept in world.database["scores"].find()] == [profile(TREATED)]
    world.database["scores"].delete_many({})
    await world.score(TREATED)
    await world.bus.settle()
    assert list(world.database["scores"].find()) == []


async def test_a_customer_known_for_long_is_not_welcomed(world: World) -> None:
    await world.bus.start()
    await world.know(TREATED, first_seen_at=NOON - timedelta(days=31))
    await world.bus.settle()
    assert world.offers() == []
    assert customers.known([profile(TREATED)]) == {profile(TREATED)}


async def test_a_new_version_of_the_welcome_welcomes_nobody_again(world: World) -> None:
    await world.bus.start()
    await world.know(TREATED)
    await world.bus.settle()
    definition = world.database["programs"].find_one({"_id": "welcome@1"})["definition"]
    new = {**definition, "version": 2}
    world.database["programs"].insert_one({"_id": "welcome@2", "name": "welcome", "version": 2, "definition": new, "created_at": NOON})
    world.database["customers"].delete_many({})
    world.bus.redeliver(CUSTOMERS)
    await world.bus.settle()
    assert [offer["program_version"] for offer in world.offers()] == [1]


async def test_a_customer_who_is_only_judged_otherwise_is_offered_nothing(world: World) -> None:
    await world.bus.start()
    await world.enter(TREATED, "leaving", 1, cause="model")
    await world.bus.settle()
    assert world.offers() == []
    await world.enter(TREATED, "leaving", 2, cause="time")
    await world.bus.settle()
    assert [offer["program"] for offer in world.offers()] == ["win_back"]


@pytest.mark.parametrize("segment", ["leaving", "falling_spend"])
async def test_entering_a_segment_starts_a_win_back_with_the_scores_of_that_moment(world: World, segment: str) -> None:
    await world.bus.start()
    await world.enter(TREATED, segment, 1)
    await world.bus.settle()
    (offer,) = world.offers()
    assert (offer["program"], offer["customer_id"]) == ("win_back", profile(TREATED))
    assert offer["score"]["risk_band"] == "leaving"
    assert world.published()[0]["content"] == {"discount_percent": 15}


async def test_leaving_a_segment_or_entering_another_starts_nothing(world: World) -> None:
    await world.bus.start()
    await world.leave(TREATED, "leaving", 1)
    await world.enter(TREATED, "champions", 2)
    await world.bus.settle()
    assert world.offers() == []


async def test_a_customer_in_cooldown_is_not_offered_again_and_the_reason_is_kept(world: World) -> None:
    await world.bus.start()
    await world.enter(TREATED, "leaving", 1)
    await world.enter(TREATED, "falling_spend", 2)
    await world.bus.settle()
    await world.enter(TREATED, "leaving", 3, at=NOON + timedelta(days=89))
    await world.bus.settle()
    assert len(world.offers()) == 1
    await world.enter(TREATED, "leaving", 4, at=NOON + timedelta(days=90))
    await world.bus.settle()
    world.bus.redeliver(SEGMENT_CHANGES)
    await world.bus.settle()
    assert len(world.offers()) == 2
    assert offers.skip_counts() == [("win_back", "cooling_down", 2)]


async def test_the_first_causes_of_a_replayed_batch_are_not_old_because_its_last_are_new(world: World) -> None:
    await world.bus.start()
    for day in range(0, 400, 100):
        await world.enter(TREATED, "leaving", 1 + day, at=NOON + timedelta(days=day))
    await world.bus.settle()
    assert sorted(offer["decided_at"] for offer in world.offers()) == [NOON + timedelta(days=day) for day in range(0, 400, 100)]


async def test_a_cause_that_was_skipped_stays_skipped_when_it_comes_again_after_the_cooldown(world: World) -> None:
    await world.bus.start()
    await world.enter(TREATED, "leaving", 1)
    await world.enter(TREATED, "falling_spend", 2, at=NOON + timedelta(days=89))
    await world.bus.settle()
    world.clock.observe(NOON + timedelta(days=91))
    world.bus.redeliver(SEGMENT_CHANGES)
    await world.bus.settle()
    assert len(world.offers()) == 1
    assert offers.skip_counts() == [("win_back", "cooling_down", 1)]


async def test_who_is_held_out_is_held_out_on_every_path(world: World) -> None:
    await world.bus.start()
    everyone = range(150)
    for number in everyone:
        await world.know(number)
        await world.enter(number, "leaving" if number % 2 else "falling_spend", 1)
    await world.bus.settle()
    for topic in (CUSTOMERS, SEGMENT_CHANGES):
        world.bus.redeliver(topic)
    await world.bus.settle()
    await world.bus.stop()
    await world.bus.recreate(OFFERS)
    await world.bus.start()
    told = {(offer["program"], offer["customer_id"]) for offer in world.published()}
    for program, share in (("welcome", 0.05), ("win_back", 0.1)):
        expected = {profile(number) for number in everyone if holdout(program, share, profile(number))}
        assert expected
        assert {offer["customer_id"] for offer in world.offers(program=program, status="held_out")} == expected
        assert {customer for name, customer in told if name == program} == {profile(number) for number in everyone} - expected


async def test_a_crash_between_claim_and_news_loses_neither(world: World) -> None:
    await world.bus.start()
    world.bus.fail_publishes(2, OFFERS)
    await world.know(TREATED)
    await world.bus.settle()
    assert [offer["offer_id"] for offer in world.published()] == [world.offers()[0]["_id"]]


async def test_workers_that_race_for_a_cause_make_one_offer(world: World) -> None:
    await world.bus.start()
    for number in range(40):
        await world.enter(number, "leaving", 1)
    partition = partition_for(profile(TREATED).encode())
    records = world.bus.records(SEGMENT_CHANGES, partition)
    batch = Batch(SEGMENT_CHANGES.name, "id", partition, records)
    buses = [MemoryBus() for _ in range(4)]
    await asyncio.gather(*(on_segment_changes(batch, Offering(bus, world.clock)) for bus in buses))
    assert len(world.offers()) == len(records)
    assert len({event["id"] for bus in buses for event in bus.events(OFFERS)}) == len(world.offers(status="pending"))


@pytest.mark.parametrize("order", list(permutations(["sent", "unknown", "suppressed"])))
async def test_the_first_outcome_is_final(world: World, order: tuple[str, ...]) -> None:
    await world.bus.start()
    await world.enter(TREATED, "leaving", 1)
    await world.bus.settle()
    (offer,) = world.offers()
    for outcome in order:
        await world.deliver(offer["_id"], TREATED, outcome, reason="no_consent" if outcome == "suppressed" else None)
        await world.bus.settle()
    world.bus.redeliver(DELIVERIES)
    world.bus.redeliver(SEGMENT_CHANGES)
    await world.bus.settle()
    assert [offer["status"] for offer in world.offers()] == [order[0]]
    assert len(world.published()) == 1


async def test_an_outcome_that_comes_before_its_offer_stays_and_nothing_is_sent(world: World) -> None:
    await world.bus.start()
    await world.enter(TREATED, "leaving", 1)
    await world.bus.settle()
    (offer,) = world.offers()
    world.database["offers"].delete_many({})  # As after a restored backup.
    await world.deliver(offer["_id"], TREATED, "sent")
    await world.bus.settle()
    world.bus.redeliver(SEGMENT_CHANGES)
    await world.bus.settle()
    assert [(each["_id"], each["status"]) for each in world.offers()] == [(offer["_id"], "sent")]
    assert len(world.published()) == 1


async def test_no_outcome_moves_an_offer_that_was_held_out(world: World) -> None:
    await world.bus.start()
    held_out = next(number for number in range(100) if holdout("win_back", 0.1, profile(number)))
    await world.enter(held_out, "leaving", 1)
    await world.bus.settle()
    await world.deliver(world.offers()[0]["_id"], held_out, "sent")
    await world.bus.settle()
    assert world.offers()[0]["status"] == "held_out"


async def test_the_report_partitions_whatever_happened(world: World) -> None:
    await world.bus.start()
    for number in range(60):
        await world.know(number)
        await world.enter(number, "leaving", 1)
        await world.enter(number, "falling_spend", 2)
    await world.bus.settle()
    outcomes = [("sent", None), ("suppressed", "no_consent"), ("suppressed", "quiet_hours"), ("failed", "smtp"), ("unknown", None)]
    for index, offer in enumerate(world.offers(status="pending")[:40]):
        number = next(number for number in range(60) if profile(number) == offer["customer_id"])
        await world.deliver(offer["_id"], number, *outcomes[index % 5], program=offer["program"])
    await world.bus.settle()
    report = _report()
    for each in (report, *report.programs.values()):
        assert each.total == each.held_out + each.sent + each.failed + each.unknown + each.pending + sum(each.suppressed.values())
    assert report.total == 120
    assert (report.sent, report.failed, report.unknown) == (8, 8, 8)
    assert report.suppressed == {"no_consent": 8, "quiet_hours": 8}
    assert report.skipped == {"cooling_down": 60}


async def test_an_older_version_of_a_customer_changes_nothing(world: World) -> None:
    await world.bus.start()
    for version, members in ((3, [2]), (1, []), (2, [3]), (3, [])):
        await world.know(1, version=version, members=members)
        await world.bus.settle()
    (found,) = customers.page("", 10)
    assert (found.version, found.members) == (3, (profile(1), profile(2)))


async def test_a_customer_that_identity_took_back_is_forgotten(world: World) -> None:
    await world.bus.start()
    await world.know(1)
    await world.bus.publish(CUSTOMERS, [Message(profile(1).encode(), None)])
    await world.bus.settle()
    assert customers.page("", 10) == []
