"""What becomes of events, however they are delivered."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from typing import Any

import pytest
from pymongo.errors import AutoReconnect

from services.identity.domain.resolution import new_profile_id
from services.identity.store import customers, positions, references
from shared.contracts.topics import CUSTOMER_EVENTS, CUSTOMER_UPDATES, CUSTOMERS, INTERACTIONS, PRIVACY, PURCHASES, Topic
from shared.streaming.errors import InvalidEvents, Unavailable
from shared.streaming.memory import MemoryBus
from shared.streaming.partitions import partition_for
from shared.streaming.records import ORIGIN_HEADER, Batch, Message, read_origin
from tests.identity.world import CARD, World, batch, consent, day, identify, interaction, message, purchase, refund, topic_of

pytestmark = pytest.mark.anyio
PROFILE = new_profile_id(CARD)


def passed_on(bus: MemoryBus) -> list[str]:
    """Ids of the events on customer-events-v1, repeats included."""
    return [event["id"] for event in bus.events(CUSTOMER_EVENTS)]


def effects(bus: MemoryBus) -> Counter[str]:
    """How often each event takes effect with a reader that keeps, per partition, the highest origin of each log."""
    seen: dict[Any, int] = {}
    counted: Counter[str] = Counter()
    for partition in range(CUSTOMER_EVENTS.partitions):
        for record in bus.records(CUSTOMER_EVENTS, partition):
            origin, _ = read_origin(record.headers)
            place = (partition, origin.topic_id, origin.partition)
            if origin.offset > seen.get(place, -1):
                seen[place] = origin.offset
                counted[json.loads(record.value or b"")["id"]] += 1
    return counted


def newest_customer(bus: MemoryBus, customer: str = PROFILE) -> dict[str, Any]:
    """What a reader of the compacted topic ends with, of one customer."""
    published = [event["data"] for event in bus.events(CUSTOMERS) if event["data"]["customer_id"] == customer]
    return dict(published[-1])


async def test_a_purchase_is_kept_and_passed_on_under_its_profile(world: World) -> None:
    await (await world.start()).send(purchase("1"))
    [record] = world.bus.records(CUSTOMER_EVENTS)
    [read] = world.bus.records(PURCHASES)
    assert record.key == PROFILE.encode()
    position, appended_ms = read_origin(record.headers)
    assert (position.topic_id, position.partition) == (world.bus.topic_ids["purchases-v1"], partition_for(CARD.encode()))
    assert (position.offset, appended_ms) == (0, read.timestamp)
    customer = newest_customer(world.bus)
    assert (customer["customer_id"], customer["members"], customer["references"], customer["version"]) == (PROFILE, [PROFILE], [CARD], 1)
    assert positions.outcomes() == {"accepted": 1, "anonymous": 0, "repeated": 0, "quarantined": 0, "lost": 0, "erased": 0, "parked": 0}


async def test_refunds_and_interactions_take_the_same_way(world: World) -> None:
    await (await world.start()).send(refund("1"), interaction("2"))
    assert sorted(passed_on(world.bus)) == ["1", "2"]


async def test_an_anonymous_sale_is_counted_and_not_passed_on(world: World) -> None:
    await (await world.start()).send(purchase("1", None), purchase("2"))
    assert passed_on(world.bus) == ["2"]
    assert positions.outcomes()["anonymous"] == 1


async def test_a_redelivery_is_passed_on_again_from_the_same_origin(world: World) -> None:
    await (await world.start()).send(purchase("1"), purchase("2"))
    world.bus.redeliver(PURCHASES)
    await world.bus.settle()
    assert passed_on(world.bus) == ["1", "2", "1", "2"]
    assert effects(world.bus) == {"1": 1, "2": 1}
    assert positions.outcomes() == {"accepted": 2, "anonymous": 0, "repeated": 0, "quarantined": 0, "lost": 0, "erased": 0, "parked": 0}


async def test_a_repeat_is_counted_once_and_not_passed_on(world: World) -> None:
    await (await world.start()).send(purchase("1"))
    await world.send(purchase("1"))
    world.bus.redeliver(PURCHASES, from_offset=1)
    await world.bus.settle()
    assert passed_on(world.bus) == ["1"]
    assert positions.outcomes()["repeated"] == 1


async def test_a_repeat_inside_one_batch_is_a_repeat_also_when_the_batch_comes_again(world: World) -> None:
    await (await world.start()).send(purchase("1"), purchase("1"), purchase("2"))
    world.bus.redeliver(PURCHASES)
    await world.bus.settle()
    assert passed_on(world.bus) == ["1", "2", "1", "2"]
    assert positions.outcomes() == {"accepted": 2, "anonymous": 0, "repeated": 1, "quarantined": 0, "lost": 0, "erased": 0, "parked": 0}


@pytest.mark.parametrize("apart", [True, False], ids=["in two batches", "in one batch"])
async def test_another_body_under_a_taken_name_is_quarantined(world: World, apart: bool) -> None:
    first, other = purchase("1"), purchase("1", amount=1)
    await world.start()
    if apart:
        await world.send(first)
        await world.send(other)
    else:
        await world.send(first, other)
    world.bus.redeliver(PURCHASES)
    await world.bus.settle()
    assert set(passed_on(world.bus)) == {"1"}
    assert {event["data"]["lines"][0]["amount_minor"] for event in world.bus.events(CUSTOMER_EVENTS)} == {1250}
    assert positions.outcomes()["quarantined"] == 1
    [noted] = world.database["outcomes"].find({"outcome": "quarantined"})
    assert json.loads(noted["event"])["data"]["lines"][0]["amount_minor"] == 1
    assert world.bus.parked() == []


async def test_the_same_event_in_two_partitions_takes_effect_once(world: World) -> None:
    await world.start()
    for key in ("a", "b", "c", "d"):
        await world.bus.append(PURCHASES, message(purchase("1"), key))
    await world.bus.settle()
    world.bus.redeliver(PURCHASES)
    await world.bus.settle()
    assert effects(world.bus) == {"1": 1}
    assert (positions.outcomes()["accepted"], positions.outcomes()["repeated"]) == (1, 3)


@pytest.mark.parametrize("sent_first", [0, 1, 2])
async def test_a_crash_between_the_timeline_and_passing_on_loses_and_doubles_nothing(world: World, sent_first: int) -> None:
    await world.start()
    world.bus.fail_publishes(2, CUSTOMER_EVENTS, sent_first=sent_first)
    await world.send(purchase("1"), purchase("2"), purchase("3"))
    assert effects(world.bus) == {"1": 1, "2": 1, "3": 1}
    assert positions.outcomes()["accepted"] == 3


async def test_a_customer_that_could_not_be_published_is_published_by_the_redelivery(world: World) -> None:
    await world.start()
    world.bus.fail_publishes(1, CUSTOMERS)
    await world.send(identify("1"))
    assert newest_customer(world.bus)["references"] == [CARD, "email:ann@example.com"]


COLLECTIONS = ["slices", "references", "profiles", "timeline", "consents", "outcomes"]


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("collection", COLLECTIONS)
async def test_a_worker_may_die_at_any_write(world: World, collection: str, done: bool) -> None:
    """Another worker gets the batch again. Nothing is lost, nothing counts twice."""
    await world.start()
    first = [purchase("1"), purchase("2", None), purchase("1", amount=7), purchase("3", "email:bob@example.com")]
    second = [identify("i", consents=[{"purpose": "marketing", "channel": "email", "granted": True}])]
    for topic, sent in ((PURCHASES, first), (CUSTOMER_UPDATES, second)):
        await interrupted(world, collection, done, batch(topic, *sent))
    assert effects(world.bus) == {"1": 1, "3": 1}
    outcomes = positions.outcomes()
    assert (outcomes["accepted"], outcomes["anonymous"], outcomes["quarantined"]) == (3, 1, 1)
    assert customers.load([PROFILE])[PROFILE].references == {CARD, "email:ann@example.com"}
    assert newest_customer(world.bus)["references"] == [CARD, "email:ann@example.com"]
    assert world.database["consents"].count_documents({}) == 1


async def interrupted(world: World, collection: str, done: bool, sent: Any) -> None:
    topic = next(topic for topic in world.service.listens if topic.name == sent.topic)
    with world.failing_write(collection, AutoReconnect("gone"), done), contextlib.suppress(Unavailable):
        await world.worker().listens[topic](sent)
    await world.worker().listens[topic](sent)


async def test_two_workers_that_meet_a_new_reference_at_once_agree(world: World) -> None:
    await world.start()
    workers = [world.worker() for _ in range(3)]
    deliveries = [
        worker.listens[PURCHASES](
            batch(PURCHASES, *(purchase(f"{index}-{card}", f"loyalty_card:{card}") for card in range(1, 61)), partition=index)
        )
        for index, worker in enumerate(workers)
    ]
    await asyncio.gather(*deliveries)
    owners = {event["data"]["reference"]: set() for event in world.bus.events(CUSTOMER_EVENTS)}
    for record in world.bus.records(CUSTOMER_EVENTS):
        owners[json.loads(record.value or b"")["data"]["reference"]].add(record.key)
    assert len(owners) == 60
    assert all(len(profiles) == 1 for profiles in owners.values())
    assert customers.count() == 60
    newest = {event["data"]["customer_id"]: event["data"]["version"] for event in world.bus.events(CUSTOMERS)}
    assert newest == customers.versions(newest)


async def test_a_form_and_a_sale_that_race_for_a_reference_end_with_one_owner(world: World) -> None:
    await world.start()
    forms, tills = world.worker(), world.worker()
    for number in range(8):
        email = f"email:{number}@example.com"
        form = batch(CUSTOMER_UPDATES, identify(f"i{number}", (f"loyalty_card:c{number}", email)), first=number)
        sale = batch(PURCHASES, purchase(f"p{number}", email), first=number)
        await asyncio.gather(forms.listens[CUSTOMER_UPDATES](form), tills.listens[PURCHASES](sale))
        [owner] = world.database["references"].find({"_id": email})
        [kept] = world.database["timeline"].find({"_id": f"till/1\x1fp{number}"})
        assert kept["profile"] == owner["profile"]
        with_it = [state.customer_id for page in customers.every() for state in page if email in state.references]
        assert with_it == [owner["profile"]]


async def test_a_reference_given_away_between_looking_and_claiming_belongs_to_who_was_first(world: World, monkeypatch: Any) -> None:
    await world.start()
    claim, forms = references.claim, world.worker()

    def too_late(profiles: Any) -> dict[str, str]:
        monkeypatch.setattr(references, "claim", claim)
        asyncio.run(forms.listens[CUSTOMER_UPDATES](batch(CUSTOMER_UPDATES, identify("i"))))
        return claim(profiles)

    monkeypatch.setattr(references, "claim", too_late)
    await world.send(purchase("1", "email:ann@example.com"))
    assert [record.key for record in world.bus.records(CUSTOMER_EVENTS)] == [PROFILE.encode()]
    assert customers.count() == 1


async def test_the_last_customer_written_is_the_newest_though_a_slower_worker_wrote_it(world: World, monkeypatch: Any) -> None:
    await world.start()
    faster, publish = world.worker(), world.bus.publish
    news = [identify("2", at=day(1), traits={"city": "B"})]

    async def overtaken(topic: Any, messages: Any) -> None:
        if topic is CUSTOMERS and news:
            await faster.listens[CUSTOMER_UPDATES](batch(CUSTOMER_UPDATES, news.pop(), partition=1))
        await publish(topic, messages)

    monkeypatch.setattr(world.bus, "publish", overtaken)
    await world.worker().listens[CUSTOMER_UPDATES](batch(CUSTOMER_UPDATES, identify("1")))
    versions = [event["data"]["version"] for event in world.bus.events(CUSTOMERS)]
    assert versions == [2, 1, 2]
    assert newest_customer(world.bus)["traits"] == {"city": "B"}


async def test_a_redelivery_keeps_its_profile_though_the_reference_changed_hands(world: World) -> None:
    await (await world.start()).send(purchase("1"))
    world.database["references"].update_one({"_id": CARD}, {"$set": {"profile": "f" * 32}})
    sent = world.bus.records(PURCHASES, partition_for(CARD.encode()))
    again = Batch("purchases-v1", world.bus.topic_ids["purchases-v1"], partition_for(CARD.encode()), sent)
    await world.worker().listens[PURCHASES](again)
    assert [record.key for record in world.bus.records(CUSTOMER_EVENTS)] == [PROFILE.encode()] * 2


async def test_overlapping_batches_are_counted_once(world: World) -> None:
    await world.start()
    sent = [purchase(str(number)) for number in range(6)]
    for first, end in ((0, 4), (2, 6), (0, 6)):
        await world.service.listens[PURCHASES](batch(PURCHASES, *sent[first:end], first=first))
    assert positions.outcomes()["accepted"] == 6


async def test_one_identify_makes_one_profile_of_all_its_references(world: World) -> None:
    await (await world.start()).send(identify("1", (CARD, "email:ann@example.com", "phone:+66812345678")))
    await world.send(purchase("2", "phone:+66 81 234 5678"), purchase("3", "email:ANN@example.com"))
    assert {record.key for record in world.bus.records(CUSTOMER_EVENTS)} == {PROFILE.encode()}
    assert customers.count() == 1


async def test_a_weak_reference_of_another_profile_stays_and_the_refusal_is_noted_once(world: World) -> None:
    await (await world.start()).send(purchase("1"), purchase("2", "phone:+66812345678"))
    await world.send(identify("3", (CARD, "phone:+66812345678")))
    world.bus.redeliver(CUSTOMER_UPDATES)
    await world.bus.settle()
    states = customers.load([PROFILE, new_profile_id("phone:+66812345678")])
    assert [state.references for state in states.values()] in ([{CARD}, {"phone:+66812345678"}], [{"phone:+66812345678"}, {CARD}])
    [noted] = world.database["outcomes"].find({"outcome": "merge_refused"})
    assert noted["reason"] == "weak_reference"
    assert "6681234" not in str(noted)


async def test_a_quarantined_identify_gives_nobody_a_reference(world: World) -> None:
    await (await world.start()).send(identify("1", (CARD,)))
    await world.send(identify("1", (CARD, "email:thief@example.com")))
    assert customers.load([PROFILE])[PROFILE].references == {CARD}
    assert world.database["references"].find_one({"_id": "email:thief@example.com"}) is None


async def test_updates_in_any_order_end_in_the_same_customer(world: World) -> None:
    await (await world.start()).send(
        consent("3", False, at=day(3)),
        identify("1", traits={"city": "B"}, at=day(1)),
        consent("2", True, at=day(2)),
        purchase("0", at=day(0)),
    )
    customer = newest_customer(world.bus)
    assert customer["consents"] == [{"purpose": "marketing", "channel": "email", "granted": False, "at": "2026-03-04T12:00:00Z"}]
    assert (customer["traits"], customer["first_seen_at"]) == ({"city": "B"}, "2026-03-01T12:00:00Z")
    assert world.database["consents"].count_documents({}) == 2


async def test_a_warm_batch_publishes_no_customer(world: World) -> None:
    await (await world.start()).send(purchase("1"))
    published = len(world.bus.records(CUSTOMERS))
    await world.send(purchase("2", at=day(1)), purchase("3", at=day(2)))
    assert len(world.bus.records(CUSTOMERS)) == published


async def test_an_older_purchase_moves_the_day_a_customer_was_first_seen(world: World) -> None:
    await (await world.start()).send(purchase("1", at=day(5)))
    await world.send(purchase("2", at=day(2)))
    assert newest_customer(world.bus)["first_seen_at"] == "2026-03-03T12:00:00Z"
    assert newest_customer(world.bus)["version"] == 2


def bad_of(make: Any, topic: Topic) -> list[tuple[Any, Topic, str]]:
    """What is wrong with an event in any topic."""
    sent = make("x")
    return [
        (b"{", topic, "malformed_json"),
        (b"", topic, "malformed_json"),
        ({**sent, "data": {name: value for name, value in sent["data"].items() if name != "reference"}}, topic, "missing_reference"),
        ({**sent, "type": "dear.Wish"}, topic, "unknown_type"),
        ({**sent, "data": {**sent["data"], "more": "x" * 40_000}}, topic, "oversized"),
        ({**sent, "time": "2099-01-01T00:00:00Z"}, topic, "ahead_of_clock"),
        ({**sent, "time": "1969-12-31T23:59:59Z"}, topic, "time_out_of_range"),
        ({**sent, "time": "soon"}, topic, "invalid"),
    ]


def stated(id: str) -> dict[str, Any]:
    return consent(id, True)


NEIGHBOURS = {PURCHASES: purchase, INTERACTIONS: interaction, CUSTOMER_UPDATES: stated}
BAD = [
    *(each for topic, make in NEIGHBOURS.items() for each in bad_of(make, topic)),
    (purchase("x", amount=-1), PURCHASES, "negative_amount"),
    (refund("x", amount=-1), PURCHASES, "negative_amount"),
    ({**purchase("x"), "data": {**purchase("x")["data"], "currency": "THB"}}, PURCHASES, "foreign_currency"),
    (interaction("x"), PURCHASES, "wrong_topic"),
    (purchase("x"), INTERACTIONS, "wrong_topic"),
    (interaction("x"), CUSTOMER_UPDATES, "wrong_topic"),
    (identify("x", ()), CUSTOMER_UPDATES, "missing_reference"),
]


@pytest.mark.parametrize(("bad", "topic", "reason"), BAD, ids=[f"{topic.name}-{reason}" for _, topic, reason in BAD])
async def test_what_is_wrong_is_parked_with_its_reason_and_its_neighbours_pass(world: World, bad: Any, topic: Topic, reason: str) -> None:
    await world.start()
    neighbour = NEIGHBOURS[topic]
    sent = batch(topic, neighbour("1"), bad, neighbour("2"))
    for _ in range(2):
        with pytest.raises(InvalidEvents) as invalid:
            await world.service.listens[topic](sent)
    assert [(reject.offset, reject.reason) for reject in invalid.value.rejects] == [(1, reason)]
    assert effects(world.bus) == ({} if topic is CUSTOMER_UPDATES else {"1": 1, "2": 1})
    assert positions.outcomes() == {"accepted": 2, "anonymous": 0, "repeated": 0, "quarantined": 0, "lost": 0, "erased": 0, "parked": 1}
    [noted] = world.database["outcomes"].find({"outcome": "parked"})
    assert noted["reason"] == reason


async def test_a_year_replayed_moves_the_clock_and_parks_nothing(world: World) -> None:
    await (await world.start()).send(*(purchase(str(number), at=day(20 * number - 300)) for number in range(10)))
    assert positions.outcomes()["parked"] == 0


async def test_what_every_source_sends_ends_in_exactly_one_outcome(world: World) -> None:
    sent = [
        purchase("1"),
        purchase("1"),
        purchase("1", amount=1),
        purchase("2", None),
        purchase("3", amount=-1),
        identify("4"),
        interaction("5"),
    ]
    await (await world.start()).send(*sent)
    assert sum(positions.outcomes().values()) == len(sent)
    assert {topic_of(each).name for each in sent} == {topic.name for topic in world.service.listens} - {PRIVACY.name}


async def test_a_record_in_binary_mode_is_the_event_that_its_structured_twin_is(world: World) -> None:
    await world.start()
    sent = purchase("reçu 1")
    attributes = [(f"ce_{name}", str(value).encode()) for name, value in sent.items() if name != "data"]
    binary = Message(CARD.encode(), json.dumps(sent["data"]).encode(), [*attributes, ("content-type", b"application/json")])
    for told in (binary, message(sent)):
        await world.bus.append(PURCHASES, told)
    await world.bus.settle()
    assert positions.outcomes() == {"accepted": 1, "anonymous": 0, "repeated": 1, "quarantined": 0, "lost": 0, "erased": 0, "parked": 0}
    [passed] = world.bus.records(CUSTOMER_EVENTS)
    assert json.loads(passed.value or b"")["id"] == "reçu 1"
    assert [name for name, _ in passed.headers] == [ORIGIN_HEADER]


async def test_a_record_with_bad_headers_is_parked_with_them_and_its_neighbour_passes(world: World) -> None:
    await world.start()
    bad = [("ce_id", b"\xff"), ("ce_type", b"dear.PurchaseRecorded")]
    await world.bus.append(PURCHASES, Message(CARD.encode(), b"{}", bad))
    await world.send(purchase("2"))
    [parked] = world.bus.parked()
    assert (parked["reason"], parked["detail"]) == ("invalid", "ce_id: UTF-8 is expected")
    assert [name for name, _ in parked["headers"]] == ["ce_id", "ce_type"]
    assert passed_on(world.bus) == ["2"]
