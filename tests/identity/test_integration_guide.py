"""Every request in the guide works as it is written there."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest

from services.identity.store import positions
from tests.identity.test_api import client_of
from tests.identity.world import World

pytestmark = pytest.mark.anyio
GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "integrate.md").read_text()
REQUESTS = re.findall(r"curl http://127\.0\.0\.1:8081(\S+) -H 'Content-Type: (\S+)'[^\n]* --data '(.*?)'\n", GUIDE, flags=re.DOTALL)


async def test_every_request_of_the_guide_is_accepted(live_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.identity.api.customers.EFFECT_SECONDS", 0.05)
    assert len(REQUESTS) == GUIDE.count("--data")
    async with client_of(live_world) as client:
        for path, media, body in REQUESTS:
            answer = await client.post(path, content=body, headers={"content-type": media})
            assert answer.status_code == (200 if media == "application/json" and "consents" not in path else 202), answer.text
        await live_world.bus.settle()
        counts = positions.outcomes()
        assert (counts["accepted"], counts["anonymous"]) == (9, 1)
        assert sum(counts.values()) == 10
        assert (await found(client, "loyalty_card:42"))["traits"] == {"city": "Chiang Mai", "first_name": "Ann"}


async def found(client: httpx.AsyncClient, reference: str) -> dict[str, object]:
    return dict((await client.get("/v1/customers/lookup", params={"reference": reference})).json())
