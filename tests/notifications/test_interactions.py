"""Mails and what their readers do become interactions: told once for whoever counts, of opens and clicks only while they agree."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta
from email.message import EmailMessage
from html import unescape
from typing import Any

import httpx
import pytest

from services.notifications.api.tracking import PIXEL
from services.notifications.domain.messages import SOURCE
from shared.contracts.envelope import Event
from shared.contracts.interactions import InteractionRecorded
from shared.contracts.topics import CUSTOMER_UPDATES, DELIVERIES, INTERACTIONS, OFFERS
from shared.http import create_app
from shared.streaming.errors import Unavailable
from shared.streaming.progress import Progress
from stack.embedded import Database
from tests.notifications.world import NOON, Sink, World

SHOP = "https://shop.example/new?from=mail&season=summer"
ADA = "email:household-1@example.com"
OFFER = {"content": {"discount_percent": 15, "url": SHOP}}
Scenario = Callable[[httpx.AsyncClient], Awaitable[None]]


def run(world: World, scenario: Scenario) -> None:
    async def started() -> None:
        await world.bus.start()
        transport = httpx.ASGITransport(create_app(world.service, world.clock, Progress()))
        async with httpx.AsyncClient(transport=transport, base_url="http://notifications") as client:
            await scenario(client)

    asyncio.run(started())


def told(world: World, kind: str | None = None) -> list[dict[str, Any]]:
    """The interactions that were published, each checked against the contract and its key."""
    events = []
    for record in world.bus.records(INTERACTIONS):
        event = Event[InteractionRecorded].model_validate_json(record.value or b"")
        assert event.source == SOURCE
        assert record.key == (event.data.reference or "").encode()
        events.append(event.model_dump(mode="json"))
    return [event for event in events if kind in (None, event["data"]["kind"])]


def html_of(mail: EmailMessage) -> str:
    part = mail.get_body(("html",))
    assert part is not None
    return str(part.get_content())


def pixel_in(mail: EmailMessage) -> str:
    """Where the mail's picture is, without the host."""
    [found] = re.findall(r'<img src="http://127.0.0.1:8084([^"]+)"', html_of(mail))
    return unescape(found)


def link_in(mail: EmailMessage) -> str:
    [found] = re.findall(r'href="http://127.0.0.1:8084(/v1/click/[^"]+)"', html_of(mail))
    return unescape(found)


def test_a_mail_that_was_sent_is_told_once_after_its_outcome_is_written(world: World, sink: Sink) -> None:
    async def scenario(_: httpx.AsyncClient) -> None:
        await world.know(1)
        await world.offer(1)
        for _ in range(3):
            await world.bus.tick()

    run(world, scenario)
    [event] = told(world)
    [message] = world.messages()
    assert (event["time"], event["data"]["reference"], event["data"]["kind"]) == ("2017-06-01T12:00:00Z", ADA, "EmailSent")
    assert event["data"]["properties"] == {
        "message_id": message["_id"],
        "offer_id": "offer-1",
        "program": "win_back",
        "template": "win_back",
        "channel": "email",
        "tracked": True,
    }
    assert message.keys().isdisjoint({"reference", "unreported"})


def test_of_what_was_not_sent_nothing_is_told_and_no_address_stays(world: World, sink: Sink) -> None:
    sink.at_recipient = lambda address: "550 no" if address.startswith("household-3@") else None

    async def scenario(_: httpx.AsyncClient) -> None:
        await world.know(1, consent=False)
        await world.know(2, references=("loyalty_card:2",))
        await world.know(3)
        await world.offer(1, 2, 3)
        await world.bus.tick()
        await world.bus.tick()

    run(world, scenario)
    assert Counter(world.outcomes()) == Counter(
        [("suppressed", "no_consent"), ("suppressed", "no_address"), ("failed", "recipient_refused")]
    )
    assert told(world) == []
    assert "example.com" not in str(world.messages())


@pytest.mark.parametrize("topic", [INTERACTIONS, DELIVERIES])
def test_a_mail_is_told_of_although_the_broker_was_away(world: World, sink: Sink, topic: Any) -> None:
    async def scenario(_: httpx.AsyncClient) -> None:
        await world.know(1)
        world.bus.fail_publishes(1, topic)
        await world.offer(1)
        await world.bus.tick()

    run(world, scenario)
    assert len(sink.mails) == 1
    assert len({event["id"] for event in told(world)}) == 1
    assert set(world.outcomes()) == {("sent", None)}


def test_a_successor_tells_the_same_event_even_if_the_address_has_changed_since(new_world: Callable[..., World], sink: Sink) -> None:
    """The first process dies after it published, and before it wrote down that it did."""
    first, second = new_world(), new_world()

    async def scenario() -> None:
        await first.bus.start()
        await first.know(1)
        await first.offer(1)
        assert first.messages()[0]["reference"] == ADA
        await second.bus.start()
        await second.know(1, version=2, references=("email:new@example.com",))
        await second.offer(1)
        await second.bus.tick()
        await second.bus.tick()

    asyncio.run(scenario())
    assert told(second) != []
    assert {str(event) for event in told(second)} == {str(event) for event in told(first)}
    assert "reference" not in second.messages()[0]


