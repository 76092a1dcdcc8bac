"""What notifications answers over HTTP."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import timedelta

import httpx

from services.notifications.domain.messages import SOURCE
from shared.contracts.topics import CUSTOMER_UPDATES
from shared.http import create_app
from shared.streaming.progress import Progress
from tests.notifications.world import NOON, Sink, World, customer_id

Scenario = Callable[[httpx.AsyncClient], Awaitable[None]]


def run(world: World, scenario: Scenario) -> None:
    async def started() -> None:
        await world.bus.start()
        transport = httpx.ASGITransport(create_app(world.service, world.clock, Progress()))
        async with httpx.AsyncClient(transport=transport, base_url="http://notifications") as client:
            await scenario(client)

    asyncio.run(started())


def test_messages_are_listed_by_customer_and_state_page_by_page(world: World) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        await world.know(1, 2)
        await world.know(3, consent=False)
        await world.offer(1, 2, 3)
        await world.bus.tick()
        one = (await client.get("/v1/messages", params={"customer": customer_id(1)})).json()["messages"]
        assert [(message["state"], message["channel_reason"], message["reported"]) for message in one] == [("sent", "preferred", True)]
        refused = (await client.get("/v1/messages", params={"state": "suppressed"})).json()["messages"]
        assert [(message["customer_id"], message["reason"]) for message in refused] == [(customer_id(3), "no_consent")]
        seen, after = [], ""
        while after is not None:
            page = (await client.get("/v1/messages", params={"limit": 1, "after": after})).json()
            seen += [message["message_id"] for message in page["messages"]]
            after = page["after"]
        assert len(seen) == 3 == len(set(seen))
        assert (await client.get("/v1/messages", params={"state": "lost"})).headers["content-type"] == "application/problem+json"

    run(world, scenario)


def test_the_summary_partitions_the_messages(world: World, sink: Sink) -> None:
    sink.at_recipient = lambda address: "550 no" if address.startswith("household-4@") else None

    async def scenario(client: httpx.AsyncClient) -> None:
        await world.know(1, 4)
        await world.know(2, consent=False)
        await world.know(3, time_zone="Asia/Tokyo")
        await world.offer(1, 2, 3, 4)
        summary = (await client.get("/v1/summary")).json()
        assert summary == {
            "messages": 4,
            "pending": 1,
            "outcomes": {"due": 1, "sending": 0, "sent": 1, "suppressed": 1, "failed": 1, "unknown": 0},
            "reasons": {"due": {"quiet_hours": 1}, "suppressed": {"no_consent": 1}, "failed": {"recipient_refused": 1}},
            "channels": {"email": {"due": 1, "sent": 1, "suppressed": 1, "failed": 1}},
            "contacts": 4,
            "suppressions": 0,
        }
        assert (await client.get("/v1/contacts/count")).json() == {"contacts": 4}

    run(world, scenario)


def test_the_clock_can_be_advanced_over_http_and_deferred_messages_are_decided(world: World) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        await world.know(1, time_zone="Asia/Tokyo")
        await world.offer(1)
        assert world.states() == [("due", "quiet_hours")]
        assert (await client.post("/v1/clock", json={"advance_seconds": 86400})).status_code == 200
        await world.bus.tick()  # 21:00 in Tokyo again, but the clock jumped over the morning that it waited for.
        assert world.states() == [("sent", None)]

    run(world, scenario)


def test_templates_are_listed_and_shown(world: World) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        listed = (await client.get("/v1/templates")).json()
        assert [template["name"] for template in listed["templates"]] == ["welcome", "win_back"]
        assert set(listed["templates"][0]["subjects"]) == {"en", "th"}
        page = await client.get("/v1/templates/win_back/preview", params={"language": "th"})
        assert page.headers["content-type"].startswith("text/html")
        assert page.headers["content-language"] == "th"
        assert "ส่วนลด 10%" in page.text
        text = await client.get("/v1/templates/win_back/preview", params={"part": "text", "sample": False})
        assert text.text.startswith("Subject: It has been a while, Ada\n\nHello Ada,")
        assert (await client.get("/v1/templates/birthday/preview")).status_code == 404

    run(world, scenario)


def test_a_suppression_stops_mail_and_lifting_it_is_remembered(world: World, sink: Sink) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        await world.know(1, 2)
        asked = {"email": "Household-1@Example.com", "reason": "complained by phone"}
        made = await client.post("/v1/suppressions", json=asked)
        assert made.status_code == 201
        again = await client.post("/v1/suppressions", json=asked)
        assert again.json() == made.json()
        await world.offer(1, 2)
        assert sink.recipients == ["household-2@example.com"]
        assert ("suppressed", "suppression_list") in world.outcomes()
        id = made.json()["suppression_id"]
        lifted = (await client.delete(f"/v1/suppressions/{id}", params={"reason": "asked to be written to again"})).json()
        assert [(entry["action"], entry["reason"]) for entry in lifted["history"]] == [
            ("added", "complained by phone"),
            ("lifted", "asked to be written to again"),
        ]
        assert (await client.get("/v1/suppressions")).json()["suppressions"] == []
        assert len((await client.get("/v1/suppressions", params={"active": False})).json()["suppressions"]) == 1
        await world.offer(1, offer_id="later")
        assert "household-1@example.com" in sink.recipients

    run(world, scenario)


def test_a_domain_or_a_customer_can_be_suppressed_and_nonsense_cannot(world: World, sink: Sink) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        await world.know(1)
        await world.know(2, references=("email:ben@blocked.example",))
        assert (await client.post("/v1/suppressions", json={"customer_id": customer_id(1), "reason": "legal"})).status_code == 201
        assert (await client.post("/v1/suppressions", json={"domain": "Blocked.example", "reason": "bounces"})).status_code == 201
        await world.offer(1, 2)
        assert world.outcomes() == [("suppressed", "suppression_list")] * 2
        for wrong in (
            {"reason": "x"},
            {"email": "a@b.c", "domain": "b.c", "reason": "x"},
            {"email": "a@b.c"},
            {"email": "no", "reason": "x"},
        ):
            assert (await client.post("/v1/suppressions", json=wrong)).status_code == 422
        assert (await client.delete("/v1/suppressions/nothing", params={"reason": "x"})).status_code == 404

    run(world, scenario)


def test_the_link_in_the_mail_ends_marketing_with_one_post(world: World, sink: Sink) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        await world.know(1, language="th")
        await world.offer(1)
        link = re.sub(r"^<http://[^/]+|>$", "", sink.mails[0][1]["List-Unsubscribe"])
        asked = await client.get(link)
        assert asked.status_code == 200
        assert '<form method="post">' in asked.text
        assert world.bus.events(CUSTOMER_UPDATES) == []
        done = await client.post(link, data={"List-Unsubscribe": "One-Click"})
        assert done.status_code == 200
        assert "เรียบร้อยแล้ว" in done.text
        await world.offer(1, offer_id="next", at=NOON + timedelta(days=2))
        assert world.outcomes()[-1] == ("suppressed", "suppression_list")
        told, message = world.bus.events(CUSTOMER_UPDATES)[0], world.messages(state="sent")[0]["_id"]
        assert (told["source"], told["type"]) == (SOURCE, "dear.ConsentChanged")
        assert told["data"] == {
            "reference": "email:household-1@example.com",
            "consents": [
                {"purpose": "marketing", "channel": "email", "granted": False, "method": "link", "evidence": f"message {message}"}
            ],
        }
        assert (await client.post(link[:-2])).status_code == 404
        # Agreeing again later, at the shop, counts.
        await world.know(1, version=2, at=NOON + timedelta(days=3))
        await world.offer(1, offer_id="back", at=NOON + timedelta(days=4))
        assert world.outcomes()[-1] == ("sent", None)

    run(world, scenario)
