"""What campaigns answers over HTTP, and how it refuses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from services.campaigns.domain.holdout import holdout
from services.campaigns.programs import shipped_programs
from services.campaigns.store import programs
from shared.http import create_app
from shared.streaming.progress import Progress
from tests.campaigns.world import NOON, World, bought, profile, refunded

pytestmark = pytest.mark.anyio


@pytest.fixture
async def api(world: World) -> AsyncIterator[httpx.AsyncClient]:
    await world.bus.start()
    app = create_app(world.service, world.clock, Progress())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://campaigns") as client:
        yield client


async def answer(response: httpx.Response, status: int = 200) -> Any:
    assert response.status_code == status, response.text
    if status >= 400:
        assert response.headers["content-type"] == "application/problem+json"
    return response.json()


async def test_the_ledger_in_figures(world: World, api: httpx.AsyncClient) -> None:
    await world.identity.tell(1, bought("p1", 1000), refunded("r1", 300))
    await world.identity.tell(2, refunded("r2", 500))
    await world.bus.settle()
    summary = await answer(await api.get("/v1/loyalty/summary"))
    assert summary == {"ledger_sum": 2, "entries": 3, "liability_points": 7, "liability_minor": 7, "debt_points": 5}
    report = await answer(await api.get("/v1/reports/ledger"))
    assert report == {**summary, "by_kind": {"earned": 10, "reversed": -8}}


async def test_an_empty_ledger_owes_nothing(api: httpx.AsyncClient) -> None:
    assert set((await answer(await api.get("/v1/loyalty/summary"))).values()) == {0}


async def test_balances_of_many_customers_are_sums_over_their_members(world: World, api: httpx.AsyncClient) -> None:
    await world.know(1, version=2, members=[2])
    await world.bus.settle()
    for number in (1, 2, 3):
        await world.identity.tell(number, bought(f"p{number}", 1000 * number))
    await world.bus.settle()
    wanted = [profile(number) for number in (1, 3, 4)]
    found = await answer(await api.post("/v1/loyalty/balances", json={"customers": wanted}))
    assert found == {"balances": {profile(1): 30, profile(3): 30, profile(4): 0}}
    assert (await answer(await api.post("/v1/loyalty/balances", json={"customers": []}))) == {"balances": {}}


async def test_a_customers_entries_are_paged_newest_first(world: World, api: httpx.AsyncClient) -> None:
    told = [bought(f"p{number}", 100 * number, NOON + timedelta(hours=number // 2)) for number in range(7)]
    await world.identity.tell(1, *told)
    await world.bus.settle()
    seen: list[dict[str, Any]] = []
    after: dict[str, str] = {}
    while page := (await answer(await api.get(f"/v1/customers/{profile(1)}/loyalty", params={"limit": 3, **after})))["entries"]:
        seen += page
        after = {"after": page[-1]["id"]}
    assert {entry["cause_id"] for entry in seen} == {f"p{number}" for number in range(7)}
    assert [entry["occurred_at"] for entry in seen] == sorted((entry["occurred_at"] for entry in seen), reverse=True)
    assert len(seen) == 7
    assert (await answer(await api.get(f"/v1/customers/{profile(1)}/loyalty")))["balance"] == 21


async def test_an_unknown_customer_is_said_to_be_unknown_and_a_known_one_may_have_no_points(world: World, api: httpx.AsyncClient) -> None:
    await world.know(1)
    await world.bus.settle()
    assert (await answer(await api.get(f"/v1/customers/{profile(1)}/loyalty")))["balance"] == 0
    assert profile(9) in (await answer(await api.get(f"/v1/customers/{profile(9)}/loyalty"), 404))["detail"]
    await answer(await api.get("/v1/customers/nobody/loyalty"), 422)


async def test_a_customers_offers_and_the_report(world: World, api: httpx.AsyncClient) -> None:
    number = next(number for number in range(99) if not holdout("win_back", 0.1, profile(number)))
    await world.enter(number, "leaving", 1)
    await world.bus.settle()
    (offer,) = (await answer(await api.get(f"/v1/customers/{profile(number)}/offers")))["offers"]
    assert (offer["program"], offer["status"], offer["score"]["risk"]) == ("win_back", "pending", 0.8)
    assert (await answer(await api.get(f"/v1/customers/{profile(number)}/offers", params={"after": offer["id"]})))["offers"] == []
    await world.deliver(offer["id"], number, "suppressed", "no_consent")
    await world.bus.settle()
    report = await answer(await api.get("/v1/reports/offers"))
    counts = {"total": 1, "held_out": 0, "sent": 0, "failed": 0, "unknown": 0, "pending": 0, "suppressed": {"no_consent": 1}, "skipped": {}}
    assert report == {**counts, "programs": {"win_back": counts}}


async def test_programs_are_shown_with_all_their_versions(api: httpx.AsyncClient) -> None:
    programs = (await answer(await api.get("/v1/programs")))["programs"]
    assert [(program["name"], program["version"]) for program in programs] == [("points", 1), ("welcome", 1), ("win_back", 1)]
    await answer(await api.get("/v1/programs/nothing"), 404)


async def test_a_new_version_is_kept_beside_the_old_and_holds_from_now(world: World, api: httpx.AsyncClient) -> None:
    (old,) = (await answer(await api.get("/v1/programs/points")))["versions"]
    new = {**old, "version": 2, "earning": {"minor_per_point": 50}}
    made = await answer(await api.put("/v1/programs/points", json=new), 201)
    assert (made["version"], made["starts_at"]) == (2, "2026-03-01T12:00:00Z")
    assert [each["version"] for each in (await answer(await api.get("/v1/programs/points")))["versions"]] == [1, 2]
    before = NOON - timedelta(seconds=1)
    await world.identity.tell(1, bought("p1", 1000), bought("p2", 1000, before), refunded("r2", 1000, before))
    await world.bus.settle()
    assert sorted((entry["points"], entry["program_version"]) for entry in world.entries()) == [(-10, 1), (10, 1), (20, 2)]
    assert "next version of points is 3" in (await answer(await api.put("/v1/programs/points", json=new), 409))["detail"]


async def test_a_program_that_was_switched_off_stays_off_after_a_restart(world: World, api: httpx.AsyncClient) -> None:
    (old,) = (await answer(await api.get("/v1/programs/welcome")))["versions"]
    off = {**{name: value for name, value in old.items() if name != "version"}, "active": False}
    await answer(await api.put("/v1/programs/welcome", json=off), 201)
    await world.bus.restart()
    await world.know(1)
    await world.bus.settle()
    assert world.offers() == []


async def test_a_later_release_does_not_replace_the_programs_that_are_there(api: httpx.AsyncClient) -> None:
    programs.ship([program.model_copy(update={"version": 7}) for program in shipped_programs()], NOON)
    assert {program.version for program in programs.every_version()} == {1}


@pytest.mark.parametrize(("changes", "at"), [
    ({"holdout_share": 2}, "holdout_share"),
    ({"proposal": {"template": "t", "window_days": 1, "cooldown_days": -1, "valid_days": 1}}, "proposal/cooldown_days"),
    ({"trigger": {"on": "segment_entered", "segments": []}}, "trigger/segment_entered/segments"),
    ({"colour": "red"}, "colour"),
])  # fmt: skip
async def test_an_invalid_program_is_refused_with_the_path(api: httpx.AsyncClient, changes: dict[str, Any], at: str) -> None:
    (old,) = (await answer(await api.get("/v1/programs/win_back")))["versions"]
    problem = await answer(await api.put("/v1/programs/win_back", json={**old, "version": 2, **changes}), 422)
    assert at in [fault["at"] for fault in problem["errors"]]
    assert len((await answer(await api.get("/v1/programs/win_back")))["versions"]) == 1


async def test_a_second_loyalty_program_is_refused(api: httpx.AsyncClient) -> None:
    (old,) = (await answer(await api.get("/v1/programs/points")))["versions"]
    problem = await answer(await api.put("/v1/programs/stars", json=old), 409)
    assert "purchase earns once" in problem["detail"]