def test_the_reference_is_the_one_that_the_mail_was_written_to(world: World, sink: Sink) -> None:
    evening = NOON + timedelta(hours=11)

    async def scenario(_: httpx.AsyncClient) -> None:
        await world.know(1)
        await world.offer(1, at=evening)
        await world.know(1, version=2, references=("loyalty_card:1", "email:moved@example.com"))
        world.clock.observe(evening + timedelta(hours=9))
        await world.bus.tick()

    run(world, scenario)
    assert sink.recipients == ["moved@example.com"]
    assert [event["data"]["reference"] for event in told(world)] == ["email:moved@example.com"]


def test_a_redelivered_offer_adds_no_other_event(world: World, sink: Sink) -> None:
    async def scenario(_: httpx.AsyncClient) -> None:
        await world.know(*range(5))
        await world.offer(*range(5))
        world.bus.redeliver(OFFERS)
        await world.bus.settle()
        await world.bus.tick()
        await world.bus.tick()
        world.bus.redeliver(OFFERS)
        await world.bus.settle()

    run(world, scenario)
    assert len({event["id"] for event in told(world)}) == len({str(event) for event in told(world)}) == 5
    assert len(told(world)) == 10  # The second time it was known that they are told.


def test_the_first_opening_of_a_day_is_told_and_the_picture_always_comes(world: World, sink: Sink) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        await world.know(1)
        await world.offer(1)
        pixel = pixel_in(sink.mails[0][1])
        for hours in (1, 2, 23, 24):
            world.clock.observe(NOON + timedelta(hours=hours))
            answer = await client.get(pixel)
            assert (answer.status_code, answer.headers["content-type"], answer.content) == (200, "image/gif", PIXEL)
            assert answer.headers["cache-control"] == "no-store"
        await world.bus.tick()
        await world.bus.tick()

    run(world, scenario)
    opened = told(world, "EmailOpened")
    assert [(event["time"], event["data"]["reference"]) for event in opened] == [
        ("2017-06-01T13:00:00Z", ADA),
        ("2017-06-02T11:00:00Z", ADA),
    ]
    assert opened[0]["data"]["properties"] == {
        "message_id": world.messages()[0]["_id"],
        "offer_id": "offer-1",
        "program": "win_back",
        "template": "win_back",
        "channel": "email",
    }
    assert "example.com" not in str(list(world.database["responses"].find()))


def test_who_makes_a_picture_up_gets_it_and_nothing_is_told(world: World, sink: Sink) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        await world.know(1)
        await world.offer(1)
        mail = sink.mails[0][1]
        token = pixel_in(mail).removeprefix("/v1/open/")
        others = re.sub(r"^.*/|>$", "", mail["List-Unsubscribe"])
        for wrong in ("x", token[:-2], "A" + token[1:], others):
            answer = await client.get(f"/v1/open/{wrong}")
            assert (answer.status_code, answer.content) == (200, PIXEL)
        await world.bus.tick()

    run(world, scenario)
    assert told(world, "EmailOpened") == []


def test_the_picture_comes_and_links_lead_on_while_the_database_is_away(world: World, sink: Sink, embedded: Database) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        await world.know(1)
        await world.offer(1, **OFFER)
        mail = sink.mails[0][1]
        embedded.stop()
        try:
            picture, way = await asyncio.gather(client.get(pixel_in(mail)), client.get(link_in(mail)))
        finally:
            embedded.start()
        assert picture.content == PIXEL
        assert way.headers["location"] == SHOP
        await client.get(pixel_in(mail))
        await world.bus.tick()

    run(world, scenario)
    assert len(told(world, "EmailOpened")) == 1


def test_a_link_leads_where_the_mail_said_and_the_first_click_of_a_day_is_told(world: World, sink: Sink) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        await world.know(1)
        await world.offer(1, **OFFER)
        for _ in range(2):
            answer = await client.get(link_in(sink.mails[0][1]))
            assert (answer.status_code, answer.headers["location"]) == (302, SHOP)
            assert answer.headers["cache-control"] == "no-store"
        await world.bus.tick()

    run(world, scenario)
    [event] = told(world, "EmailClicked")
    assert (event["data"]["reference"], event["data"]["properties"]["link"]) == (ADA, SHOP)


def test_there_is_no_open_redirect(world: World, sink: Sink) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        await world.know(1)
        await world.offer(1, **OFFER)
        mail = sink.mails[0][1]
        path, _, query = link_in(mail).partition("?")
        pixel = pixel_in(mail).removeprefix("/v1/open/")
        for wrong in (
            path,
            f"{path}?to=https://evil.example/",
            f"{path}?{query}.evil.example",
            f"{path}?{query}&to=https://evil.example/",
            f"/v1/click/{pixel}?{query}",
            f"/v1/click/{pixel}?to=https://evil.example/",
            f"/v1/click/{pixel}",
        ):
            answer = await client.get(wrong)
            assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json"), wrong
            assert "location" not in answer.headers
        await world.bus.tick()

    run(world, scenario)
    assert told(world, "EmailClicked") == []


