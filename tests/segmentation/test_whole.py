"""Segmentation as it runs, on a real broker and a real database: rows, recovery, read model, API."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.segmentation.app import changes_at, compose
from services.segmentation.partitions import Sources
from services.segmentation.refit import PARTITION
from services.segmentation.settings import SegmentationSettings
from services.segmentation.snapshots import SnapshotFiles
from services.segmentation.store import scores as store
from shared.clock import ReplayClock
from shared.contracts.customers import CustomerPublished
from shared.contracts.envelope import Event, derived_id, envelope
from shared.contracts.interactions import InteractionRecorded
from shared.contracts.purchases import PurchaseLine, PurchaseRecorded, PurchaseRefunded
from shared.contracts.scores import Scores, ScoresComputed, SegmentEntered, SegmentLeft
from shared.contracts.topics import (
    CUSTOMER_EVENTS,
    CUSTOMERS,
    DEAD_LETTERS,
    PRODUCTS,
    PROFILE_ROWS,
    SCORES,
    SCORING_MODELS,
    SEGMENT_CHANGES,
    SEGMENTATION_STATE,
)
from shared.http import create_app
from shared.kafka_admin import admin, apply_topics, topic_ids
from shared.mongo import connect, disconnect
from shared.service import Service
from shared.streaming.partitions import partition_for
from shared.streaming.progress import Progress
from shared.streaming.publisher import KafkaPublisher
from shared.streaming.reader import bounds_of_partition, follow_partition, follow_partitions, read_partition, read_topic
from shared.streaming.records import Message, Position, Record, origin_header
from tests.stream.harness import working

START = datetime(2025, 1, 1, tzinfo=UTC)
PEOPLE = 40


class EmptyTimeline:
    committed: tuple[Position, ...] = ()

    async def __aiter__(self) -> AsyncIterator[Sequence[Record]]:
        for nothing in ():
            yield nothing

    async def close(self) -> None:
        pass


async def no_timeline(partition: int, after: Sequence[Position]) -> EmptyTimeline:
    return EmptyTimeline()


@dataclass
class Shop:
    """A worker with its API, on the given broker and database."""

    broker: str
    service: Service
    publisher: KafkaPublisher
    http: httpx.AsyncClient

    async def get(self, path: str) -> Any:
        answer = await self.http.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def wait_for(self, path: str, holds: Callable[[Any], bool]) -> Any:
        ends = time.monotonic() + 30
        while not holds(answer := await self.get(path)):
            assert time.monotonic() < ends, answer
            await asyncio.sleep(0.1)
        return answer


def sources_at(broker: str, directory: Path) -> Sources:
    """The logs of this broker, and an identity that knows of nothing before."""
    return Sources(
        read_changelog=partial(read_partition, broker, SEGMENTATION_STATE),
        changelog_bounds=partial(bounds_of_partition, broker, SEGMENTATION_STATE),
        events_bounds=partial(bounds_of_partition, broker, CUSTOMER_EVENTS),
        customers_bounds=partial(bounds_of_partition, broker, CUSTOMERS),
        read_timeline=no_timeline,
        read_customers=partial(read_partition, broker, CUSTOMERS),
        read_copies=partial(read_partition, broker, PROFILE_ROWS),
        read_products=partial(read_partition, broker, PRODUCTS),
        follow_products=partial(follow_partitions, broker, PRODUCTS, dict.fromkeys(range(PRODUCTS.partitions), 0)),
        read_models=partial(read_partition, broker, SCORING_MODELS),
        follow_models=partial(follow_partition, broker, SCORING_MODELS, PARTITION, 0),
        read_letters=partial(read_topic, broker, DEAD_LETTERS),
        snapshots=SnapshotFiles(directory),
    )


@asynccontextmanager
async def a_shop(broker: str, database: str, directory: Path) -> AsyncIterator[Shop]:
    settings = SegmentationSettings(clock="replay", data_dir=directory, snapshot_seconds=0.2, KAFKA_BOOTSTRAP_SERVERS=broker)
    clock = ReplayClock(START)
    publisher = KafkaPublisher(broker)
    await publisher.start()
    service = compose(publisher, settings, clock, sources_at(broker, directory), changes_at(broker))

    await service.start(topic_ids(broker))
    progress = Progress()
    app = create_app(service, clock, progress)
    try:
        async with (
            working(broker, service, publisher, progress=progress),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop") as http,
        ):
            yield Shop(broker, service, publisher, http)
    finally:
        await service.stop()
        await publisher.stop()


@pytest.fixture
def fresh(broker: str, database: str) -> Any:
    """The topics and the read model of segmentation, empty."""
    topics = [CUSTOMER_EVENTS, CUSTOMERS, PROFILE_ROWS, SEGMENTATION_STATE, SCORES, SCORING_MODELS, SEGMENT_CHANGES]
    with admin(broker) as client:
        client.delete_topics([topic.name for topic in topics])
    apply_topics(broker)
    mongo = connect("segmentation", database)
    mongo.drop_database("segmentation")
    yield
    disconnect("segmentation")


def customer(number: int) -> str:
    return derived_id("profile", f"loyalty_card:{number}")


def a_year() -> list[tuple[int, Message]]:
    """A year of forty customers: number n buys every n + 1 days, until he stops."""
    offsets = {partition: count() for partition in range(8)}
    told = []
    for number in range(PEOPLE):
        ends = 150 if number % 4 == 0 else 365
        for day in range(0, ends, number + 1):
            lines = (PurchaseLine(sku="a", quantity=1, amount_minor=100 + number), PurchaseLine(sku="b", quantity=0, amount_minor=50))
            told.append((number, day, PurchaseRecorded(reference=f"user:{number}", store="1", currency="USD", lines=lines)))
        told.append((number, 20, PurchaseRefunded(reference=f"user:{number}", store="1", currency="USD", amount_minor=number)))
        told.append((number, 21, InteractionRecorded(reference=f"user:{number}", kind="CouponRedeemed")))
    told.sort(key=lambda each: each[1])
    messages = []
    for number, day, data in told:
        key = customer(number).encode()
        at = partition_for(key)
        origin = Position("origin-id", at, next(offsets[at]))
        event = envelope(data, id=f"{origin.partition}-{origin.offset}", source="till", time=START + timedelta(days=day))  # type: ignore[type-var]
        messages.append((number, Message(key, event.model_dump_json().encode(), (origin_header(origin, 0),))))
    return messages


def introductions() -> list[Message]:
    messages = []
    for number in range(PEOPLE + 2):
        who = customer(number)
        data = CustomerPublished(customer_id=who, version=1, members=(who,), references=(f"user:{number}",), first_seen_at=START)
        messages.append(Message(who.encode(), envelope(data, id=who, source="identity", time=START).model_dump_json().encode()))
    return messages


def expected_totals() -> dict[str, int]:
    buys = [(number, len(range(0, 150 if number % 4 == 0 else 365, number + 1))) for number in range(PEOPLE)]
    return {
        "purchases": sum(days for _, days in buys),
        "lines": 2 * sum(days for _, days in buys),
        "customers": PEOPLE + 2,
        "bought_minor": sum(days * (150 + number) for number, days in buys),
        "refunded_minor": sum(range(PEOPLE)),
        "coupon_redemptions": PEOPLE,
        "interactions": PEOPLE,
        "refunds": PEOPLE,
        "late_days": 0,
    }


def holds_all(answer: Any) -> bool:
    return all(answer[name] == value for name, value in expected_totals().items())


def play(story: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), 120))  # type: ignore[arg-type]


def test_a_year_is_counted_exactly_through_restarts_and_repeats_and_can_be_asked_for(
    broker: str, database: str, tmp_path: Path, fresh: None
) -> None:
    async def story() -> None:
        told = [message for _, message in a_year()]
        async with a_shop(broker, database, tmp_path) as shop:
            await shop.publisher.publish(CUSTOMERS, introductions())
            await shop.publisher.publish(CUSTOMER_EVENTS, told[:900])
            await shop.wait_for("/v1/totals", lambda answer: answer["customers"] == PEOPLE + 2 and answer["purchases"] > 500)
        async with a_shop(broker, database, tmp_path) as shop:
            await shop.publisher.publish(CUSTOMER_EVENTS, told[500:])
            await shop.publisher.publish(CUSTOMER_EVENTS, told)
            await shop.wait_for("/v1/totals", holds_all)
        async with a_shop(broker, database, tmp_path / "another-machine") as shop:
            await shop.publisher.publish(CUSTOMER_EVENTS, told)
            totals = await shop.wait_for("/v1/totals", lambda answer: holds_all(answer) and _is_read(answer, 2 * len(told) + 400))
            assert len(totals["applied"]) == 8
            await _ask_everything(shop)
            await _read_the_topics(shop)

    play(story)


def _is_read(answer: Any, least: int) -> bool:
    return sum(each["offset"] + 1 for each in answer["applied"].values()) >= least


async def _ask_everything(shop: Shop) -> None:
    await shop.wait_for("/v1/segments", lambda answer: answer["segments"]["watch"] > 0 and answer["segments"]["prospects"] == 2)
    members = await _watched(shop)
    assert [each["customer_id"] for each in members] == sorted(each["customer_id"] for each in members)
    assert all(each["risk_band"] == "watch" and len(each["reasons"]) == 2 for each in members)

    best = await _pages(shop, "/v1/scores?order=value_at_risk&limit=7", "customers")
    assert len(best) == PEOPLE + 2
    assert [each["value_at_risk_minor"] for each in best] == sorted((each["value_at_risk_minor"] for each in best), reverse=True)
    one = await shop.get(f"/v1/customers/{customer(3)}/scores")
    assert one["purchases"] == len(range(0, 365, 4))
    Scores.model_validate_json(json.dumps({name: one[name] for name in Scores.model_fields}))

    summary = await shop.wait_for("/v1/summary", lambda answer: _customers(answer["risk_bands"]) == PEOPLE + 2)
    assert _customers(summary["value_classes"]) == PEOPLE + 2
    assert _customers(summary["rfm_cells"]) == PEOPLE + 2
    assert summary["value_classes"]["A"]["spend_share"] >= 0.75
    assert sum(each["customer_share"] for each in summary["value_classes"].values()) == pytest.approx(1, abs=0.001)
    curve = await shop.get("/v1/value-curve")
    assert curve["buyers"] == PEOPLE
    assert curve["points"][-1] == {"customer_share": 1.0, "spend_share": 1.0}
    assert (curve["basis"], curve["traders"], curve["of_all_buyers"]) == ("spend", None, True)

    for path, status in (("/v1/customers/nobody/scores", 404), ("/v1/segments/nothing/members", 404), ("/v1/scores?after=x", 422)):
        answer = await shop.http.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")


async def _watched(shop: Shop) -> list[dict[str, Any]]:
    """The members of a segment, read while it is as large as its count says: the two are asked for one after the other."""
    for _ in range(100):
        before = await shop.get("/v1/segments")
        members = await _pages(shop, "/v1/segments/watch/members?limit=3", "members")
        if len(members) == before["segments"]["watch"] == (await shop.get("/v1/segments"))["segments"]["watch"]:
            return members
        await asyncio.sleep(0.1)
    raise AssertionError(f"{len(members)} members, and a count of {before['segments']['watch']}")


def _customers(table: dict[str, dict[str, int]]) -> int:
    return sum(each["customers"] for each in table.values())


async def _pages(shop: Shop, path: str, what: str) -> list[Any]:
    found: list[Any] = []
    page = await shop.get(path)
    while True:
        found += page[what]
        if page["next"] is None:
            return found
        page = await shop.get(f"{path}&after={page['next']}")


async def _read_the_topics(shop: Shop) -> None:
    """What was told can be read by its contracts."""
    told = [record async for record in _records(shop, SCORES)]
    for record in told:
        event = Event[ScoresComputed].model_validate_json(record.value or b"")
        assert event.data.customer_id.encode() == record.key
    assert len({record.key for record in told}) == PEOPLE + 2
    changes = [record async for record in _records(shop, SEGMENT_CHANGES)]
    models = {model.event_type: Event[model] for model in (SegmentEntered, SegmentLeft)}  # type: ignore[valid-type]
    kinds = set()
    for record in changes:
        kind = next(each for each in models if each.encode() in (record.value or b""))
        models[kind].model_validate_json(record.value or b"")
        kinds.add(kind)
    assert SegmentEntered.event_type in kinds


async def _records(shop: Shop, topic: Any) -> AsyncIterator[Record]:
    for partition in range(8):
        async for records in read_partition(shop.broker, topic, partition, 0):
            for record in records:
                yield record


def test_a_partition_is_read_from_an_offset_to_its_end(broker: str, fresh: None) -> None:
    async def story() -> None:
        publisher = KafkaPublisher(broker)
        await publisher.start()
        key = customer(1).encode()
        partition = partition_for(key)
        await publisher.publish(SEGMENTATION_STATE, [Message(key, str(number).encode()) for number in range(5000)])
        assert await bounds_of_partition(broker, SEGMENTATION_STATE, partition) == (0, 5000)
        read = [record async for records in read_partition(broker, SEGMENTATION_STATE, partition, 1234) for record in records]
        assert [record.value for record in read] == [str(number).encode() for number in range(1234, 5000)]
        assert [each async for each in read_partition(broker, SEGMENTATION_STATE, partition, 5000)] == []
        assert [each async for each in read_partition(broker, SEGMENTATION_STATE, (partition + 1) % 8, 0)] == []
        await publisher.stop()

    play(story)


def test_an_older_owner_does_not_overwrite_a_summary(database: str, fresh: None) -> None:
    for generation, rows in ((5, 50), (4, 40), (5, 51)):
        totals = {"totals": {"customers": rows}, "segments": {}}
        store.write_summaries([{"_id": 1, "generation": generation, "as_of": START, **totals}])
    store.write_summaries([{"_id": 1, "generation": 4, "as_of": START + timedelta(days=1)}])
    assert store.as_of(store.read_summaries()) == START
    store.write_summaries([{"_id": 1, "generation": 5, "as_of": START + timedelta(days=2)}])
    assert store.as_of(store.read_summaries()) == START + timedelta(days=2)
    store.write_summaries([{"_id": 2, "generation": 1, "totals": {"customers": 0}}])
    assert store.as_of(store.read_summaries()) is None, "the new partition cannot promise anything yet"
    store.write_summaries([{"_id": 1, "generation": 6, "totals": {"customers": 51}}])
    assert store.read_summaries()[0]["as_of"] == START + timedelta(days=2), "a new owner leaves what was promised"
    assert [each["totals"]["customers"] for each in store.read_summaries()] == [51, 0]


def test_people_write_segments_of_their_own_and_ask_why(broker: str, database: str, tmp_path: Path, fresh: None) -> None:
    async def story() -> None:
        told = [message for _, message in a_year()]
        frequent = {"all": [{"field": "purchase_days", "at_least": 100}, {"not": {"field": "customer_type", "in": ["retailer"]}}]}
        wanted = {customer(number) for number in range(PEOPLE) if len(range(0, 150 if number % 4 == 0 else 365, number + 1)) >= 100}
        async with a_shop(broker, database, tmp_path) as shop:
            await shop.publisher.publish(CUSTOMERS, introductions())
            await shop.publisher.publish(CUSTOMER_EVENTS, told)
            await shop.wait_for("/v1/totals", holds_all)
            answer = await shop.http.post("/v1/segments/what-if", json={"enters": frequent})
            assert answer.json()["customers"] == len(wanted) == 3
            assert set(answer.json()["sample"]) == wanted
            assert (await shop.http.put("/v1/segments/frequent", json={"about": "often", "enters": frequent})).status_code == 201
            await shop.wait_for("/v1/segments", lambda found: found["segments"].get("frequent") == len(wanted))
            members = await shop.get("/v1/segments/frequent/members")
            assert {each["customer_id"] for each in members["members"]} == wanted
            why = await shop.get(f"/v1/segments/frequent/explain/{customer(0)}")
            assert (why["inside"], why["enters"]["all"][0]["is"], why["enters"]["all"][1]["not"]["is"]) == (True, 150, "consumer")
            assert not (await shop.get(f"/v1/segments/frequent/explain/{customer(30)}"))["inside"]
            refused = await shop.http.put("/v1/segments/frequent", json={"enters": {"field": "purchaces", "above": 3}})
            assert (refused.status_code, refused.json()["errors"][0]["at"]) == (422, "enters")
            assert (await shop.http.put("/v1/segments/leaving", json={"enters": frequent})).status_code == 409
            assert (await shop.http.get(f"/v1/segments/frequent/explain/{derived_id('nobody')}")).status_code == 404
        async with a_shop(broker, database, tmp_path) as shop:
            assert (await shop.get("/v1/segments"))["segments"]["frequent"] == len(wanted)
            assert (await shop.http.delete("/v1/segments/frequent")).status_code == 204
            await shop.wait_for("/v1/scores?limit=40", lambda found: all("frequent" not in each["segments"] for each in found["customers"]))
            assert (await shop.http.get("/v1/segments/frequent/members")).status_code == 404
        changes = [
            record for number in range(8) async for records in read_partition(broker, SEGMENT_CHANGES, number, 0) for record in records
        ]
        own = [Event[Any].model_validate_json(each.value or b"") for each in changes if b'"frequent"' in (each.value or b"")]
        assert sorted(each.type for each in own) == ["dear.SegmentEntered"] * 3 + ["dear.SegmentLeft"] * 3
        assert {each.data["cause"] for each in own} == {"rule"}
        assert len({each.id for each in own}) == 6

    play(story)
