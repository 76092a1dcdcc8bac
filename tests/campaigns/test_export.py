"""Offers and the ledger, all of them, or what changed since."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import httpx
import pytest

from tests.campaigns.test_api import api
from tests.campaigns.world import NOON, World, bought, profile

pytestmark = pytest.mark.anyio
__all__ = ["api"]


async def rows_of(api: httpx.AsyncClient, path: str, **query: str) -> list[dict[str, Any]]:
    answer = await api.get(f"/v1/export/{path}", params=query)
    _, *rows, end = [json.loads(line) for line in answer.text.splitlines()]
    assert end == {"end": len(rows)}
    return rows


async def test_the_ledger_is_told_entry_by_entry(world: World, api: httpx.AsyncClient) -> None:
    await world.identity.tell(1, bought("p1", 1000), bought("p2", 250))
    await world.bus.settle()
    rows = await rows_of(api, "ledger")
    said = (await api.get(f"/v1/customers/{profile(1)}/loyalty")).json()["entries"]
    assert {row["id"]: row for row in rows}.keys() == {entry["id"] for entry in said}
    assert sum(row["points"] for row in rows) == 12
    later = max(row["posted_at"] for row in rows)
    assert len(await rows_of(api, "ledger", since=later)) >= 1
    assert await rows_of(api, "ledger", since="2999-01-01T00:00:00Z") == []


async def test_offers_are_told_as_they_stand(world: World, api: httpx.AsyncClient) -> None:
    await world.know(1)
    await world.enter(1, "leaving", 1)
    await world.bus.settle()
    rows = await rows_of(api, "offers")
    said = (await api.get(f"/v1/customers/{profile(1)}/offers")).json()["offers"]
    assert sorted(row["id"] for row in rows) == [offer["id"] for offer in said]
    assert {row["status"] for row in rows} == {offer["status"] for offer in said}
    assert len(await rows_of(api, "offers", since=NOON.isoformat())) == len(rows)
    assert await rows_of(api, "offers", since=(NOON + timedelta(seconds=1)).isoformat()) == []
