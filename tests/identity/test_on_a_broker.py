"""The same event in every mode, through a real broker and its client."""

from __future__ import annotations

import json

import httpx
import pytest

from services.identity import app as identity
from services.identity.intake import read_batch
from services.identity.settings import IdentitySettings
from shared.clock import WallClock
from shared.contracts.topics import PURCHASES
from shared.http import create_app
from shared.streaming.partitions import partition_for
from shared.streaming.progress import Progress
from shared.streaming.publisher import KafkaPublisher
from shared.streaming.reader import bounds_of_partition, read_partition
from shared.streaming.records import Batch, Message
from tests.identity.test_api import ONE, in_headers
from tests.identity.world import message, purchase

pytestmark = pytest.mark.anyio
WHO = "loyalty_card:a-card-of-this-test-alone"


async def test_http_and_kafka_in_both_modes_say_the_same(broker: str) -> None:
    sent = purchase("reçu 1", WHO, source="till/on-a-broker")
    attributes = [(f"ce_{name}", str(value).encode()) for name, value in sent.items() if name != "data"]
    partition = partition_for(WHO.encode(), PURCHASES.partitions)
    _, start = await bounds_of_partition(broker, PURCHASES, partition)
    publisher = KafkaPublisher(broker)
    await publisher.start()
    try:
        data = json.dumps(sent["data"]).encode()
        await publisher.append(PURCHASES, message(sent))
        await publisher.append(PURCHASES, Message(WHO.encode(), data, [*attributes, ("content-type", b"application/json")]))
        await publisher.append(PURCHASES, Message(WHO.encode(), data, [("ce_id", b"\xff"), *attributes[2:]]))
        app = create_app(identity.build(publisher, IdentitySettings(), WallClock()), WallClock(), Progress())
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://identity") as client:
            answers = [
                await client.post("/v1/events", content=json.dumps(sent), headers=ONE),
                await client.post("/v1/events", content=data, headers=in_headers(sent)),
            ]
        assert [answer.status_code for answer in answers] == [202, 202]
    finally:
        await publisher.stop()
    records = [record async for some in read_partition(broker, PURCHASES, partition, start) for record in some]
    intake = read_batch(Batch(PURCHASES.name, "id", partition, records), "USD", (WallClock(),), {})
    assert len(intake.incoming) == 4
    assert len({(each.key, each.content_hash) for each in intake.incoming}) == 1
    assert [each.detail for each in intake.rejects] == ["ce_id: UTF-8 is expected"]