def test_nothing_is_noted_of_who_does_not_agree_any_more(world: World, sink: Sink) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        await world.know(1, 2)
        await world.offer(1, 2, **OFFER)
        await world.know(1, version=2, consent=False)
        mails = dict(sink.mails)
        assert (await client.get(pixel_in(mails["household-1@example.com"]))).content == PIXEL
        assert (await client.get(link_in(mails["household-1@example.com"]))).headers["location"] == SHOP
        leaving = re.sub(r"^<http://[^/]+|>$", "", mails["household-2@example.com"]["List-Unsubscribe"])
        await client.post(leaving)  # Known here at once; identity has not said it yet.
        await client.get(pixel_in(mails["household-2@example.com"]))
        await world.bus.tick()

    run(world, scenario)
    assert Counter(event["data"]["kind"] for event in told(world)) == {"EmailSent": 2, "Unsubscribed": 1}


def test_service_messages_are_not_tracked(world: World, sink: Sink) -> None:
    async def scenario(_: httpx.AsyncClient) -> None:
        await world.know(1, consent=None)
        await world.offer(1, purpose="service", **OFFER)

    run(world, scenario)
    page = html_of(sink.mails[0][1])
    assert "<img" not in page
    assert "/v1/click/" not in page
    assert f'href="{SHOP.replace("&", "&amp;")}"' in page
    assert [event["data"]["properties"]["tracked"] for event in told(world, "EmailSent")] == [False]


def test_where_tracking_is_switched_off_mails_hold_nothing_and_earlier_ones_tell_nothing(
    new_world: Callable[..., World], sink: Sink
) -> None:
    before, after = new_world(), new_world(track_opens=False)

    async def send_one() -> None:
        await before.bus.start()
        await before.know(1)
        await before.offer(1, **OFFER)

    asyncio.run(send_one())
    earlier = sink.mails[0][1]

    async def scenario(client: httpx.AsyncClient) -> None:
        await after.know(2)
        await after.offer(2, **OFFER)
        assert (await client.get(pixel_in(earlier))).content == PIXEL
        assert (await client.get(link_in(earlier))).headers["location"] == SHOP
        await after.bus.tick()

    run(after, scenario)
    assert "<img" not in html_of(sink.mails[1][1])
    assert "/v1/click/" not in html_of(sink.mails[1][1])
    mine = [event for event in told(after) if event["data"]["reference"] != ADA]
    assert [(event["data"]["kind"], event["data"]["properties"]["tracked"]) for event in mine] == [("EmailSent", False)]
    assert {event["data"]["kind"] for event in told(after)} == {"EmailSent"}


def test_unsubscribing_is_told_beside_the_consent_and_once_a_day(world: World, sink: Sink) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        await world.know(1)
        await world.offer(1)
        link = re.sub(r"^<http://[^/]+|>$", "", sink.mails[0][1]["List-Unsubscribe"])
        await client.get(link)
        for _ in range(2):
            assert (await client.post(link)).status_code == 200
        await world.bus.tick()

    run(world, scenario)
    [event] = told(world, "Unsubscribed")
    assert (event["data"]["reference"], event["data"]["properties"]["program"]) == (ADA, "win_back")
    assert world.bus.events(CUSTOMER_UPDATES)[0]["data"]["reference"] == ADA


def test_a_response_is_told_by_a_successor_in_the_same_words(world: World, sink: Sink) -> None:
    """The worker published, and died before it wrote that down; or the broker was away."""

    async def scenario(client: httpx.AsyncClient) -> None:
        await world.know(1)
        await world.offer(1)
        await world.bus.tick()
        await client.get(pixel_in(sink.mails[0][1]))
        noted = list(world.database["responses"].find())
        world.bus.fail_publishes(1, INTERACTIONS)
        with pytest.raises(Unavailable):
            await world.bus.tick()
        assert list(world.database["responses"].find()) == noted
        await world.bus.tick()
        world.database["responses"].replace_one({"_id": noted[0]["_id"]}, noted[0])
        await world.know(1, version=2, references=("email:new@example.com",))
        await world.bus.tick()
        await world.bus.tick()

    run(world, scenario)
    opened = told(world, "EmailOpened")
    assert len(opened) == 2
    assert opened[0] == opened[1]


def test_responses_are_told_a_bounded_number_at_a_time(world: World, sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.notifications.responses.TOLD_AT_ONCE", 2)

    async def scenario(client: httpx.AsyncClient) -> None:
        await world.know(*range(5))
        await world.offer(*range(5))
        for _, mail in sink.mails:
            await client.get(pixel_in(mail))
        counts = []
        for _ in range(4):
            await world.bus.tick()
            counts.append(len(told(world, "EmailOpened")))
        assert counts == [2, 4, 5, 5]

    run(world, scenario)
