"""Identity over HTTP."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from services.identity import app as identity
from services.identity import metrics
from services.identity.domain.resolution import new_profile_id
from services.identity.domain.segment import MESSAGE_TYPES
from services.identity.settings import IdentitySettings
from shared.access.gate import Gate, open_gate
from shared.clock import ReplayClock
from shared.contracts.topics import CUSTOMER_EVENTS, CUSTOMER_UPDATES, INTERACTIONS, PURCHASES, Topic
from shared.http import create_app
from shared.problems import MEDIA_TYPE
from shared.streaming.memory import MemoryBus
from shared.streaming.progress import Progress
from shared.streaming.records import Message
from tests.identity.test_handlers import BAD
from tests.identity.world import CARD, NOON, World, consent, day, identify, interaction, purchase, refund

pytestmark = pytest.mark.anyio
ONE = {"content-type": "application/cloudevents+json"}
BATCH = {"content-type": "application/cloudevents-batch+json; charset=utf-8"}


@asynccontextmanager
async def client_of(world: World, settings: IdentitySettings | None = None) -> AsyncIterator[httpx.AsyncClient]:
    service = identity.build(world.bus, settings, world.clock) if settings else world.service
    app = create_app(service, world.clock, Progress(), gate=gate_with(settings.ingest_write_keys) if settings else None)
    await world.start()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://identity") as client:
        yield client


def gate_with(write_keys: tuple[str, ...]) -> Gate:
    """As on loopback with these write keys and no other key."""
    return Gate(open_gate().keyring, is_loopback=True, write_keys=write_keys)


def is_problem(answer: httpx.Response, status: int, reason: str | None = None) -> bool:
    body = answer.json()
    assert answer.headers["content-type"] == MEDIA_TYPE, answer.text
    assert (answer.status_code, body["status"]) == (status, status), answer.text
    return bool(body["detail"]) and body.get("reason") == reason


async def post(client: httpx.AsyncClient, sent: Any, headers: dict[str, str] = ONE, path: str = "/v1/events") -> httpx.Response:
    return await client.post(path, content=sent if isinstance(sent, bytes) else json.dumps(sent), headers=headers)


async def test_an_event_is_accepted_when_the_broker_has_it(world: World) -> None:
    async with client_of(world) as client:
        answer = await post(client, purchase("1"))
        assert (answer.status_code, answer.json()) == (202, {"index": 0, "status": 202, "source": "till/1", "id": "1"})
        assert [record.key for record in world.bus.records(PURCHASES)] == [CARD.encode()]
        await world.bus.settle()
        assert len(world.bus.records(CUSTOMER_EVENTS)) == 1


async def test_nothing_is_accepted_while_the_broker_is_away(world: World) -> None:
    async with client_of(world) as client:
        world.bus.fail_publishes(2)
        for sent, headers in ((purchase("1"), ONE), ([purchase("1")], BATCH)):
            answer = await post(client, sent, headers)
            assert is_problem(answer, 503)
            assert answer.headers["retry-after"] == "1"
        assert (await post(client, purchase("1"))).status_code == 202


STATUS = {"malformed_json": 400, "oversized": 413}
EDGE_BAD = [case for case in BAD if case[2] != "wrong_topic"]


@pytest.mark.parametrize(("bad", "topic", "reason"), EDGE_BAD, ids=[reason for _, _, reason in EDGE_BAD])
async def test_bad_input_is_answered_with_what_to_change(world: World, bad: Any, topic: Any, reason: str) -> None:
    async with client_of(world) as client:
        assert is_problem(await post(client, bad), STATUS.get(reason, 422), reason)
        assert world.bus.records(topic) == []


@pytest.mark.parametrize(("bad", "topic", "reason"), [case for case in EDGE_BAD if isinstance(case[0], dict)])
async def test_in_a_batch_a_bad_item_has_its_verdict_and_its_neighbours_pass(world: World, bad: Any, topic: Any, reason: str) -> None:
    async with client_of(world) as client:
        answer = await post(client, [purchase("1"), bad, interaction("2"), identify("3")], BATCH)
        assert answer.status_code == 207
        assert [item["status"] for item in answer.json()["items"]] == [202, STATUS.get(reason, 422), 202, 202]
        assert answer.json()["items"][1]["problem"]["reason"] == reason
        assert answer.json()["accepted"] == 3
        assert [len(world.bus.records(each)) for each in (PURCHASES, INTERACTIONS, CUSTOMER_UPDATES)] == [1, 1, 1]


async def test_a_batch_without_fault_is_accepted_whole(world: World) -> None:
    async with client_of(world) as client:
        assert (await post(client, [purchase("1"), refund("2")], BATCH)).status_code == 202
        assert (await post(client, [], BATCH)).json() == {"accepted": 0, "items": []}


@pytest.mark.parametrize("frame", [b"{", b"{}", b"7", b"[" * 100_000, b"[1,"])
async def test_a_batch_that_is_no_array_is_refused(world: World, frame: bytes) -> None:
    async with client_of(world) as client:
        assert is_problem(await post(client, frame, BATCH), 400, "malformed_json")


async def test_a_body_that_is_too_large_is_refused_before_it_is_read(world: World) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b" " * 65536

    async with client_of(world) as client:
        assert is_problem(await post(client, b"[" + b" " * 512_000 + b"]", BATCH), 413, "oversized")
        assert is_problem(await client.post("/v1/events", content=endless(), headers=BATCH), 413, "oversized")
        assert is_problem(await client.post("/v1/batch", content=b" " * 512_001), 413, "oversized")


def in_headers(sent: dict[str, Any]) -> dict[str, str]:
    """A CloudEvent's attributes as a sender in binary mode writes them."""
    return {f"ce-{name}": quote(str(value), safe="!$&'()*+,/:;=?@") for name, value in sent.items() if name != "data"}


