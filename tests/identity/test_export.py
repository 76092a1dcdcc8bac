"""Everything that identity knows, as it lies there, and exactly what is new since."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.identity.test_api import client_of
from tests.identity.world import World, day, identify, interaction, purchase

pytestmark = pytest.mark.anyio


async def rows_of(client: httpx.AsyncClient, path: str, body: Any = None) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    answer = await (client.get(path) if body is None else client.post(path, json=body))
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    head, *rows, end = [json.loads(line) for line in answer.text.splitlines()]
    assert end == {"end": len(rows)}
    return head["head"], rows


async def test_every_customer_is_told_as_it_is_asked_for(world: World) -> None:
    async with client_of(world) as client:
        await world.send(identify("i1", traits={"name": "Ann"}), *(purchase(f"p{number}", f"user:{number}") for number in range(1, 4)))
        _, rows = await rows_of(client, "/v1/export/customers")
        page = (await client.get("/v1/customers")).json()["customers"]
        assert sorted(rows, key=lambda row: row["customer_id"]) == page
        assert len(rows) == 4


async def test_every_event_is_told_once_and_the_next_time_what_is_new(world: World) -> None:
    async with client_of(world) as client:
        await world.send(identify("i1"), purchase("p1"), purchase("p1"), purchase("p2", None), interaction("c1", at=day(-400)))
        head, rows = await rows_of(client, "/v1/export/events", {})
        told = {row["event"]["id"]: row["profile_id"] for row in rows}
        assert sorted(row["event"]["id"] for row in rows) == ["c1", "i1", "p1", "p2"]
        assert told["p2"] is None
        assert told["i1"] == told["p1"] == told["c1"] is not None

        assert (await rows_of(client, "/v1/export/events", {"after": head["positions"]}))[1] == []
        await world.send(purchase("p1"), purchase("p3", at=day(-300)))
        _, new = await rows_of(client, "/v1/export/events", {"after": head["positions"]})
        assert [row["event"]["id"] for row in new] == ["p3"]


async def test_events_since_a_time_are_those_that_happened_then_or_later(world: World) -> None:
    async with client_of(world) as client:
        await world.send(purchase("old", at=day(-2)), purchase("at", at=day(-1)), purchase("new"))
        _, rows = await rows_of(client, "/v1/export/events", {"since": day(-1).isoformat()})
        assert sorted(row["event"]["id"] for row in rows) == ["at", "new"]
