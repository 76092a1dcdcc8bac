"""The demo's year of groceries through segmentation alone: exact to the minor unit, though workers die and events are sent again."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from shared.contracts.envelope import derived_id
from shared.contracts.topics import CUSTOMER_EVENTS, SEGMENT_CHANGES, SEGMENTATION_STATE, Topic
from shared.streaming.memory import MemoryBus
from shared.streaming.partitions import partition_for
from shared.streaming.records import Message, Position, origin_header
from stack.datasets import load_complete_journey
from tests.unit.segmentation.bed import Bed, Kept

TOTALS = {
    "customers": 801,
    "purchases": 81_817,
    "lines": 828_850,
    "bought_minor": 262_497_964,
    "refunded_minor": 0,
    "refunds": 0,
    "interactions": 1_669,
    "coupon_redemptions": 1_669,
    "late_days": 0,
}


class Crash(BaseException):
    """Stands for kill -9."""


def the_year(bed: Bed) -> list[Kept]:
    """Every basket and redemption, as identity would have kept them."""
    data = load_complete_journey()
    told: list[tuple[datetime, int, str, dict[str, Any]]] = []
    for basket in data.baskets():
        lines = [{"sku": line.sku, "quantity": line.quantity, "amount_minor": line.amount_minor} for line in basket.lines]
        said = {"reference": f"loyalty_card:{basket.household_id}", "store": basket.store_id, "currency": "USD", "lines": lines}
        told.append((basket.at, basket.household_id, "dear.PurchaseRecorded", said))
    for each in data.redemptions():
        said = {"reference": f"loyalty_card:{each.household_id}", "kind": "CouponRedeemed"}
        told.append((each.at, each.household_id, "dear.InteractionRecorded", said))
    told.sort(key=lambda each: each[0])
    kept = []
    for n, (at, household, event_type, said) in enumerate(told):
        who = derived_id("profile", f"loyalty_card:{household}")
        origin_partition = partition_for(f"loyalty_card:{household}".encode())
        origin = Position("purchases-id-1", origin_partition, next(bed.origins[origin_partition]))
        event = {"specversion": "1.0", "id": str(n), "source": "till", "type": event_type, "time": at.isoformat(), "data": said}
        kept.append(Kept(who, json.dumps(event).encode(), origin))
    return kept


def test_a_year_of_groceries_is_exact_whatever_dies(tmp_path: Path) -> None:
    asyncio.run(_whatever_dies(Bed(tmp_path, MemoryBus(batch_records=400))))


async def _whatever_dies(bed: Bed) -> None:
    chance = random.Random(2017)
    publish = bed.bus.publish

    async def dying(topic: Topic, messages: Sequence[Message]) -> None:
        if topic in (SEGMENTATION_STATE, SEGMENT_CHANGES) and chance.random() < 0.03:
            await publish(topic, messages[: chance.randrange(len(messages) + 1)])
            raise Crash
        await publish(topic, messages)

    await bed.start()
    bed.timeline = the_year(bed)
    bed.bus.publish = dying  # type: ignore[method-assign]
    crashes = 0
    for start in range(0, len(bed.timeline), 8000):
        await _pass_on(bed, bed.timeline[max(start - chance.choice([0, 500]), 0) : start + 8000])
        crashes += await _settle(bed, topics_lost=start == 40_000)
    bed.bus.publish = publish  # type: ignore[method-assign]
    await bed.crash()
    await bed.settle()
    assert bed.totals == TOTALS
    assert crashes > 10


async def _pass_on(bed: Bed, kept: Sequence[Kept]) -> None:
    messages = [Message(each.key.encode(), each.value, (origin_header(each.origin, 0),)) for each in kept]
    await bed.bus.publish(CUSTOMER_EVENTS, messages)


async def _settle(bed: Bed, topics_lost: bool) -> int:
    """Until everything is applied; the answer is how many workers died."""
    crashes = 0
    alive = not topics_lost
    if topics_lost:
        bed.bus._logs[CUSTOMER_EVENTS.name] = bed.bus._new_log(CUSTOMER_EVENTS)
    while True:
        try:
            if not alive:
                await bed.crash()
                alive = True
            await bed.settle()
            await bed.bus.tick()
        except Crash:
            crashes, alive = crashes + 1, False
        else:
            return crashes