async def test_an_event_in_headers_is_the_same_event_as_in_the_body(world: World) -> None:
    async with client_of(world) as client:
        sent = purchase("reçu 1%", source='till/"main"')
        answer = await post(client, sent["data"], {"content-type": "application/json", **in_headers(sent)})
        assert (answer.status_code, answer.json()["source"], answer.json()["id"]) == (202, 'till/"main"', "reçu 1%")
        assert (await post(client, sent)).status_code == 202
        await world.bus.settle()
        outcomes = (await client.get("/v1/outcomes")).json()
        assert (outcomes["accepted"], outcomes["repeated"], outcomes["quarantined"]) == (1, 1, 0)


@pytest.mark.parametrize("change", [{"ce-id": "100%"}, {"ce-id": "%C0%A0"}, {"ce-time": "noon"}, {"content-type": "text/xml"}])
async def test_headers_that_are_no_event_are_refused(world: World, change: dict[str, str]) -> None:
    async with client_of(world) as client:
        sent = purchase("1")
        answer = await post(client, sent["data"], {"content-type": "application/json", **in_headers(sent), **change})
        assert is_problem(answer, 422, "invalid")
        assert world.bus.records(PURCHASES) == []


async def test_a_packed_body_is_unpacked_up_to_the_limit(world: World) -> None:
    async with client_of(world) as client:
        packed = {**BATCH, "content-encoding": "gzip"}
        assert (await post(client, gzip.compress(json.dumps([purchase("1")]).encode()), packed)).status_code == 202
        bomb = gzip.compress(b"[" + b" " * 50_000_000 + b"]")
        assert len(bomb) < 100_000
        assert is_problem(await post(client, bomb, packed), 413, "oversized")
        for broken in (b"[]", gzip.compress(b"[]")[:-4], gzip.compress(b"[]") + b"x", b""):
            assert is_problem(await post(client, broken, packed), 400, "malformed_json")
        assert is_problem(await post(client, b"[]", {**BATCH, "content-encoding": "br"}), 415)


