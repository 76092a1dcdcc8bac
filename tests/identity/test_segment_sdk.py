"""Segment's own Python SDK, unchanged, pointed at Dear over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from segment.analytics.client import Client

from services.identity import app as identity
from services.identity.settings import IdentitySettings
from services.identity.store import customers, positions, references
from shared.contracts.topics import CUSTOMER_UPDATES, INTERACTIONS, PURCHASES
from shared.http import create_app
from shared.runtime import HttpServer
from shared.streaming.progress import Progress
from tests.identity.test_api import gate_with
from tests.identity.world import World

pytestmark = pytest.mark.anyio
KEY = "k1"
YESTERDAY = datetime.now(UTC) - timedelta(days=1)
PRODUCTS = [{"product_id": "507f", "sku": "45790-32", "price": 19.99, "quantity": 3, "category": "Games"}]


@asynccontextmanager
async def dear(world: World, port: int) -> AsyncIterator[str]:
    """Identity behind uvicorn, as a process serves it."""
    service = identity.build(world.bus, IdentitySettings(), world.clock)
    app = create_app(service, world.clock, Progress(), gate=gate_with((KEY,)))
    await world.start()
    server = HttpServer(app, "127.0.0.1", port)
    server.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await server.stop()


async def send(host: str, calls: Callable[[Client], None], **options: Any) -> list[Exception]:
    """What a shop's program does; returns what the SDK gave up on."""
    failed: list[Exception] = []
    options = {"upload_interval": 0.05, **options}
    client = Client(options.pop("key", KEY), host=host, on_error=lambda error, _: failed.append(error), **options)

    def run() -> None:
        calls(client)
        client.shutdown()

    await asyncio.to_thread(run)
    return failed


def every_call(client: Client) -> None:
    client.identify("u-7", {"email": "ann@example.com", "name": "Ann", "loyalty_card": "42"}, timestamp=YESTERDAY)
    client.track("u-7", "Product Viewed", {"sku": "45790-32", "price": 19.99}, timestamp=YESTERDAY)
    client.track("u-7", "Order Completed", {"order_id": "1", "currency": "USD", "products": PRODUCTS}, timestamp=YESTERDAY)
    client.track("u-7", "Order Refunded", {"order_id": "1", "total": 19.99}, timestamp=YESTERDAY)
    client.track("u-7", "Order Cancelled", {"order_id": "1", "products": PRODUCTS}, timestamp=YESTERDAY)
    client.page(anonymous_id="device-1", category="Docs", name="Home", properties={"url": "https://a.example/"}, timestamp=YESTERDAY)
    client.screen("u-7", name="Basket", timestamp=YESTERDAY)
    client.group("u-7", "f-1", {"name": "Initech"}, timestamp=YESTERDAY)
    client.alias("u-6", "u-7", timestamp=YESTERDAY)


@pytest.mark.parametrize("gzip", [False, True])
async def test_every_call_of_the_sdk_is_kept(live_world: World, free_port: int, gzip: bool) -> None:
    async with dear(live_world, free_port) as host:
        assert await send(host, every_call, gzip=gzip) == []
    await live_world.bus.settle()
    assert positions.outcomes() == {"accepted": 10, "anonymous": 0, "repeated": 0, "quarantined": 0, "lost": 0, "erased": 0, "parked": 0}
    sold = [event["data"] for event in live_world.bus.events(PURCHASES)]
    assert [sum(line["amount_minor"] for line in each["lines"]) for each in sold if "lines" in each] == [5997]
    assert sorted(each["amount_minor"] for each in sold if "lines" not in each) == [1999, 5997]
    assert sorted(event["data"]["kind"] for event in live_world.bus.events(INTERACTIONS)) == ["PageViewed", "ProductViewed", "ScreenViewed"]
    assert len(live_world.bus.events(CUSTOMER_UPDATES)) == 4
    found = references.profiles_of(("user:u-7", "email:ann@example.com", "loyalty_card:42", "user:u-6"))
    [profile] = set(found.values())
    assert (len(found), customers.load((profile,))[profile].traits["company"].value) == (4, "Initech")


async def test_the_clock_of_the_sender_is_corrected(live_world: World, free_port: int) -> None:
    """The SDK stamps `sentAt` by its own clock, which is right here; a time of two minutes ago stays two minutes ago."""
    at = datetime.now(UTC) - timedelta(minutes=2)
    async with dear(live_world, free_port) as host:
        assert await send(host, lambda client: client.track("u-7", "Seen", timestamp=at)) == []
    [event] = live_world.bus.events(INTERACTIONS)
    assert abs(datetime.fromisoformat(event["time"]) - at) < timedelta(seconds=30)


async def test_a_batch_that_the_broker_took_in_part_is_sent_again_and_counts_once(live_world: World, free_port: int) -> None:
    def three(client: Client) -> None:
        for number in range(3):
            client.track("u-7", "Seen", {"number": number}, timestamp=YESTERDAY)

    async with dear(live_world, free_port) as host:
        live_world.bus.fail_publishes(1)
        assert await send(host, three, upload_size=3, upload_interval=1.0) == []
    await live_world.bus.settle()
    assert positions.outcomes() == {"accepted": 3, "anonymous": 0, "repeated": 2, "quarantined": 0, "lost": 0, "erased": 0, "parked": 0}


async def test_a_wrong_write_key_is_told_and_nothing_is_kept(live_world: World, free_port: int) -> None:
    async with dear(live_world, free_port) as host:
        [error] = await send(host, lambda client: client.track("u-7", "Seen"), key="wrong")
    assert error.status == 401  # type: ignore[attr-defined]
    assert live_world.bus.events(INTERACTIONS) == []
