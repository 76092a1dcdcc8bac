"""Retention rules that reach through all services: whoever was not heard of is erased, and points of scores go."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest

from services.identity.domain.resolution import new_profile_id
from services.segmentation.store import history
from shared.contracts.topics import CUSTOMERS
from shared.mongo import in_store
from tests.identity.world import CARD, NOON, day, identify, interaction, purchase, split
from tests.privacy.world import Everything

pytestmark = pytest.mark.anyio
MAIL, BOB = "email:canary.ann@example.com", "loyalty_card:77"
ALLOWED = [{"purpose": "marketing", "channel": "email", "granted": True}]


@pytest.fixture(autouse=True)
def no_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.retention.RESTS", 0)
    monkeypatch.setattr("shared.retention.ROUND_RESTS", timedelta(0))
    monkeypatch.setattr("shared.retention.RESTS_AFTER_ROUND", 0)


async def requests_of(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await client.get("/v1/privacy/requests")).json()["requests"]
    return found


async def test_who_was_not_heard_of_is_erased_everywhere_and_its_proof_says_why(new_everything: Callable[..., Everything]) -> None:
    everything = new_everything(inactive_customers=20)
    async with everything.running() as client:
        await everything.send(identify("1", (CARD, MAIL), consents=ALLOWED, traits={"name": "Canary"}), purchase("2"), purchase("3", BOB))
        await everything.live(4)
        assert await requests_of(client) == []
        everything.clock.observe(day(30))
        await everything.send(purchase("4", BOB, at=day(30)))
        for _ in range(60):
            await everything.live(1)
            if (found := await requests_of(client)) and found[0]["state"] == "done":
                break
        [request] = found
        assert (request["kind"], request["reason"], request["customer_id"]) == ("erasure", "retention", new_profile_id(CARD))
        proof = request["proof"]
        assert (proof["reason"], proof["nothing_heard_since"]) == ("retention", NOON.isoformat())
        assert (proof["erased"]["identity"]["events"], proof["kept"]["campaigns"]["ledger_entries"]) == (2, 1)
        await everything.live(6)
        assert everything.where("canary.ann@example.com", "Canary") == set()
        assert {record.key: record.value for record in everything.bus.records(CUSTOMERS)}[new_profile_id(CARD).encode()] is None
        assert (await client.get("/v1/customers/lookup", params={"reference": BOB})).status_code == 200
        assert len(await requests_of(client)) == 1


async def test_who_is_heard_of_before_the_work_begins_stays(new_everything: Callable[..., Everything], monkeypatch: Any) -> None:
    everything = new_everything(inactive_customers=20)
    async with everything.running() as client:
        await everything.send(purchase("1"))
        everything.clock.observe(day(30))
        monkeypatch.setattr("services.identity.clerk.AT_ONCE", 0)  # Nobody works on requests.
        for _ in range(40):
            await everything.live(1)
            if found := await requests_of(client):
                break
        assert [each["state"] for each in found] == ["received"]
        await everything.send(purchase("2", at=day(30)))
        monkeypatch.setattr("services.identity.clerk.AT_ONCE", 20)
        for _ in range(40):
            await everything.live(1)
            if (found := await requests_of(client))[0]["state"] == "done":
                break
        [request] = found
        assert request["proof"]["heard_of_meanwhile"] is True
        assert (await client.get(f"/v1/customers/{new_profile_id(CARD)}")).status_code == 200


async def test_a_form_that_was_emptied_is_not_taken_in_again_after_an_erasure(new_everything: Callable[..., Everything]) -> None:
    everything = new_everything(updates=20, interactions=20)
    both = identify("both", (CARD, BOB), traits={"name": "Canary"})
    async with everything.running() as client:
        await everything.send(purchase("1"), purchase("2", BOB), identify("3", (CARD, MAIL)), interaction("4"))
        await everything.send(both)
        await everything.send(split("5", CARD, BOB))
        everything.clock.observe(day(30))
        timeline = everything.databases["identity"]["timeline"]
        for _ in range(60):
            await everything.live(1)
            if timeline.count_documents({"event": b""}) == 4:
                break
        assert {each["_id"][7:] for each in timeline.find({"event": b""})} == {"3", "4", "5", "both"}
        await everything.ask(client, "erasure", reference=CARD)
        # What only an emptied form names is found all the same.
        assert (await client.get("/v1/customers/lookup", params={"reference": MAIL})).status_code == 404
        await everything.send(both)
        bob = (await client.get("/v1/customers/lookup", params={"reference": BOB})).json()
        assert (bob["customer_id"], bob["traits"]) == (new_profile_id(BOB), {})


async def test_points_of_scores_go_when_they_are_old_enough(new_everything: Callable[..., Everything]) -> None:
    everything = new_everything(score_history=20)
    points = everything.databases["segmentation"]["score_points"]
    customer, today = new_profile_id(CARD), int(NOON.timestamp()) // 86_400
    scores, ages = dict.fromkeys(history.POINT_SCORES, 0), (19, 20, 21, 100, 399, 500)
    await in_store(
        history.write_score_points, [history.score_point(customer, today - age, NOON - timedelta(days=age), scores) for age in ages]
    )

    async def ages_kept(oldest: int) -> list[int]:
        for _ in range(60):
            await everything.live(1)
            days = {each["day"] for each in points.find({"_id": {"$regex": f"^{customer}"}})}
            if min(days) >= today - oldest and today in days:
                break
        await everything.live(5)
        return sorted(today - each["day"] for each in points.find({"_id": {"$regex": f"^{customer}"}}))

    async with everything.running():
        await everything.send(purchase("1"), purchase("2", BOB))
        assert await ages_kept(20) == [0, 19, 20]
        # A day on, only what grew old meanwhile has to be looked for.
        everything.clock.observe(day(1))
        assert set(await ages_kept(19)) - {-1} == {0, 19}