async def test_whoever_finds_no_room_to_wait_is_told_to_come_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker answers slowly; three events may wait, and one batch that is alone is let in however long it is."""
    slow = asyncio.Event()

    async def append(topic: Topic, message: Message) -> None:
        await slow.wait()
        await MemoryBus.append(world.bus, topic, message)

    monkeypatch.setattr(world.bus, "append", append)
    async with client_of(world, IdentitySettings(ingest_waiting_limit=3)) as client:
        first = asyncio.create_task(post(client, [purchase(str(number)) for number in range(2)], BATCH))
        while not in_progress():
            await asyncio.sleep(0)
        for sent, headers, path in (([purchase("a"), purchase("b")], BATCH, "/v1/events"), ({"batch": [TRACK, TRACK]}, {}, "/v1/batch")):
            answer = await post(client, sent, headers, path)
            assert is_problem(answer, 429)
            assert answer.headers["retry-after"] == "1"
        second = asyncio.create_task(post(client, purchase("c")))
        slow.set()
        assert [(await each).status_code for each in (first, second)] == [202, 202]
        assert not in_progress()
        assert (await post(client, [purchase(str(number)) for number in range(9)], BATCH)).status_code == 202


def in_progress() -> float:
    return float(metrics.WAITING._value.get())


async def test_another_content_type_is_refused(world: World) -> None:
    async with client_of(world) as client:
        assert is_problem(await post(client, purchase("1"), {"content-type": "text/plain"}), 415)


def basic(key: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{key}:".encode()).decode()}


@pytest.mark.parametrize("given", [{}, basic("wrong"), basic(""), {"authorization": "Basic %%%"}, {"authorization": "Bearer no"}])
async def test_with_write_keys_nobody_sends_without_one(world: World, given: dict[str, str]) -> None:
    async with client_of(world, IdentitySettings(ingest_write_keys=("k1", "k2"))) as client:
        for path in ("/v1/events", *(f"/v1/{each}" for each in (*MESSAGE_TYPES, "batch"))):
            answer = await post(client, {"batch": []}, {**ONE, **given}, path)
            assert is_problem(answer, 401)
            assert answer.headers["www-authenticate"].startswith("Basic")
        answer = await client.post("/v1/customers/consents", json={"reference": CARD, "consents": [CONSENT]}, headers=given)
        assert is_problem(answer, 401)


@pytest.mark.parametrize("given", [basic("k1"), basic("k2"), {"authorization": "Bearer k2"}])
async def test_any_of_the_write_keys_opens(world: World, given: dict[str, str]) -> None:
    async with client_of(world, IdentitySettings(ingest_write_keys=("k1", "k2"))) as client:
        assert (await post(client, purchase("1"), {**ONE, **given})).status_code == 202
        assert (await client.post("/v1/track", json={**TRACK, "writeKey": "k1"})).status_code == 200


TRACK = {"type": "track", "event": "Product Viewed", "userId": "7", "messageId": "m1", "properties": {"price": 9.9}}
ORDER = {
    "type": "track",
    "event": "Order Completed",
    "userId": "7",
    "messageId": "m2",
    "properties": {"products": [{"sku": "a", "price": 19.99}]},
}
IDENTIFY = {"type": "identify", "userId": "7", "messageId": "m3", "traits": {"email": "ann@example.com", "name": "Ann"}}


async def test_segment_messages_become_events(live_world: World) -> None:
    async with client_of(live_world) as client:
        for path, body in (("/v1/track", TRACK), ("/v1/track", ORDER), ("/v1/identify", IDENTIFY)):
            answer = await client.post(path, json=body)
            assert (answer.status_code, answer.json()["success"]) == (200, True)
        await live_world.bus.settle()
        [sale] = live_world.bus.events(PURCHASES)
        assert sale["data"]["lines"][0]["amount_minor"] == 1999
        found = (await client.get("/v1/customers/lookup", params={"reference": "user:7"})).json()
        assert found["traits"] == {"name": "Ann"}
        assert len((await client.get(f"/v1/customers/{found['customer_id']}/events")).json()["events"]) == 3


async def test_a_segment_batch_answers_per_item(world: World) -> None:
    async with client_of(world) as client:
        bad = [{"type": "turn"}, {"type": "track"}, {**ORDER, "properties": {"products": [{"sku": "a", "price": -1}]}}, 7]
        answer = await client.post("/v1/batch", json={"batch": [TRACK, *bad, IDENTIFY], "sentAt": "2026-03-01T12:00:00Z"})
        assert answer.status_code == 200
        reasons = [item.get("problem", {}).get("reason") for item in answer.json()["items"]]
        assert reasons == [None, "unknown_type", "invalid", "negative_amount", "malformed_json", None]
        assert is_problem(await client.post("/v1/batch", json={"batch": bad}), 400)
        world.bus.fail_publishes(1)
        assert is_problem(await client.post("/v1/batch", json={"batch": [TRACK, IDENTIFY]}), 503)


async def test_a_segment_retry_with_a_new_sent_at_is_a_repeat(live_world: World) -> None:
    async with client_of(live_world) as client:
        for second in (1, 30):
            stamped = {**ORDER, "timestamp": "2026-03-01T12:00:00Z", "sentAt": f"2026-03-01T12:00:{second:02}Z"}
            assert (await client.post("/v1/track", json=stamped)).status_code == 200
        await live_world.bus.settle()
        outcomes = (await client.get("/v1/outcomes")).json()
        assert (outcomes["accepted"], outcomes["repeated"], outcomes["quarantined"]) == (1, 1, 0)


async def test_a_message_id_that_is_used_again_for_something_else_is_quarantined(live_world: World) -> None:
    async with client_of(live_world) as client:
        for price in (19.99, 29.99):
            told = {**ORDER, "timestamp": "2026-03-01T12:00:00Z", "properties": {"products": [{"sku": "a", "price": price}]}}
            assert (await client.post("/v1/track", json=told)).status_code == 200
        await live_world.bus.settle()
        outcomes = (await client.get("/v1/outcomes")).json()
        assert (outcomes["accepted"], outcomes["repeated"], outcomes["quarantined"]) == (1, 0, 1)


async def test_a_customer_is_found_by_any_reference_and_spelling(world: World) -> None:
    async with client_of(world) as client:
        await world.send(identify("1", traits={"name": "Ann"}), purchase("2", "loyalty_card:7"))
        for asked in ("email:ANN@example.com", CARD, "loyalty_card: 42 "):
            found = await client.get("/v1/customers/lookup", params={"reference": asked})
            assert found.json()["traits"] == {"name": "Ann"}
        customer = found.json()["customer_id"]
        assert (await client.get(f"/v1/customers/{customer}")).json() == found.json()
        searched = (await client.get("/v1/customers", params={"search": "Ann@example.com"})).json()["customers"]
        assert [each["customer_id"] for each in searched] == [customer]
        assert is_problem(await client.get("/v1/customers/lookup", params={"reference": "email:no@example.com"}), 404)
        assert is_problem(await client.get("/v1/customers/lookup", params={"reference": "42"}), 422)
        assert is_problem(await client.get("/v1/customers/nobody"), 404)
        assert is_problem(await client.get("/v1/customers/lookup"), 422)


async def names_found(client: httpx.AsyncClient, text: str) -> list[str]:
    answer = await client.get("/v1/customers", params={"search": text})
    return sorted(each["traits"]["name"] for each in answer.json()["customers"])


async def test_a_customer_is_found_by_any_part_of_the_name_that_it_has_now(world: World) -> None:
    async with client_of(world) as client:
        await world.send(identify("1", (CARD,), traits={"name": "Ann Smith"}), identify("2", ("user:2",), traits={"name": "Anna Smythe"}))
        assert await names_found(client, "ann") == ["Ann Smith", "Anna Smythe"]
        assert await names_found(client, "smi ann") == ["Ann Smith"]
        await world.send(identify("3", (CARD,), at=day(1), traits={"name": "Ann Jones"}))
        await world.send(identify("4", (CARD,), at=day(-1), traits={"name": "Ann Young"}))
        assert await names_found(client, "smith") == await names_found(client, "young") == []
        assert await names_found(client, "jones") == ["Ann Jones"]


async def test_each_value_says_who_said_it_when(world: World) -> None:
    async with client_of(world) as client:
        await world.send(identify("1", traits={"name": "Ann"}, language="th"), identify("2", at=day(1), traits={"city": "Bangkok"}))
        said = (await client.get("/v1/customers/lookup", params={"reference": CARD})).json()["said"]
        assert said["traits"]["city"] == {"value": "Bangkok", "at": day(1).isoformat(), "source": "till/1", "event": "2"}
        assert (said["traits"]["name"]["event"], said["wishes"]["language"]["value"]) == ("1", "th")


async def test_a_number_is_looked_up_as_the_shop_dials_it(world: World) -> None:
    async with client_of(world, IdentitySettings(home_region="TH")) as client:
        await world.send(purchase("1", "phone:+66812345678"))
        assert (await client.get("/v1/customers/lookup", params={"reference": "phone:081-234-5678"})).status_code == 200
        assert (await client.get("/v1/customers", params={"search": "081 234 5678"})).json()["customers"]


async def test_customers_and_histories_are_paged_in_a_stable_order(world: World) -> None:
    async with client_of(world) as client:
        await world.send(*(purchase(f"c{number}", f"loyalty_card:c{number}") for number in range(5)))
        await world.send(*(purchase(f"p{number}", "loyalty_card:c0", at=day(number // 2)) for number in range(7)))
        ids: list[str] = []
        after: str | None = ""
        while after is not None:
            page = (await client.get("/v1/customers", params={"after": after, "limit": 2})).json()
            ids += [each["customer_id"] for each in page["customers"]]
            after = page["next"]
        assert ids == sorted(set(ids))
        assert len(ids) == 5
        customer = (await client.get("/v1/customers/lookup", params={"reference": "loyalty_card:c0"})).json()["customer_id"]
        events: list[dict[str, Any]] = []
        params: dict[str, Any] = {"limit": 3}
        while params.get("after", "") is not None:
            page = (await client.get(f"/v1/customers/{customer}/events", params=params)).json()
            events += page["events"]
            params["after"] = page["next"]
        assert [event["id"] for event in events] == ["p6", "p4", "p5", "p2", "p3", "c0", "p0", "p1"]
        assert is_problem(await client.get(f"/v1/customers/{customer}/events", params={"after": "x"}), 422)


FIRM: dict[str, Any] = {
    "references": [CARD],
    "traits": {"name": "Siam Print", "latitude": "13.7563", "longitude": "100.5018"},
    "customer_type": "wholesaler",
    "lead_source": "exhibition",
    "decision_makers": [{"person_id": "g", "name": "Grace", "role": "buyer"}],
    "assets": [{"asset_id": "van", "kind": "vehicle", "since": "2026-01-01", "service_every_days": 180, "odometer_km": 100}],
}


async def test_an_update_is_shown_once_the_answer_says_so(world: World) -> None:
    async with client_of(world) as client:
        asking = asyncio.create_task(client.post("/v1/customers/updates", json=FIRM))
        while not world.bus.records(CUSTOMER_UPDATES):
            await asyncio.sleep(0.01)
        await world.bus.settle()
        answer = await asking
        assert answer.status_code == 200, answer.text
        shown = answer.json()
        assert (shown["customer_type"], shown["lead_source"]) == ("wholesaler", "exhibition")
        assert shown["decision_makers"] == [{"person_id": "g", "name": "Grace", "role": "buyer"}]
        assert shown["assets"][0]["due"] == [{"on": "2026-06-30", "reason": "service_by_date"}]
        assert (await client.get("/v1/customers/lookup", params={"reference": CARD})).json() == shown


async def test_a_retry_is_answered_as_the_first_and_another_request_under_its_key_is_not(world: World) -> None:
    consent = {"reference": CARD, "consents": [CONSENT]}
    async with client_of(world) as client:
        for way, body in (("updates", FIRM), ("consents", consent), ("consents", {**consent, "at": "2026-03-01T12:30:00Z"})):
            headers = {"idempotency-key": f"form-{way}-{len(body)}"}
            first = await world.answered(client.post(f"/v1/customers/{way}", json=body, headers=headers))
            assert isinstance(world.clock, ReplayClock)
            world.clock.observe(world.clock.now() + timedelta(seconds=2))
            again = await client.post(f"/v1/customers/{way}", json=body, headers=headers)
            assert (first.status_code, again.status_code) == (200, 200)
            assert (again.json()["customer_id"], again.json()["consents"]) == (first.json()["customer_id"], first.json()["consents"])
            other = {**body, **({"traits": {"name": "Other"}} if way == "updates" else {"consents": [{**CONSENT, "granted": False}]})}
            assert is_problem(await client.post(f"/v1/customers/{way}", json=other, headers=headers), 409)
        await world.bus.settle()
        outcomes = (await client.get("/v1/outcomes")).json()
        assert (outcomes["accepted"], outcomes["repeated"], outcomes["quarantined"]) == (3, 0, 0)


async def test_a_person_is_not_merged_with_himself_and_what_is_one_is_not_merged_again(world: World) -> None:
    async with client_of(world) as client:
        await world.send(purchase("1"), purchase("2", "loyalty_card:77"))
        one, other = new_profile_id(CARD), new_profile_id("loyalty_card:77")
        words = {"by": "call centre", "evidence": "same voice"}

        async def ask(what: str, key: str | None = None, **asked: Any) -> httpx.Response:
            headers = {"idempotency-key": key} if key else {}
            return await world.answered(client.post(f"/v1/customers/{one}/{what}", json={**words, **asked}, headers=headers))

        assert is_problem(await ask("merge", other_id=one), 422)
        merged = [await ask("merge", key, other_id=other) for key in ("m", "m", None)]
        assert [(each.status_code, each.json()["customers"][0]["members"]) for each in merged] == [(200, sorted((one, other)))] * 3
        [decision] = (await client.get(f"/v1/customers/{one}/merges")).json()["merges"]
        assert (decision["action"], decision["profiles"]) == ("merged", [one, other])
        assert [(await ask("split", "s", profiles=[other])).status_code for _ in range(2)] == [200, 200]
        await world.send(identify("3", (CARD, "loyalty_card:77"), at=day(1)))
        told = (await client.get(f"/v1/customers/{other}/merges")).json()["merges"]
        assert [(each["action"], each["rule"]) for each in told][1:] == [("split", "requested"), ("refused", "split_before")]
        assert [each["event"] for each in told][1:] == ["s", "3"]


async def test_what_was_set_aside_can_be_looked_at(world: World) -> None:
    mails = tuple(f"email:a{number}@example.com" for number in range(5))
    async with client_of(world) as client:
        await world.send(purchase("1"), purchase("1", amount=3), purchase("2", amount=-1))
        await world.send(identify("3", mails), identify("4", (mails[0], "email:b@example.com")))
        [quarantined] = (await client.get("/v1/outcomes/quarantined")).json()["outcomes"]
        assert (quarantined["source"], quarantined["id"]) == ("till/1", "1")
        kept = await client.get("/v1/outcomes/quarantined/event", params={"origin": quarantined["origin"]})
        assert (kept.status_code, kept.json()["data"]["lines"][0]["amount_minor"]) == (200, 3)
        [parked] = (await client.get("/v1/outcomes/parked")).json()["outcomes"]
        sent = await client.get("/v1/outcomes/parked/event", params={"origin": parked["origin"]})
        assert (sent.json()["id"], "id" in parked) == ("2", False)
        [refused] = (await client.get("/v1/outcomes/merge_refused")).json()["outcomes"]
        assert (refused["reason"], refused["id"]) == ("limit_email", "4")
        assert "left out" in refused["detail"]
        assert is_problem(await client.get("/v1/outcomes/parked/event", params={"origin": "x/0/0"}), 404)
        assert is_problem(await client.get("/v1/outcomes/bogus"), 422)


@pytest.mark.parametrize(
    "change",
    [{"references": []}, {"references": ["user:null"]}, {"lead_source": "luck"}, {"assets": [{"asset_id": "a", "since": "2026-02-30"}]}],
)
async def test_an_update_that_cannot_be_is_refused(world: World, change: dict[str, Any]) -> None:
    async with client_of(world) as client:
        assert (await client.post("/v1/customers/updates", json={**FIRM, **change})).status_code == 422
        assert not world.bus.records(CUSTOMER_UPDATES)


async def test_the_nearest_service_point_of_a_customer(world: World) -> None:
    hours = {day: ["00:00-24:00"] for day in ("mon", "tue", "wed", "thu", "fri", "sat", "sun")}
    near = {"id": "1", "name": "Silom", "latitude": 13.72, "longitude": 100.53, "time_zone": "Asia/Bangkok"}
    far = {"id": "2", "name": "Nimman", "latitude": 18.79, "longitude": 98.97, "time_zone": "Asia/Bangkok", "hours": hours}
    async with client_of(world, IdentitySettings(service_points=(far, near))) as client:
        await world.send(identify("1", (CARD,), traits=FIRM["traits"]))
        customer = (await client.get("/v1/customers/lookup", params={"reference": CARD})).json()["customer_id"]
        found = (await client.get("/v1/service-points/nearest", params={"customer_id": customer})).json()["service_points"]
        assert [(each["name"], each["is_open"]) for each in found] == [("Silom", False), ("Nimman", True)]
        assert 4 < found[0]["distance_km"] < 6
        asked = {"latitude": 13.7, "longitude": 100.5, "is_open": True}
        assert [each["id"] for each in (await client.get("/v1/service-points/nearest", params=asked)).json()["service_points"]] == ["2"]
        assert len((await client.get("/v1/service-points")).json()["service_points"]) == 2
        assert is_problem(await client.get("/v1/service-points/nearest"), 422)
        assert is_problem(await client.get("/v1/service-points/nearest", params={"customer_id": "nobody"}), 404)


CONSENT = {"purpose": "marketing", "channel": "email", "granted": True}


async def test_consents_are_in_force_when_the_answer_says_so(world: World) -> None:
    async with client_of(world) as client:
        await world.send(purchase("1"))
        asking = asyncio.create_task(client.post("/v1/customers/consents", json={"reference": CARD, "consents": [CONSENT]}))
        while not world.bus.records(CUSTOMER_UPDATES):
            await asyncio.sleep(0.01)
        await world.bus.settle()
        answer = await asking
        assert answer.status_code == 200
        assert answer.json()["consents"] == [{**CONSENT, "at": "2026-03-01T12:00:00Z"}]
        stated = (await client.get(f"/v1/customers/{answer.json()['customer_id']}/consents")).json()["statements"]
        assert [(each["granted"], each["source"]) for each in stated] == [(True, "dear/identity/api")]


@pytest.mark.parametrize("reference", [CARD, "user:สมชาย & 7"])
@pytest.mark.parametrize("said", [{"at": NOON.isoformat()}, {}], ids=["dated", "undated"])
async def test_consents_that_take_longer_are_accepted_and_located(
    world: World, monkeypatch: pytest.MonkeyPatch, reference: str, said: dict[str, str]
) -> None:
    monkeypatch.setattr("services.identity.api.customers.EFFECT_SECONDS", 0.05)
    async with client_of(world) as client:
        body = {"reference": reference, "consents": [CONSENT], **said}
        answer = await client.post("/v1/customers/consents", json=body, headers={"idempotency-key": "k"})
        assert answer.status_code == 202
        await world.bus.settle()
        assert (await client.get(answer.headers["location"])).json()["consents"] == [{**CONSENT, "at": "2026-03-01T12:00:00Z"}]
        assert (await client.post("/v1/customers/consents", json=body, headers={"idempotency-key": "k"})).status_code == 200
        await world.bus.settle()
        outcomes = (await client.get("/v1/outcomes")).json()
        assert (outcomes["accepted"], outcomes["repeated"]) == (1, 0), "what was said is not sent again"


@pytest.mark.parametrize("change", [{"reference": "nobody"}, {"consents": []}, {"consents": [{}]}, {"at": "2099-01-01T00:00:00Z"}])
async def test_consents_that_say_nothing_are_refused(world: World, change: dict[str, Any]) -> None:
    async with client_of(world) as client:
        answer = await client.post("/v1/customers/consents", json={"reference": CARD, "consents": [CONSENT], **change})
        assert answer.status_code == 422
        assert answer.headers["content-type"] == MEDIA_TYPE


async def test_every_statement_keeps_what_proves_it_and_says_whether_its_text_is_known(world: World) -> None:
    proof = {"lawful_basis": "consent", "text_version": "news-1", "method": "checkbox", "place": "web/checkout", "evidence": "order 7"}
    async with client_of(world) as client:
        await world.send(identify("1", (CARD,), consents=[{**CONSENT, **proof}]), consent("2", False, at=day(1)))
        customer = (await client.get("/v1/customers/lookup", params={"reference": CARD})).json()["customer_id"]

        async def statements() -> list[dict[str, Any]]:
            return list((await client.get(f"/v1/customers/{customer}/consents")).json()["statements"])

        withdrawn, granted = await statements()
        assert (withdrawn["action"], withdrawn["text"], withdrawn["evidence"]) == ("withdrawn", "none", None)
        assert granted == {
            **CONSENT, **proof, "at": "2026-03-01T12:00:00+00:00", "action": "granted", "source": "till/1", "event": "1",
            "text_sha256": None, "text": "unknown",
        }  # fmt: skip
        registered = await client.put("/v1/consent-texts/news-1", json={"text": "I want news"})
        assert (registered.status_code, (await client.put("/v1/consent-texts/news-1", json={"text": "I want news"})).status_code) == (
            201,
            200,
        )
        assert is_problem(await client.put("/v1/consent-texts/news-1", json={"text": "I want more"}), 409)
        known = (await statements())[1]
        assert (known["text"], known["text_sha256"]) == ("registered", registered.json()["sha256"])
        assert [each["version"] for each in (await client.get("/v1/consent-texts")).json()["texts"]] == ["news-1"]


async def test_the_overview_counts(world: World) -> None:
    async with client_of(world) as client:
        await world.send(
            purchase("1"),
            purchase("1"),
            purchase("1", amount=3),
            consent("2", True),
            purchase("3", amount=-1),
            purchase("7", "phone:+66812345678"),
        )
        await world.send(identify("8", (CARD, "phone:+66812345678")))
        await world.send(purchase("4", None), purchase("5", None, amount=50), refund("6", None), purchase("9", None, at=day(1)))
        outcomes = (await client.get("/v1/outcomes")).json()
        assert outcomes == {
            "accepted": 4, "anonymous": 4, "repeated": 1, "quarantined": 1, "lost": 0, "erased": 0, "parked": 1, "merges_refused": 1,
            "reasons": {"quarantined": {"other_content": 1}, "parked": {"negative_amount": 1}, "merge_refused": {"weak_reference": 1}},
        }  # fmt: skip
        of_updates = (await client.get("/v1/outcomes", params={"topic": CUSTOMER_UPDATES.name})).json()
        assert of_updates == {"accepted": 2, "anonymous": 0, "repeated": 0, "quarantined": 0, "lost": 0, "erased": 0}
        of_purchases = (await client.get("/v1/outcomes", params={"topic": PURCHASES.name})).json()
        assert {name: of_purchases[name] + of_updates[name] for name in of_updates} == {name: outcomes[name] for name in of_updates}
        assert sum((await client.get("/v1/outcomes", params={"topic": "elsewhere"})).json().values()) == 0
        assert (await client.get("/v1/summary")).json() == {"customers": 2, "events": 8, "anonymous": 4}
        [parked] = (await client.get("/v1/outcomes/parked")).json()["outcomes"]
        assert parked["reason"] == "negative_amount"
        assert (await client.get("/v1/stores/anonymous")).json()["days"] == [
            {"store": "main street", "day": "2026-03-01", "events": 3, "sales": 2, "bought": 1300, "refunded": 250},
            {"store": "main street", "day": "2026-03-02", "events": 1, "sales": 1, "bought": 1250, "refunded": 0},
        ]


@pytest.mark.parametrize("asked", [{}, {"partition": 8}, {"partition": -1}, {"partition": 0, "after": [["a", 0]]}, []])
async def test_a_timeline_that_cannot_be_asked_for_is_refused(world: World, asked: Any) -> None:
    async with client_of(world) as client:
        assert (await client.post("/v1/timeline/read", json=asked)).status_code == 422
