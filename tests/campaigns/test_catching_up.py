"""A lost log costs no points and sends no offer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from services.campaigns.store import watermarks
from shared.contracts.topics import CUSTOMER_EVENTS, CUSTOMERS, DELIVERIES, OFFERS, SEGMENT_CHANGES
from shared.service import OpenedPartition
from shared.streaming.errors import Unavailable
from shared.streaming.partitions import partition_for
from shared.streaming.records import Position, Record
from tests.campaigns.world import NOON, Timeline, World, bought, profile

pytestmark = pytest.mark.anyio
PARTITION = partition_for(profile(1).encode())


async def test_events_that_only_the_timeline_has_are_entered_once(world: World) -> None:
    await world.bus.start()
    await world.identity.tell(1, *(bought(f"p{number}", 100) for number in range(250)))
    await world.bus.settle()
    await world.bus.recreate(CUSTOMER_EVENTS)
    await world.bus.settle()
    assert len(world.entries()) == 250
    await world.bus.stop()
    await world.identity.tell(1, bought("lost", 100))
    world.identity.reads.clear()
    await world.bus.recreate(CUSTOMER_EVENTS)
    await world.bus.start()
    await world.bus.settle()
    assert len(world.entries()) == 251
    assert sum(world.identity.reads) == 1, "what the watermark covers is not read again"


async def test_live_events_that_the_timeline_had_too_are_entered_once(world: World) -> None:
    await world.identity.tell(1, bought("p1", 100), bought("p2", 100))
    await world.bus.start()
    assert len(world.entries()) == 2
    await world.identity.tell(1, bought("p3", 100))
    await world.bus.settle()
    assert sorted(entry["cause_id"] for entry in world.entries()) == ["p1", "p2", "p3"]


async def test_a_timeline_that_breaks_off_is_read_again_from_where_it_counts(world: World) -> None:
    await world.identity.tell(1, *(bought(f"p{number}", 100) for number in range(250)))
    opened = OpenedPartition(CUSTOMER_EVENTS.name, "another", PARTITION)

    class Breaking(Timeline):
        async def __aiter__(self) -> Any:
            yield self._records[:100]
            raise Unavailable("identity: the answer broke off")

    async def breaking(partition: int, after: Sequence[Position]) -> Timeline:
        return Breaking(world.identity.stored[partition], [Position("purchases-id", 0, 250)])

    await world.service.start({})
    partitions = world.build(breaking).partitions
    assert partitions is not None
    with pytest.raises(Unavailable):
        await partitions.open(opened)
    assert len(world.entries()) == 100
    assert watermarks.load(PARTITION).topic_id is None
    assert world.service.partitions is not None
    assert await world.service.partitions.open(opened) == 0
    assert len(world.entries()) == 250
    assert watermarks.load(PARTITION).positions() == [Position("purchases-id", 0, 250)]
    assert await world.service.partitions.open(opened) is None


async def test_what_retention_removed_before_it_was_read_comes_from_the_timeline(world: World) -> None:
    """The ledger was down for longer than the topic keeps; the topic is the same one, its id too."""
    await world.bus.start()
    await world.identity.tell(1, bought("p1", 100), bought("p2", 100))
    await world.bus.settle()
    await world.bus.stop()
    await world.identity.tell(1, bought("p3", 100), bought("p4", 100))
    world.bus.expire(CUSTOMER_EVENTS)
    await world.identity.tell(1, bought("p5", 100))
    world.identity.reads.clear()
    await world.bus.start()
    assert sum(world.identity.reads) == 3, "what the watermark covers is not read again"
    await world.bus.settle()
    assert sorted(entry["cause_id"] for entry in world.entries()) == ["p1", "p2", "p3", "p4", "p5"]
    world.identity.reads.clear()
    await world.bus.restart()
    assert world.identity.reads == [], "nothing is missing any more"


async def test_what_retention_removed_after_it_was_read_is_not_asked_for(world: World) -> None:
    await world.bus.start()
    await world.identity.tell(1, bought("p1", 100), bought("p2", 100))
    await world.bus.settle()
    world.bus.expire(CUSTOMER_EVENTS)
    world.identity.reads.clear()
    await world.bus.restart()
    assert world.identity.reads == []


async def test_an_unreadable_event_of_the_timeline_does_not_stop_the_others(world: World) -> None:
    await world.identity.tell(1, bought("p1", 100), bought("p2", 100))
    stored: list[Record] = list(world.identity.stored[PARTITION])
    broken = type(world.identity.stored[PARTITION][0])(-1, 0, profile(1).encode(), b"{}", ())
    world.identity.stored[PARTITION].insert(1, broken)
    await world.service.start({})
    timeline = Timeline([stored[0], broken, stored[1]], [])

    async def read(partition: int, after: Sequence[Position]) -> Timeline:
        return timeline

    partitions = world.build(read).partitions
    assert partitions is not None
    await partitions.open(OpenedPartition(CUSTOMER_EVENTS.name, "another", PARTITION))
    assert len(world.entries()) == 2


async def test_the_watermark_is_kept_behind_the_stream_and_on_closing(world: World) -> None:
    await world.bus.start()
    await world.identity.tell(1, bought("p1", 100))
    await world.bus.settle()
    await world.bus.tick()
    assert watermarks.load(PARTITION).positions() == [Position("purchases-id", 0, 1)]
    await world.identity.tell(1, bought("p2", 100))
    await world.bus.settle()
    await world.bus.stop()
    assert watermarks.load(PARTITION).positions() == [Position("purchases-id", 0, 2)]


async def test_a_rebuild_sends_nothing(world: World) -> None:
    long_ago = NOON - timedelta(days=200)
    await world.bus.start()
    for number in range(1, 20):
        await world.know(number, first_seen_at=long_ago)
        await world.enter(number, "leaving", 1, at=long_ago)
        await world.identity.tell(number, bought(f"p{number}", 1000, at=long_ago))
    await world.bus.settle()
    assert (world.published(), world.offers(), len(world.entries())) == ([], [], 19)


@pytest.mark.parametrize("lost", [OFFERS, DELIVERIES])
async def test_pending_offers_are_published_again_in_a_new_log_and_settled_ones_are_not(world: World, lost: Any) -> None:
    await world.bus.start()
    for number in range(1, 30):
        await world.know(number)
    await world.bus.settle()
    pending = sorted(offer["_id"] for offer in world.offers(status="pending"))
    settled, *waiting = pending
    number = next(number for number in range(1, 30) if world.offers(_id=settled, customer_id=profile(number)))
    await world.deliver(settled, number, "sent", program="welcome")
    await world.bus.settle()
    await world.bus.restart()
    assert times_published(world) == dict.fromkeys(pending, 1), "the same logs: nothing is repeated"
    await world.bus.recreate(lost)
    before = times_published(world)
    await world.bus.restart()
    after = times_published(world)
    assert {offer for offer in after if after[offer] > before[offer]} == set(waiting)


def times_published(world: World) -> Counter[str]:
    return Counter(offer["offer_id"] for offer in world.published())


async def test_a_lost_log_of_causes_welcomes_nobody_twice(world: World) -> None:
    await world.bus.start()
    await world.know(1)
    await world.enter(2, "leaving", 1)
    await world.bus.settle()
    for topic in (CUSTOMERS, SEGMENT_CHANGES):
        await world.bus.recreate(topic)
    await world.know(1)
    await world.know(1, version=2)
    await world.enter(2, "leaving", 1)
    await world.bus.settle()
    assert len(world.offers()) == 2
