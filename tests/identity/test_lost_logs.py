"""The broker lost its logs: the timeline is what remains."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from pymongo.errors import AutoReconnect

from services.identity.domain.resolution import new_profile_id
from services.identity.store import customers, positions
from shared.contracts.topics import CUSTOMER_EVENTS, CUSTOMER_UPDATES, CUSTOMERS, PURCHASES
from shared.http import create_app
from shared.streaming.errors import Unavailable
from shared.streaming.partitions import partition_for
from shared.streaming.progress import Progress
from shared.streaming.records import Position, StoredRecord, read_origin
from shared.timeline import Timeline, read_timeline
from tests.identity.test_handlers import effects, passed_on
from tests.identity.world import CARD, World, batch, identify, purchase

pytestmark = pytest.mark.anyio
TARGET = partition_for(new_profile_id(CARD).encode())


async def catch_up(world: World, after: tuple[Position, ...] = (), target: int = TARGET) -> tuple[list[str], dict[Any, int]]:
    """Ids of the events that a reader is told, in order, and up to where it then is."""
    app = create_app(world.service, world.clock, Progress())
    timeline = await read_timeline("http://identity", target, after, httpx.ASGITransport(app))
    told = await everything(timeline)
    ids = [purchase_id(record.value) for record in told]
    places = [(position.topic_id, position.partition, position.offset) for position, _ in (read_origin(record.headers) for record in told)]
    assert places == sorted(places)
    return ids, {(each.topic_id, each.partition): each.offset for each in timeline.committed}


async def everything(timeline: Timeline) -> list[StoredRecord]:
    return [record async for records in timeline for record in records]


def purchase_id(value: bytes | None) -> str:
    return str(json.loads(value or b"")["id"])


async def test_a_reader_is_told_exactly_what_it_does_not_have(world: World) -> None:
    await (await world.start()).send(*(purchase(str(number)) for number in range(5)), purchase("no", None), identify("i", (CARD,)))
    topic_id, source = world.bus.topic_ids["purchases-v1"], partition_for(CARD.encode())
    told, committed = await catch_up(world)
    assert told == ["0", "1", "2", "3", "4"]
    assert committed[topic_id, source] == len(world.bus.records(PURCHASES, source)) - 1
    assert (await catch_up(world, (Position(topic_id, source, 2),)))[0] == ["3", "4"]
    assert (await catch_up(world, (Position(topic_id, source, 4),)))[0] == []
    assert (await catch_up(world, target=(TARGET + 1) % 8))[0] == []


async def test_redeliveries_repeats_and_conflicts_are_told_once(world: World) -> None:
    await (await world.start()).send(purchase("1"), purchase("2"), purchase("1"), purchase("2", amount=1), purchase("3"))
    world.bus.redeliver(PURCHASES)
    await world.bus.settle()
    world.bus.redeliver(PURCHASES, from_offset=1)
    await world.bus.settle()
    assert (await catch_up(world))[0] == ["1", "2", "3"]


async def test_batches_cut_differently_after_a_crash_are_told_once_and_whole(world: World) -> None:
    await world.start()
    sent = [purchase(str(number)) for number in range(9)]
    handle = world.service.listens[PURCHASES]
    for first, end in ((0, 4), (2, 3), (2, 7), (7, 9), (5, 6), (0, 9)):
        await handle(batch(PURCHASES, *sent[first:end], first=first))
    assert (await catch_up(world))[0] == [str(number) for number in range(9)]


async def test_what_is_not_committed_is_not_told_yet(world: World) -> None:
    await world.start()
    handle = world.service.listens[PURCHASES]
    await handle(batch(PURCHASES, purchase("1")))
    await half_done(world, batch(PURCHASES, purchase("2"), first=1))
    assert (await catch_up(world))[0] == ["1"]
    await handle(batch(PURCHASES, purchase("2"), first=1))
    assert (await catch_up(world))[0] == ["1", "2"]


async def half_done(world: World, sent: Any) -> None:
    """A worker dies when the batch is in the timeline and nothing else has happened."""
    topic = next(topic for topic in world.service.listens if topic.name == sent.topic)
    with world.failing_write("timeline", AutoReconnect("gone")), pytest.raises(Unavailable):
        await world.worker().listens[topic](sent)


async def test_what_a_lost_log_left_half_done_is_finished_at_the_next_start(world: World) -> None:
    await world.start()
    old = world.bus.topic_ids["purchases-v1"]
    await half_done(world, batch(PURCHASES, purchase("1"), purchase("2", None), purchase("3"), topic_id=old, partition=3))
    consents = [{"purpose": "marketing", "channel": "email", "granted": True}]
    updates = batch(
        CUSTOMER_UPDATES, identify("i", ("loyalty_card:9",), consents=consents), topic_id=world.bus.topic_ids["customer-updates-v1"]
    )
    await half_done(world, updates)
    assert customers.count() == 0
    for topic in (PURCHASES, CUSTOMER_UPDATES, CUSTOMER_EVENTS, CUSTOMERS):
        await world.bus.recreate(topic)
    await world.bus.restart()
    assert effects(world.bus) == {"1": 1, "3": 1}
    assert customers.count() == 2
    assert (positions.outcomes()["accepted"], positions.outcomes()["anonymous"]) == (3, 1)
    told, committed = await catch_up(world)
    assert told == ["1", "3"]
    assert committed[old, 3] == 2
    before = len(passed_on(world.bus))
    await world.bus.restart()
    assert len(passed_on(world.bus)) == before


async def test_a_new_topic_of_customers_is_filled_with_all_of_them_once(world: World) -> None:
    await (await world.start()).send(*(purchase(str(number), f"loyalty_card:1{number}") for number in range(7)))
    await world.bus.recreate(CUSTOMERS)
    await world.bus.restart()
    assert len({event["data"]["customer_id"] for event in world.bus.events(CUSTOMERS)}) == 7
    filled = len(world.bus.records(CUSTOMERS))
    await world.bus.restart()
    assert len(world.bus.records(CUSTOMERS)) == filled


async def test_what_is_sent_again_after_the_loss_is_a_repeat(world: World) -> None:
    await (await world.start()).send(purchase("1"))
    await world.bus.recreate(PURCHASES)
    await world.bus.restart()
    await world.send(purchase("1"), purchase("2"))
    assert positions.outcomes()["repeated"] == 1
    assert (await catch_up(world))[0] == ["1", "2"]


async def test_an_answer_that_was_cut_off_is_not_taken_for_whole() -> None:
    async def cut_off(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b'{"committed":[["t",0,5]]}\n{"key":"a","origin":["t",0,1,0],"value":{}}\n'})

    timeline = await read_timeline("http://identity", 0, (), httpx.ASGITransport(cut_off))
    with pytest.raises(Unavailable, match="last line"):
        await everything(timeline)


async def test_identity_away_is_unavailable(free_port: int) -> None:
    with pytest.raises(Unavailable):
        await read_timeline(f"http://127.0.0.1:{free_port}", 0)
