"""Segment's messages over HTTP, to who is one customer by them and what was bought."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import httpx
import pytest

from services.identity.settings import IdentitySettings
from services.identity.store import positions
from shared.contracts.topics import CUSTOMER_UPDATES, INTERACTIONS, PURCHASES
from tests.identity.test_api import client_of, is_problem
from tests.identity.world import World, day, identify, interaction

pytestmark = pytest.mark.anyio
PRODUCTS = [{"sku": "a", "price": 19, "quantity": 1}, {"sku": "b", "price": 3, "quantity": 2}]


@pytest.fixture
def world(live_world: World) -> World:
    """Messages without a time are of now."""
    return live_world


async def say(client: httpx.AsyncClient, world: World, kind: str, **message: Any) -> httpx.Response:
    """A message, handled to the end."""
    answer = await client.post(f"/v1/{kind}", json=message)
    await world.bus.settle()
    return answer


async def customer(client: httpx.AsyncClient, reference: str) -> dict[str, Any]:
    return dict((await client.get("/v1/customers/lookup", params={"reference": reference})).json())


async def kinds(client: httpx.AsyncClient, reference: str) -> list[str]:
    """What the customer did, in the order of the alphabet."""
    found = await client.get(f"/v1/customers/{(await customer(client, reference))['customer_id']}/events")
    return sorted(event["data"]["kind"] for event in found.json()["events"] if "kind" in event["data"])


async def test_who_was_a_device_alone_is_whoever_logs_in_on_it(world: World) -> None:
    async with client_of(world) as client:
        await say(client, world, "track", anonymousId="d30", event="Seen")
        await say(client, world, "track", anonymousId="d30", userId="u-30", event="Bought")
        await say(client, world, "page", anonymousId="d30", name="Home")
        assert await customer(client, "user:u-30") == await customer(client, "anonymous:d30")
        assert (await customer(client, "user:u-30"))["references"] == ["user:u-30", "anonymous:d30"]
        assert await kinds(client, "user:u-30") == ["Bought", "PageViewed", "Seen"]


async def test_who_comes_back_on_another_device_is_known_by_both(world: World) -> None:
    async with client_of(world) as client:
        await say(client, world, "identify", userId="u", traits={"email": "ann@example.com"})
        await say(client, world, "page", anonymousId="new", name="Home")
        await say(client, world, "screen", userId="u", anonymousId="new", context={"traits": {"loyalty_card": 42}})
        ann = await customer(client, "user:u")
        assert ann["references"] == ["loyalty_card:42", "user:u", "email:ann@example.com", "anonymous:new"]
        assert len(ann["members"]) == 2
        # The next one who logs in there is somebody else, and the device stays where it is.
        await say(client, world, "track", userId="v", anonymousId="new", event="Seen")
        assert (await customer(client, "user:v"))["references"] == ["user:v"]
        assert await customer(client, "anonymous:new") == ann


async def test_the_order_in_which_a_visit_a_login_and_their_link_come_makes_no_difference(world: World) -> None:
    """What happened and who it was lie in two topics, which are read in no order."""
    async with client_of(world) as client:
        for number, order in enumerate(permutations(range(3))):
            device, user = f"anonymous:d{number}", f"user:u{number}"
            visit, login = interaction(f"visit-{number}", device, "Seen"), interaction(f"login-{number}", user, "Bought")
            said = (visit, login, identify(f"link-{number}", (user, device)))
            for index in order:
                await world.send(said[index])
            assert await customer(client, device) == await customer(client, user)
            assert await kinds(client, user) == ["Bought", "Seen"]


async def test_a_friends_address_among_properties_is_not_the_customers(world: World) -> None:
    async with client_of(world) as client:
        await say(client, world, "track", anonymousId="d", event="Friend Invited", properties={"email": "friend@example.com"})
        assert await kinds(client, "anonymous:d") == ["FriendInvited"]
        assert is_problem(await client.get("/v1/customers/lookup", params={"reference": "email:friend@example.com"}), 404)


async def test_a_link_is_said_once_however_many_messages_name_it(world: World) -> None:
    async with client_of(world) as client:
        batch = [{"type": "track", "userId": "u", "anonymousId": "d", "event": "Seen", "messageId": str(number)} for number in range(3)]
        for _ in range(2):
            assert (await say(client, world, "batch", batch=batch)).json()["accepted"] == 3
        assert [event["data"]["references"] for event in world.bus.events(CUSTOMER_UPDATES)] == [["user:u", "anonymous:d"]]
        outcomes = positions.outcomes()
        assert (outcomes["accepted"], outcomes["repeated"], outcomes["quarantined"]) == (4, 3, 0)
    # Another process does not know, and what it says is a repeat.
    async with client_of(world, IdentitySettings()) as client:
        await say(client, world, "track", userId="u", anonymousId="d", event="Seen", messageId="4")
        assert (positions.outcomes()["accepted"], positions.outcomes()["repeated"]) == (5, 4)


async def test_a_link_that_the_broker_did_not_take_is_said_again(world: World) -> None:
    async with client_of(world) as client:
        world.bus.fail_publishes(2)
        message = {"userId": "u", "anonymousId": "d", "event": "Seen", "messageId": "1"}
        assert is_problem(await say(client, world, "track", **message), 503)
        assert (await say(client, world, "track", **message)).status_code == 200
        assert len(world.bus.events(CUSTOMER_UPDATES)) == 1
        assert (await customer(client, "anonymous:d"))["references"] == ["user:u", "anonymous:d"]


async def test_two_equal_visits_without_a_name_or_a_time_are_two(world: World) -> None:
    async with client_of(world) as client:
        for _ in range(2):
            await say(client, world, "track", userId="u-97", event="Store Visited")
        assert await kinds(client, "user:u-97") == ["StoreVisited", "StoreVisited"]
        for _ in range(2):
            await say(client, world, "track", userId="u-97", event="Seen", timestamp="2026-03-01T10:00:00Z")
        assert await kinds(client, "user:u-97") == ["Seen", "StoreVisited", "StoreVisited"]


def paid(world: World) -> list[int]:
    """What each purchase was worth, and below 0 what was given back."""
    data = [event["data"] for event in world.bus.events(PURCHASES)]
    return [sum(line["amount_minor"] for line in each["lines"]) if "lines" in each else -each["amount_minor"] for each in data]


async def test_an_order_that_browser_and_server_tell_of_counts_once(world: World) -> None:
    async with client_of(world) as client:
        order = {
            "event": "Order Completed",
            "userId": "u",
            "properties": {"order_id": "1", "products": PRODUCTS, "total": 23, "discount": 2},
        }
        for name, at in (("browser", "2026-03-01T10:00:00Z"), ("server", "2026-03-01T10:00:02Z")):
            assert (await say(client, world, "track", **order, messageId=name, timestamp=at)).json()["id"] == "order/1"
        other = {**order, "properties": {**order["properties"], "total": 25}}  # type: ignore[dict-item]
        assert (await say(client, world, "track", **other, messageId="other")).status_code == 200
        outcomes = positions.outcomes()
        assert (outcomes["accepted"], outcomes["repeated"], outcomes["quarantined"]) == (1, 1, 1)
        assert paid(world)[0] == 2300


async def test_a_whole_order_is_given_back_once_by_what_is_known_of_it(world: World) -> None:
    async with client_of(world) as client:
        order = {"order_id": "1", "products": PRODUCTS, "affiliation": "shop"}
        refund = {"userId": "u", "event": "Order Refunded", "properties": {"order_id": "1"}}
        answer = await say(client, world, "track", **refund)
        assert is_problem(answer, 503)
        assert answer.headers["retry-after"] == "60"
        await say(client, world, "track", userId="u", event="Order Completed", properties=order)
        for event in ("Order Refunded", "Order Cancelled", "Order Refunded"):
            assert (await say(client, world, "track", **{**refund, "event": event})).json()["id"] == "order/1/void"
        await say(client, world, "track", userId="u", event="Order Cancelled", properties=order)
        assert paid(world) == [2500, -2500, -2500, -2500, -2500]
        assert {event["data"]["purchase_id"] for event in world.bus.events(PURCHASES) if "amount_minor" in event["data"]} == {"order/1"}
        outcomes = positions.outcomes()
        assert (outcomes["accepted"], outcomes["repeated"], outcomes["quarantined"]) == (2, 3, 0)


async def test_a_whole_order_that_never_comes_is_refused_with_what_to_say_instead(world: World) -> None:
    async with client_of(world) as client:
        old = (datetime.now(UTC) - timedelta(hours=2)).isoformat()
        message = {"userId": "u", "event": "Order Cancelled", "properties": {"order_id": 7}, "timestamp": old}
        answer = await client.post("/v1/track", json=message)
        assert is_problem(answer, 422, "invalid")
        assert answer.json()["detail"].startswith("properties/total: all of order/7 is given back")


async def test_a_batch_that_is_too_early_in_one_place_is_kept_in_the_others_and_sent_again(world: World) -> None:
    async with client_of(world) as client:
        order = {"type": "track", "userId": "u", "event": "Order Completed", "messageId": "1", "properties": {"order_id": "1", "total": 5}}
        whole = {"type": "track", "userId": "u", "event": "Order Refunded", "messageId": "2", "properties": {"order_id": "1"}}
        assert is_problem(await say(client, world, "batch", batch=[order, whole]), 503)
        assert (await say(client, world, "batch", batch=[order, whole])).json()["accepted"] == 2
        assert (positions.outcomes()["accepted"], positions.outcomes()["repeated"], sorted(paid(world))) == (2, 1, [-500, 500, 500])


async def test_what_an_app_still_believes_takes_no_retired_address_back(world: World) -> None:
    wrong = "email:bob@example.com"
    async with client_of(world) as client:
        await world.send(identify("1", ("user:u", wrong)), identify("2", ("user:u",), at=day(1), retired=[wrong]))
        context = {"traits": {"email": "bob@example.com"}}
        at = day(2).isoformat()
        for kind, more in (("track", {"event": "Product Viewed"}), ("page", {"name": "Home"}), ("group", {"groupId": "f-1"})):
            answer = await say(client, world, kind, userId="u", context=context, timestamp=at, sentAt=at, **more)
            assert answer.status_code == 200
        assert (await customer(client, "user:u"))["references"] == ["user:u"]
        # Who it is says so in a form.
        await say(client, world, "identify", userId="u", traits={"email": "bob@example.com"}, timestamp=at, sentAt=at)
        assert (await customer(client, "user:u"))["references"] == ["user:u", wrong]


async def test_a_firm_is_a_customer_with_its_members_as_those_who_decide(world: World) -> None:
    async with client_of(world) as client:
        firm = {"name": "Initech", "email": "hello@initech.example", "customer_type": "wholesaler"}
        for user, name in (("u", "Ann"), ("v", "Bob")):
            context = {"traits": {"name": name, "email": f"{name}@initech.example"}}
            answer = await say(client, world, "group", userId=user, groupId="f-1", traits=firm, context=context)
            assert answer.status_code == 200
        found = await customer(client, "user:group/f-1")
        assert (found["references"], found["customer_type"], found["traits"]["name"]) == (["user:group/f-1"], "wholesaler", "Initech")
        assert [(each["person_id"], each["name"]) for each in found["decision_makers"]] == [("u", "Ann"), ("v", "Bob")]
        ann = await customer(client, "user:u")
        # What such a call happens to know of their address is no statement of it.
        assert (ann["customer_type"], ann["traits"]["company"], ann["references"]) == ("consumer", "Initech", ["user:u"])
        assert world.bus.events(INTERACTIONS) == []


SHOP = "https://shop.example"
SEEN = {"anonymousId": "d", "event": "Seen", "messageId": "1"}


def allowed(answer: httpx.Response) -> str | None:
    return answer.headers.get("access-control-allow-origin")


async def test_browsers_may_send_from_the_pages_that_a_setting_names_and_read_the_answer(world: World) -> None:
    pages = IdentitySettings(cors_origins=(SHOP,), ingest_write_keys=("k1",))
    async with client_of(world, pages) as client:
        for path in ("track", "t", "batch", "b"):
            asked = {"origin": SHOP, "access-control-request-method": "POST", "access-control-request-headers": "content-type"}
            answer = await client.options(f"/v1/{path}", headers=asked)
            assert (answer.status_code, allowed(answer)) == (204, SHOP)
            assert answer.headers["access-control-allow-methods"] == "POST"
            assert "Content-Type" in answer.headers["access-control-allow-headers"]
            other = await client.options(f"/v1/{path}", headers={**asked, "origin": "https://elsewhere.example"})
            assert (allowed(other), "access-control-allow-methods" in other.headers) == (None, False)
        for message, status in (({**SEEN, "writeKey": "k1"}, 200), (SEEN, 401), ({"writeKey": "k1"}, 422)):
            answer = await client.post("/v1/t", json=message, headers={"origin": SHOP})
            assert (answer.status_code, allowed(answer), answer.headers["vary"]) == (status, SHOP, "Origin")
            assert allowed(await client.post("/v1/t", json=message, headers={"origin": "https://elsewhere.example"})) is None
        world.bus.fail_publishes(1)
        answer = await client.post("/v1/t", json={**SEEN, "writeKey": "k1"}, headers={"origin": SHOP})
        assert (answer.status_code, allowed(answer), answer.headers["retry-after"]) == (503, SHOP, "1")
        assert answer.headers["access-control-expose-headers"] == "Retry-After"
        # No other way in is opened to pages.
        assert allowed(await client.post("/v1/events", json={}, headers={"origin": SHOP})) is None


async def test_any_page_may_send_where_the_setting_says_so_and_none_where_it_says_nothing(world: World) -> None:
    async with client_of(world, IdentitySettings(cors_origins=("*",))) as client:
        assert allowed(await client.options("/v1/i", headers={"origin": SHOP})) == "*"
        assert allowed(await client.post("/v1/i", json={"userId": "u"}, headers={"origin": SHOP})) == "*"
    async with client_of(world) as client:
        assert (await client.options("/v1/i", headers={"origin": SHOP})).status_code == 405
        assert allowed(await client.post("/v1/i", json={"userId": "u"}, headers={"origin": SHOP})) is None


async def test_the_first_letter_of_a_call_is_the_call(world: World) -> None:
    async with client_of(world) as client:
        said: dict[str, dict[str, Any]] = {
            "t": SEEN, "i": {"userId": "u"}, "p": {"userId": "u"}, "s": {"userId": "u"}, "g": {"userId": "u", "groupId": "g"},
            "a": {"userId": "u", "previousId": "v"}, "b": {"batch": [{**SEEN, "type": "track"}]},
        }  # fmt: skip
        for letter, message in said.items():
            assert (await say(client, world, letter, **message)).status_code == 200
        assert sorted(event["data"]["kind"] for event in world.bus.events(INTERACTIONS)) == ["PageViewed", "ScreenViewed", "Seen", "Seen"]
