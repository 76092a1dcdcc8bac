"""API keys and the audit log, over HTTP and on a real database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pymongo.errors import AutoReconnect

from services.campaigns import app as campaigns
from services.campaigns.settings import CampaignsSettings
from services.identity import app as identity
from services.identity.api.keys import roster
from services.identity.settings import IdentitySettings
from services.identity.store import keys as store
from shared.access.audit import AuditLog
from shared.access.gate import Gate
from shared.access.keyring import Keyring
from shared.access.keys import digest_of, service_key
from shared.access.learning import ask_identity
from shared.contracts.topics import CUSTOMER_UPDATES
from shared.http import create_app
from shared.streaming.errors import Unavailable
from shared.streaming.progress import Progress
from shared.timeline import read_timeline
from tests.identity.test_api import CONSENT, is_problem
from tests.identity.world import CARD, World, identify, purchase

pytestmark = pytest.mark.anyio
PEPPER = "a pepper of some length"
OPERATOR = service_key(PEPPER.encode(), "operator")
EVENTS = {"content-type": "application/cloudevents-batch+json"}


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


class Door:
    """Identity with its gate and its audit log, as a process has them."""

    def __init__(self, world: World, *, write_keys: tuple[str, ...] = (), pepper: str | None = PEPPER) -> None:
        settings = IdentitySettings(key_pepper=pepper, ingest_write_keys=write_keys)
        service = identity.build(world.bus, settings, world.clock)
        self.world, self.audit = world, AuditLog("identity")
        self.ring = Keyring(settings.pepper, roster)
        gate = Gate(self.ring, is_loopback=True, write_keys=write_keys, audit=self.audit)
        self.app: FastAPI = create_app(service, world.clock, Progress(), gate=gate)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[httpx.AsyncClient]:
        await self.world.start()
        async with httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://identity") as client:
            yield client

    async def entries(self, client: httpx.AsyncClient, **wanted: Any) -> list[dict[str, Any]]:
        await self.audit.flush()
        answer = await client.get("/v1/audit", params=wanted, headers=bearer(OPERATOR))
        assert answer.status_code == 200, answer.text
        return list(answer.json()["entries"])


async def make(client: httpx.AsyncClient, *scopes: str, by: str = OPERATOR, **more: Any) -> dict[str, Any]:
    answer = await client.post("/v1/keys", json={"scopes": list(scopes), **more}, headers=bearer(by))
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def test_a_key_is_shown_once_and_only_its_keyed_hash_is_kept(world: World) -> None:
    async with Door(world).client() as client:
        made = await make(client, "profiles:read", "ingest", name="till", rate=7, expires_in_days=30)
        key_id, secret = made["key"].split("_")[1:]
        expected = {"id": key_id, "scopes": ["ingest", "profiles:read"], "rate": 7, "created_by": "service:operator"}
        assert expected.items() <= made.items()
        [(name, kept)] = store.every()
        assert (name, kept.digest) == ("till", digest_of(PEPPER.encode(), key_id, secret))
        assert kept.expires_at is not None
        assert kept.expires_at - kept.created_at == timedelta(days=30)
        everything = str([*world.database["api_keys"].find(), *world.database["audit"].find()])
        assert secret not in everything
        assert PEPPER not in everything
        listed = (await client.get("/v1/keys", headers=bearer(OPERATOR))).json()["keys"]
        assert listed == [{name: value for name, value in made.items() if name != "key"}]


async def test_the_first_key_closes_what_was_open(world: World) -> None:
    async with Door(world).client() as client:
        assert (await client.get("/v1/customers")).status_code == 200
        assert is_problem(await client.get("/v1/keys"), 401), "keys are never open"
        made = await make(client, "profiles:read")
        assert is_problem(await client.get("/v1/customers"), 401)
        assert is_problem(await client.post("/v1/events", json=[], headers=EVENTS), 401)
        for headers in (bearer(made["key"]), {"authorization": httpx.BasicAuth(made["key"], "")._auth_header}):
            assert (await client.get("/v1/customers", headers=headers)).status_code == 200
        assert is_problem(await client.post("/v1/events", json=[], headers={**EVENTS, **bearer(made["key"])}), 403, "missing_scope")
        await client.delete(f"/v1/keys/{made['id']}", headers=bearer(OPERATOR))
        assert is_problem(await client.get("/v1/customers"), 401), "and revoking the last one does not open it again"


@pytest.mark.parametrize("way", ["basic", "bearer", "body"])
async def test_a_key_sends_events_on_every_way_in(live_world: World, way: str) -> None:
    track = {"type": "track", "event": "Product Viewed", "userId": "7", "messageId": "m1"}
    async with Door(live_world).client() as client:
        key = (await make(client, "ingest"))["key"]
        given: dict[str, Any] = {"auth": (key, "")} if way == "basic" else {"headers": bearer(key)} if way == "bearer" else {}
        body = {**track, "writeKey": key} if way == "body" else track
        answer = await client.post("/v1/track", json=body, **given)
        assert answer.status_code == 200, answer.text
        assert "ratelimit" in answer.headers
        assert is_problem(await client.post("/v1/track", json={**track, "writeKey": key[:-1]}), 401)


async def test_write_keys_send_events_and_state_consents_beside_keys(live_world: World) -> None:
    async with Door(live_world, write_keys=("k1",)).client() as client:
        assert (await client.get("/v1/customers")).status_code == 200, "as before: write keys alone guard the edge"
        await make(client, "privacy")
        assert (await client.post("/v1/batch", json={"batch": []}, auth=("k1", ""))).status_code == 200
        body = {"reference": CARD, "consents": [CONSENT]}
        assert (await client.post("/v1/customers/consents", json=body, auth=("k1", ""))).status_code in (200, 202)
        assert is_problem(await client.get("/v1/customers", auth=("k1", "")), 403, "missing_scope")


async def test_who_may_only_send_is_shown_ids_where_a_reader_is_shown_the_customer(world: World) -> None:
    door = Door(await world.start())
    async with door.client() as client:
        keys = [(await make(client, *scopes))["key"] for scopes in (("ingest",), ("profiles:write",), ("profiles:write", "profiles:read"))]
        form, other = {"references": [CARD, "email:ann@example.com"], "traits": {"name": "Ann"}}, {"references": ["loyalty_card:77"]}
        posts = [await world.answered(client.post("/v1/customers/updates", json=each, headers=bearer(keys[0]))) for each in (form, other)]
        assert [(post.status_code, post.json().keys()) for post in posts] == [(200, {"customer_id", "members"})] * 2
        ann, bob = (post.json()["customer_id"] for post in posts)
        consent = {"reference": CARD, "consents": [CONSENT]}
        for key, shown in zip(keys, (False, False, True), strict=True):
            answer = await world.answered(client.post("/v1/customers/consents", json=consent, headers=bearer(key)))
            assert (answer.status_code, "traits" in answer.json()) == (200, shown)
        for key, shown in zip(keys[1:], (False, True), strict=True):
            for act, body in (("merge", {"other_id": bob}), ("split", {"profiles": [bob]})):
                asked = {**body, "by": "shop", "evidence": "said so"}
                answer = await world.answered(client.post(f"/v1/customers/{ann}/{act}", json=asked, headers=bearer(key)))
                assert (answer.status_code, "traits" in answer.json()["customers"][0]) == (200, shown), act


async def test_two_keys_of_a_name_may_be_active(world: World) -> None:
    async with Door(world).client() as client:
        first, second = await make(client, "ingest", name="till"), await make(client, "ingest", name="till")
        third = {"scopes": ["ingest"], "name": "till"}
        refused = await client.post("/v1/keys", json=third, headers=bearer(OPERATOR))
        assert is_problem(refused, 409)
        assert first["id"] in refused.json()["detail"]
        for key in (first, second):
            assert (await client.post("/v1/batch", json={"batch": []}, headers=bearer(key["key"]))).status_code == 200
        ended = (await client.delete(f"/v1/keys/{first['id']}", headers=bearer(OPERATOR))).json()
        assert (ended["active"], ended["revoked_at"] is None) == (False, False)
        again = (await client.delete(f"/v1/keys/{first['id']}", headers=bearer(OPERATOR))).json()
        assert again["revoked_at"] == ended["revoked_at"]
        assert is_problem(await client.post("/v1/batch", json={"batch": []}, headers=bearer(first["key"])), 401)
        await make(client, "ingest", name="till")
        assert is_problem(await client.delete("/v1/keys/nobody", headers=bearer(OPERATOR)), 404)


async def test_of_many_keys_made_at_once_two_are_made(world: World) -> None:
    async with Door(world).client() as client:
        asked = [client.post("/v1/keys", json={"scopes": ["ingest"], "name": "till"}, headers=bearer(OPERATOR)) for _ in range(6)]
        assert sorted(answer.status_code for answer in await asyncio.gather(*asked)) == [201, 201, 409, 409, 409, 409]
        assert len(store.every()) == 2


async def test_an_expired_key_opens_nothing(world: World) -> None:
    door = Door(world)
    async with door.client() as client:
        made = await make(client, "profiles:read", expires_in_days=1)
        assert (await client.get("/v1/customers", headers=bearer(made["key"]))).status_code == 200
        door.ring.now = lambda: datetime.now(UTC) + timedelta(days=1)
        answer = await client.get("/v1/customers", headers=bearer(made["key"]))
        assert is_problem(answer, 401)
        assert "expired" in answer.json()["detail"]


@pytest.mark.parametrize(
    "asked", [{}, {"scopes": []}, {"scopes": ["internal"]}, {"scopes": ["public"]}, {"scopes": ["all"]}, {"scopes": ["ingest"], "rate": 0}]
)
async def test_a_key_that_cannot_be_is_refused(world: World, asked: dict[str, Any]) -> None:
    async with Door(world).client() as client:
        answer = await client.post("/v1/keys", json=asked, headers=bearer(OPERATOR))
        assert is_problem(answer, 422)


async def test_nobody_gives_what_he_lacks(world: World) -> None:
    async with Door(world).client() as client:
        clerk = (await make(client, "keys", "ingest"))["key"]
        await make(client, "ingest", by=clerk)
        refused = await client.post("/v1/keys", json={"scopes": ["privacy", "ingest"]}, headers=bearer(clerk))
        assert is_problem(refused, 403)
        assert "privacy" in refused.json()["detail"]


async def test_a_key_that_asks_too_often_is_told_when_to_come_back(world: World) -> None:
    async with Door(world).client() as client:
        key = (await make(client, "profiles:read", rate=1))["key"]
        other = (await make(client, "profiles:read", rate=1))["key"]
        answers = [await client.get("/v1/customers", headers=bearer(key)) for _ in range(12)]
        limited = answers[-1]
        assert is_problem(limited, 429, "rate_limited")
        assert (limited.headers["retry-after"], limited.headers["ratelimit-policy"]) == ("1", '"key";q=10;w=10')
        assert answers[0].headers["ratelimit"].startswith('"key";r=9;')
        assert (await client.get("/v1/customers", headers=bearer(other))).status_code == 200


async def test_without_a_pepper_no_key_is_made_and_it_says_why(world: World) -> None:
    async with Door(world, pepper=None).client() as client:
        answer = await client.post("/v1/keys", json={"scopes": ["ingest"]})
        assert is_problem(answer, 401)
        assert "DEAR_KEY_PEPPER" in answer.json()["detail"]
        assert (await client.get("/v1/customers")).status_code == 200


async def test_services_are_known_by_the_pepper(world: World) -> None:
    door, mine = Door(world), service_key(PEPPER.encode(), "campaigns")
    async with door.client() as client:
        made = await make(client, "reports:read")
        transport = httpx.ASGITransport(door.app)
        await ask_identity("http://identity", mine, transport)
        timeline = await read_timeline("http://identity", 0, (), transport, credential=mine)
        assert [record async for records in timeline for record in records] == []
        for wrong in (None, made["key"]):
            with pytest.raises(Unavailable, match=r"40[13]"):
                await ask_identity("http://identity", wrong, transport)
            with pytest.raises(Unavailable, match=r"40[13]"):
                await read_timeline("http://identity", 0, (), transport, credential=wrong)
        [read] = await door.entries(client, who="service:campaigns")
        assert (read["route"], read["action"], read["outcome"]) == ("/v1/timeline/read", "read", "200"), "the roster is nobody's data"


async def test_another_service_checks_a_key_by_itself(world: World, database: str) -> None:
    door, mine = Door(world), service_key(PEPPER.encode(), "campaigns")
    async with door.client() as client:
        made = await make(client, "rules:write")
        asked = 0

        async def learn() -> Any:
            nonlocal asked
            asked += 1
            return await ask_identity("http://identity", mine, httpx.ASGITransport(door.app))

        service = campaigns.build(world.bus, CampaignsSettings(key_pepper=PEPPER), world.clock)
        ring = Keyring(PEPPER.encode(), learn)
        app = create_app(service, world.clock, Progress(), gate=Gate(ring, is_loopback=True))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://campaigns") as other:
            for _ in range(5):
                assert is_problem(await other.get("/v1/programs", headers=bearer(made["key"])), 403, "missing_scope")
                assert is_problem(await other.get("/v1/programs"), 401)
        assert asked == 1


async def test_reads_and_changes_of_personal_data_are_in_the_log(world: World) -> None:
    door = Door(world)
    async with door.client() as client:
        await world.send(identify("1"), purchase("2", "loyalty_card:7"))
        key = await make(client, "profiles:read", "profiles:write")
        mine, who = bearer(key["key"]), f"key:{key['id']}"
        found = (await client.get("/v1/customers/lookup", params={"reference": "email:ann@example.com"}, headers=mine)).json()
        ann = found["customer_id"]
        await client.get(f"/v1/customers/{ann}/events", headers=mine)
        listed = (await client.get("/v1/customers", headers=mine)).json()["customers"]
        await client.get("/v1/customers/lookup", params={"reference": "email:no@example.com"}, headers=mine)
        await client.get("/v1/outcomes", headers=mine)
        entries = await door.entries(client, who=who)
        assert [(each["route"], each["action"], each["outcome"], each["shown"]) for each in reversed(entries)] == [
            ("/v1/customers/lookup", "read", "200", 1),
            ("/v1/customers/{customer_id}/events", "read", "200", 1),
            ("/v1/customers", "read", "200", 2),
            ("/v1/customers/lookup", "read", "404", 0),
        ]
        assert sorted(entries[1]["about"]) == sorted(each["customer_id"] for each in listed)
        about_ann = await door.entries(client, customer=ann)
        assert [each["route"] for each in about_ann if each["who"] == who] == [each["route"] for each in entries[1:]]
        assert "ann@example.com" not in str(list(world.database["audit"].find()))


async def test_a_change_is_written_down_before_it_is_made(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.identity.api.customers.EFFECT_SECONDS", 0.0)
    door, body = Door(world), {"reference": CARD, "consents": [CONSENT]}
    async with door.client() as client:
        key = await make(client, "profiles:write")
        mine, who = bearer(key["key"]), f"key:{key['id']}"
        with world.failing_write("audit", AutoReconnect("away"), done=False):
            assert is_problem(await client.post("/v1/customers/consents", json=body, headers=mine), 503)
        assert not world.bus.records(CUSTOMER_UPDATES), "what cannot be written down is not done"
        assert (await client.post("/v1/customers/consents", json=body, headers=mine)).status_code == 202
        begun, done = reversed([each for each in await door.entries(client, who=who) if each["outcome"] != "503"])
        assert (begun["outcome"], done["outcome"], begun["action"]) == ("begun", "202", "change")
        assert begun["request"] == done["request"]


async def test_what_waits_survives_an_outage_and_is_written_once(world: World) -> None:
    door = Door(world)
    async with door.client() as client:
        for _ in range(3):
            await client.get("/v1/customers")
        for done in (True, False):
            with world.failing_write("audit", AutoReconnect("away"), done=done), pytest.raises(Unavailable):
                await door.audit.flush()
        await door.audit.finish()
        assert [each["who"] for each in world.database["audit"].find()] == ["open"] * 3


async def test_nothing_is_shown_that_cannot_be_written_down(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.access.audit.WAITING_MAX", 2)
    door = Door(world)
    async with door.client() as client:
        assert [(await client.get("/v1/customers")).status_code for _ in range(3)] == [200, 200, 503]
        await door.audit.flush()
        assert (await client.get("/v1/customers")).status_code == 200


async def test_the_log_is_paged_newest_first(world: World) -> None:
    door = Door(world)
    async with door.client() as client:
        for _ in range(5):
            await client.get("/v1/customers")
        await door.audit.flush()
        seen: list[str] = []
        after: str | None = ""
        while after is not None:
            page = (await client.get("/v1/audit", params={"who": "open", "limit": 2, "after": after})).json()
            seen += [each["id"] for each in page["entries"]]
            after = page["next"]
        assert len(seen) == 5
        assert seen == sorted(seen, reverse=True)
