"""What identity merges and splits, segmentation scores: the services together."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from services.segmentation.store import scores as store
from shared.contracts.topics import PROFILE_ROWS
from tests.identity.world import CARD, identify, purchase
from tests.privacy.world import Everything

pytestmark = pytest.mark.anyio
OTHER_CARD = "loyalty_card:77"
OF_EVERYBODY = ("as_of", "value_class", "rfm_cell")
"""Move with the market that a round of re-scoring finds."""


async def decided(everything: Everything, client: httpx.AsyncClient, path: str, **asked: Any) -> None:
    """A person decides, and it is heard of."""
    asking = asyncio.create_task(client.post(path, json={"by": "call centre", "evidence": "ticket 7", **asked}))
    while not asking.done():
        await everything.live(1)
    assert (await asking).status_code in (200, 202)
    await everything.live(8)


def scores_of(customer: str) -> dict[str, Any]:
    return {name: value for name, value in (store.read_scores(customer) or {}).items() if name not in OF_EVERYBODY}


async def test_a_merge_adds_scores_up_and_a_split_gives_each_its_own(everything: Everything) -> None:
    async with everything.running() as client:
        await everything.send(identify("1", (CARD,)), identify("4", (OTHER_CARD,)))
        await everything.send(purchase("2", CARD), purchase("5", OTHER_CARD), purchase("6", OTHER_CARD))
        await everything.live(8)
        found = [(await client.get("/v1/customers/lookup", params={"reference": card})).json() for card in (CARD, OTHER_CARD)]
        one, other = (each["customer_id"] for each in found)
        before = {customer: scores_of(customer) for customer in (one, other)}
        await decided(everything, client, f"/v1/customers/{one}/merge", other_id=other)
        home = (await client.get(f"/v1/customers/{other}")).json()["customer_id"]
        away = other if home == one else one
        assert (scores_of(home)["purchases"], scores_of(home)["others"], scores_of(away)) == (3, [away], {})
        assert store.read_scores_of((away,))[away]["_id"] == home
        await decided(everything, client, f"/v1/customers/{home}/split", profiles=[away])
        assert {customer: scores_of(customer) for customer in (one, other)} == before
        assert not {record.key: record.value for record in everything.bus.records(PROFILE_ROWS)}[
            everything.bus.records(PROFILE_ROWS)[0].key
        ]
