"""Tills' journals and Shopify's webhooks over HTTP, to what becomes of them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from services.identity.domain.events import SOURCE_TOPICS
from services.identity.domain.segment import MESSAGE_TYPES
from services.identity.settings import IdentitySettings
from services.identity.store import positions
from shared.contracts.topics import CUSTOMER_EVENTS, PURCHASES
from shared.problems import MEDIA_TYPE
from tests.identity.test_api import basic, client_of, is_problem
from tests.identity.world import World
from tests.unit.identity.test_poslog import BACK, CHOCOLATE, till
from tests.unit.identity.test_shopify import CUSTOMER, ORDER, REFUND

pytestmark = pytest.mark.anyio
SECRET = "hush"
SHOPIFY = IdentitySettings(shopify_webhook_secrets=("older", SECRET))
WHO = f"user:shopify/{CUSTOMER['id']}"


async def told_by_till(client: httpx.AsyncClient, document: Any, **headers: str) -> httpx.Response:
    body = document if isinstance(document, bytes) else json.dumps(document)
    return await client.post("/v1/poslog", content=body, headers={"content-type": "application/json", **headers})


async def test_a_tills_transactions_answer_one_by_one_and_a_bad_one_stops_none(world: World) -> None:
    async with client_of(world) as client:
        loyal = {**till(CHOCOLATE, BACK, SequenceNumber=2), "LoyaltyAccount": {"LoyaltyAccountID": "42"}}
        document = [
            till(CHOCOLATE),
            7,
            loyal,
            till(CHOCOLATE, TrainingModeFlag=True),
            till(CHOCOLATE, SequenceNumber=3, CurrencyCode="EUR"),
        ]
        answer = await told_by_till(client, {"POSLog": {"Transaction": document}})
        assert (answer.status_code, answer.json()["accepted"]) == (207, 3)
        said = [
            (each["index"], each["status"], each.get("ignored") or each.get("problem", {}).get("reason")) for each in answer.json()["items"]
        ]
        assert said == [
            (0, 202, None), (1, 400, "malformed_json"), (2, 202, None), (2, 202, None), (3, 200, "training"), (4, 422, "foreign_currency"),
        ]  # fmt: skip
        await world.bus.settle()
        assert len(world.bus.records(CUSTOMER_EVENTS)) == 2
        assert positions.outcomes() == {"accepted": 2, "anonymous": 1, "repeated": 0, "quarantined": 0, "lost": 0, "erased": 0, "parked": 0}
        [day] = (await client.get("/v1/stores/anonymous")).json()["days"]
        assert (day["store"], day["bought"]) == ("120", 489)


async def test_a_till_that_sends_again_is_a_repeat_and_one_that_tells_otherwise_is_quarantined(world: World) -> None:
    async with client_of(world) as client:
        for document in (till(CHOCOLATE), {"Transaction": till(CHOCOLATE)}, till(CHOCOLATE, CHOCOLATE)):
            assert (await told_by_till(client, document)).status_code == 202
        await world.bus.settle()
        assert positions.outcomes() == {"accepted": 0, "anonymous": 1, "repeated": 1, "quarantined": 1, "lost": 0, "erased": 0, "parked": 0}


async def test_a_stores_time_zone_is_a_setting(world: World) -> None:
    zones = IdentitySettings(store_time_zones={"120": "Asia/Bangkok"}, home_time_zone="Europe/Berlin")
    async with client_of(world, zones) as client:
        for store in ("120", "elsewhere"):
            assert (await told_by_till(client, till(CHOCOLATE, BusinessUnit={"ID": store}))).status_code == 202
        assert sorted(event["time"] for event in world.bus.events(PURCHASES)) == ["2001-08-13T02:05:00+00:00", "2001-08-13T07:05:00+00:00"]


async def test_a_transaction_that_comes_alone_is_answered_with_its_own_problem(world: World) -> None:
    async with client_of(world) as client:
        assert is_problem(await told_by_till(client, till(CHOCOLATE, WorkstationID=None)), 422, "invalid")
        assert is_problem(await told_by_till(client, b"{"), 400, "malformed_json")
        assert is_problem(await told_by_till(client, b"7"), 422, "invalid")
        assert is_problem(await told_by_till(client, b" " * 500_001), 413, "oversized")
        many = till(*[{"Sale": {"ItemID": str(number) * 5, "ExtendedAmount": "1"}} for number in range(1500)])
        assert is_problem(await told_by_till(client, many), 413, "oversized")
        world.bus.fail_publishes(1)
        answer = await told_by_till(client, till(CHOCOLATE))
        assert is_problem(answer, 503)
        assert answer.headers["retry-after"] == "1"
    async with client_of(world, IdentitySettings(ingest_write_keys=("k1",))) as client:
        assert is_problem(await told_by_till(client, till(CHOCOLATE)), 401)
        assert (await told_by_till(client, till(CHOCOLATE), **basic("k1"))).status_code == 202


async def test_an_export_that_nobody_here_understands_is_refused_and_its_neighbours_pass(world: World) -> None:
    async with client_of(world) as client:
        answer = await told_by_till(client, {"Foo": 1})
        assert is_problem(answer, 422, "invalid")
        assert answer.json()["detail"] == "RetailTransaction: is expected, spelled so; the transaction has 'Foo'"
        misspelt = {("retailTransaction" if name == "RetailTransaction" else name): value for name, value in till(CHOCOLATE).items()}
        answer = await told_by_till(client, [misspelt, till(CHOCOLATE), {"ControlTransaction": {"SignOn": {}}}])
        assert (answer.status_code, answer.json()["accepted"]) == (207, 1)
        assert [each["status"] for each in answer.json()["items"]] == [422, 202, 200]


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (b'<?xml version="1.0"?><POSLog/>', "application/json"), (b"\xef\xbb\xbf\n<POSLog/>", "text/plain"),
        (b"{}", "application/xml"), (b"{}", "text/xml; charset=utf-8"), (b"{}", "application/poslog+xml"),
    ],
)  # fmt: skip
async def test_xml_is_answered_with_what_to_send_instead(world: World, body: bytes, media_type: str) -> None:
    async with client_of(world) as client:
        answer = await client.post("/v1/poslog", content=body, headers={"content-type": media_type})
        assert is_problem(answer, 415)
        assert "JSON" in answer.json()["detail"]


async def test_the_same_number_of_three_systems_is_three_customers(live_world: World) -> None:
    number = CUSTOMER["id"]
    async with client_of(live_world, SHOPIFY) as client:
        assert (await webhook(client, "orders/create", {**ORDER, "customer": {**CUSTOMER, "email": None}})).status_code == 200
        assert (await told_by_till(client, {**till(CHOCOLATE), "Customer": {"CustomerID": str(number)}})).status_code == 202
        assert (await client.post("/v1/identify", json={"userId": number})).status_code == 200
        await live_world.bus.settle()
        asked = [{"reference": f"user:{system}{number}"} for system in ("", "shopify/", "poslog/")]
        found = [(await client.get("/v1/customers/lookup", params=each)).json() for each in asked]
        assert [each["references"] for each in found] == [[each["reference"]] for each in asked]


async def test_a_shops_customer_and_a_web_user_with_one_address_are_one(live_world: World) -> None:
    async with client_of(live_world, SHOPIFY) as client:
        await client.post("/v1/identify", json={"userId": "u-7", "traits": {"email": CUSTOMER["email"]}})
        await live_world.bus.settle()
        await webhook(client, "orders/create", ORDER)
        await live_world.bus.settle()
        found = (await client.get("/v1/customers/lookup", params={"reference": "user:u-7"})).json()
        assert set(found["references"]) == {"user:u-7", WHO, f"email:{CUSTOMER['email']}"}


async def webhook(client: httpx.AsyncClient, topic: str, found: Any, secret: str = SECRET, **headers: str) -> httpx.Response:
    """As Shopify delivers it: the signature is of the very bytes."""
    body = found if isinstance(found, bytes) else json.dumps(found, default=float).encode()
    signature = base64.b64encode(hmac.new(secret.encode(), body, hashlib.sha256).digest()).decode()
    names = {"x-shopify-topic": topic, "x-shopify-hmac-sha256": signature, "x-shopify-shop-domain": "ann.myshopify.com"}
    return await client.post("/v1/shopify/webhooks", content=body, headers={**names, **headers})


async def net(client: httpx.AsyncClient) -> int:
    """What the customer paid less what they got back, as the timeline has it."""
    customer = (await client.get("/v1/customers/lookup", params={"reference": WHO})).json()["customer_id"]
    events = [event["data"] for event in (await client.get(f"/v1/customers/{customer}/events")).json()["events"]]
    return sum(line["amount_minor"] for each in events for line in each.get("lines", ())) - sum(
        each.get("amount_minor", 0) for each in events
    )


async def test_an_order_its_updates_and_its_refund_count_once_however_often_they_come(world: World) -> None:
    async with client_of(world, SHOPIFY) as client:
        updated = {**ORDER, "financial_status": "partially_refunded", "updated_at": "2024-07-01T10:00:01+02:00", "refunds": [REFUND]}
        deliveries = (("orders/create", ORDER), ("orders/updated", ORDER), ("refunds/create", REFUND), ("orders/updated", updated))
        for topic, found in deliveries * 2:
            answer = await webhook(client, topic, found)
            assert answer.status_code == 200, answer.text
            await world.bus.settle()
        assert await net(client) == 14005 - 5214
        counts = positions.outcomes()
        assert (counts["accepted"], counts["anonymous"], counts["quarantined"], counts["parked"]) == (4, 0, 0, 0)
        found = (await client.get("/v1/customers/lookup", params={"reference": "email:ann@example.com"})).json()
        assert found["references"] == [WHO, "email:ann@example.com"]
        assert found["consents"] == [{"purpose": "marketing", "channel": "email", "granted": True, "at": "2024-04-10T18:11:12Z"}]


async def test_an_order_that_is_cancelled_before_it_is_paid_leaves_nothing(world: World) -> None:
    async with client_of(world, SHOPIFY) as client:
        pending = {**ORDER, "financial_status": "pending"}
        cancelled = {**pending, "financial_status": "voided", "cancelled_at": "2024-06-25T08:00:00+02:00"}
        for topic, found in (("orders/updated", cancelled), ("orders/create", pending), ("orders/updated", cancelled)):
            assert (await webhook(client, topic, found)).status_code == 200
            await world.bus.settle()
        assert await net(client) == 0
        assert positions.outcomes()["quarantined"] == 0


async def test_an_order_does_not_undo_a_withdrawal_that_is_younger_than_its_consent(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.identity.api.customers.EFFECT_SECONDS", 0.05)
    async with client_of(world, SHOPIFY) as client:
        await webhook(client, "orders/create", ORDER)
        await world.bus.settle()
        refusal = {"purpose": "marketing", "channel": "email", "granted": False}
        await client.post("/v1/customers/consents", json={"reference": WHO, "consents": [refusal], "at": "2024-06-30T00:00:00Z"})
        later = {**ORDER, "id": 2, "created_at": "2024-07-02T00:00:00Z", "processed_at": "2024-07-02T00:00:00Z"}
        await webhook(client, "orders/create", later)
        await world.bus.settle()
        found = (await client.get("/v1/customers/lookup", params={"reference": WHO})).json()
        assert [each["granted"] for each in found["consents"]] == [False]


async def test_a_refund_waits_for_its_order_and_not_for_ever(live_world: World) -> None:
    async with client_of(live_world, SHOPIFY) as client:
        now = datetime.now(UTC).isoformat()
        young = {**REFUND, "processed_at": now, "created_at": now}
        answer = await webhook(client, "refunds/create", young)
        assert is_problem(answer, 503)
        assert answer.headers["retry-after"] == "60"
        await webhook(client, "orders/create", {**ORDER, "created_at": now, "processed_at": now})
        await live_world.bus.settle()
        assert (await webhook(client, "refunds/create", young)).status_code == 200
        assert (await webhook(client, "refunds/create", {**REFUND, "id": 2, "order_id": 3})).status_code == 200
        await live_world.bus.settle()
        assert (positions.outcomes()["anonymous"], await net(client)) == (1, 14005 - 5214)


async def test_shopify_needs_its_signature_and_no_key_where_everybody_else_needs_one(world: World) -> None:
    closed = IdentitySettings(ingest_write_keys=("k1",), shopify_webhook_secrets=(SECRET,))
    async with client_of(world, closed) as client:
        assert is_problem(await told_by_till(client, till(CHOCOLATE)), 401)
        assert (await webhook(client, "orders/create", ORDER)).status_code == 200
        assert is_problem(await webhook(client, "orders/create", ORDER, secret="guess", **basic("k1")), 401)


async def test_only_what_shopify_signed_is_read(world: World) -> None:
    async with client_of(world, SHOPIFY) as client:
        assert is_problem(await webhook(client, "orders/create", ORDER, secret="guess"), 401)
        for signature in ("", "x", "%%%"):
            assert is_problem(await webhook(client, "orders/create", ORDER, **{"x-shopify-hmac-sha256": signature}), 401)
        body = json.dumps(ORDER, default=float).encode()
        signature = base64.b64encode(hmac.new(SECRET.encode(), body + b" ", hashlib.sha256).digest()).decode()
        assert is_problem(await webhook(client, "orders/create", body, **{"x-shopify-hmac-sha256": signature}), 401)
        assert (await webhook(client, "orders/create", ORDER, secret="older")).status_code == 200
    async with client_of(world) as client:
        answer = await webhook(client, "orders/create", ORDER, secret="")
        assert is_problem(answer, 401)
        assert "DEAR_SHOPIFY_WEBHOOK_SECRETS" in answer.json()["detail"]


async def test_webhooks_that_change_nothing_are_answered_and_never_sent_again(world: World) -> None:
    async with client_of(world, SHOPIFY) as client:
        for topic, found, reason in (
            ("products/update", {}, "other_topic"),
            ("orders/create", {**ORDER, "test": True}, "test"),
            ("orders/updated", {**ORDER, "customer": None}, "no_change"),
            ("refunds/create", {**REFUND, "transactions": []}, "no_money"),
        ):
            answer = await webhook(client, topic, found)
            assert (answer.status_code, answer.json()) == (200, {"accepted": 0, "items": [{"index": 0, "status": 200, "ignored": reason}]})


async def test_bad_webhooks_are_refused_and_what_is_wrong_with_a_customer_stops_no_sale(world: World) -> None:
    async with client_of(world, SHOPIFY) as client:
        assert is_problem(await webhook(client, "orders/create", b"{"), 400, "malformed_json")
        assert is_problem(await webhook(client, "orders/create", b"[]"), 422, "invalid")
        assert is_problem(await webhook(client, "orders/create", {**ORDER, "currency": "EUR"}), 422, "foreign_currency")
        assert is_problem(await webhook(client, "orders/create", {**ORDER, "processed_at": "2099-12-31T00:00:00Z"}), 422, "ahead_of_clock")
        answer = await webhook(client, "orders/create", {**ORDER, "customer": {**CUSTOMER, "email": "x" * 300}})
        assert (answer.status_code, answer.json()["accepted"]) == (200, 2)
        assert [each["status"] for each in answer.json()["items"]] == [202, 422, 202]
        world.bus.fail_publishes(1)
        assert is_problem(await webhook(client, "orders/create", ORDER), 503)


NASTY = [
    b'{"userId": "\xff", "event": "Seen", "groupId": "g", "previousId": "p"}',
    b'{"userId": "\\ud800", "event": "Seen", "groupId": "g", "previousId": "p"}',
    b'{"userId": "u", "event": "Seen", "groupId": "g", "previousId": "p", "properties": {"a": ' + b"[" * 5000 + b"]" * 5000 + b"}}",
    b'{"userId": "u", "event": "Seen", "groupId": "g", "previousId": "p", "messageId": ' + b"9" * 5000 + b"}",
    b'{"userId": "u", "event": "Seen", "groupId": "g", "previousId": "p", "timestamp": "2100-01-01T00:00:00Z"}',
    b'{"userId": "u", "event": "Seen", "groupId": "g", "previousId": "p", "timestamp": "1970-01-02T00:00:00"}',
]


@pytest.mark.parametrize("path", [*MESSAGE_TYPES, "events", "poslog", "shopify/webhooks"])
async def test_nasty_bytes_are_refused_on_every_way_in(world: World, path: str) -> None:
    async with client_of(world, SHOPIFY) as client:
        for body in NASTY:
            if path == "shopify/webhooks":
                answer = await webhook(client, "orders/create", body.replace(b'"userId"', b'"id"'))
            else:
                answer = await client.post(f"/v1/{path}", content=body, headers={"content-type": "application/cloudevents+json"})
            # A journal without lines of goods is no event, whatever else it says.
            if path == "poslog" and answer.status_code == 202:
                assert answer.json()["items"][0]["ignored"] == "no_sale"
            else:
                assert 400 <= answer.status_code < 500, answer.text
                assert answer.headers["content-type"] == MEDIA_TYPE
        assert all(world.bus.records(topic) == [] for topic in SOURCE_TOPICS)


async def test_what_happened_long_ago_is_kept(live_world: World) -> None:
    async with client_of(live_world, SHOPIFY) as client:
        old = {"userId": "u", "event": "Seen", "timestamp": "1970-01-02T00:00:00Z"}
        assert (await client.post("/v1/track", json=old)).status_code == 200
        assert (await told_by_till(client, till(CHOCOLATE, EndDateTime="1970-01-02T00:00:00"))).status_code == 202
        assert (await webhook(client, "orders/create", {**ORDER, "processed_at": "1970-01-02T00:00:00Z"})).status_code == 200
        await live_world.bus.settle()
        assert positions.outcomes()["parked"] == 0
