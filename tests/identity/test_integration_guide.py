"""Every request in the guide works as it is written there."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from pathlib import Path

import httpx
import jsonschema
import pytest

from services.identity import app as identity
from services.identity.domain.segment import MESSAGE_TYPES
from services.identity.settings import IdentitySettings
from services.identity.store import positions
from shared.clock import WallClock
from shared.http import create_app
from shared.streaming.progress import Progress
from tests.identity.test_api import client_of
from tests.identity.world import World
from tests.unit.test_map import NoBroker

pytestmark = pytest.mark.anyio
GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "integrate.md").read_text()
REQUESTS = re.findall(r"curl http://127\.0\.0\.1:8081(\S+) ([^\n]*?)--data '(.*?)'\n", GUIDE, flags=re.DOTALL)
SIGNED = re.findall(r"ORDER='(.*?)'\n.*?curl http://127\.0\.0\.1:8081(\S+) ([^\n]*) -d \"\$ORDER\"\n", GUIDE, flags=re.DOTALL)
SEGMENT = [f"/v1/{each}" for each in (*MESSAGE_TYPES, "batch")]


def headers_of(written: str) -> dict[str, str]:
    return dict(header.split(": ", 1) for header in re.findall(r"-H '([^']*)'", written))


async def test_every_request_of_the_guide_is_accepted(live_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.identity.api.customers.EFFECT_SECONDS", 0.05)
    assert len(REQUESTS) + len(SIGNED) == GUIDE.count("curl http")
    async with client_of(live_world, IdentitySettings(shopify_webhook_secrets=("s",))) as client:
        for path, written, body in REQUESTS:
            answer = await client.post(path, content=body, headers=headers_of(written))
            assert answer.status_code == (200 if path in SEGMENT else 202), answer.text
        for body, path, written in SIGNED:
            signature = base64.b64encode(hmac.new(b"s", body.encode(), hashlib.sha256).digest()).decode()
            answer = await client.post(path, content=body, headers={**headers_of(written), "x-shopify-hmac-sha256": signature})
            assert (answer.status_code, answer.json()["accepted"]) == (200, 3)
        await live_world.bus.settle()
        counts = positions.outcomes()
        assert (counts["accepted"], counts["anonymous"]) == (19, 1)
        assert sum(counts.values()) == 20
        # The shop's identify names its user and the card: they are one customer.
        ann = {"city": "Chiang Mai", "first_name": "Ann", "name": "Ann"}
        firm = {"company": "Initech", "company_employees": 329, "company_id": "f-1"}
        assert (await found(client, "loyalty_card:42"))["traits"] == {**ann, **firm}
        assert await found(client, "user:u-7") == await found(client, "loyalty_card:42")


def test_every_request_of_the_guide_is_as_the_description_of_the_api_says() -> None:
    described = create_app(identity.build(NoBroker(), IdentitySettings(), WallClock()), WallClock(), Progress()).openapi()["paths"]
    for path, written, body in (*REQUESTS, *((path, written, body) for body, path, written in SIGNED)):
        media = headers_of(written).get("Content-Type", "application/json")
        schema = described[path]["post"]["requestBody"]["content"][media]["schema"]
        if "$ref" not in schema:
            jsonschema.Draft202012Validator(schema).validate(json.loads(body))
    assert "$ref" not in str([described[f"/v1/{way}"] for way in ("events", "batch", "poslog", "shopify/webhooks")])


@pytest.mark.parametrize(
    ("way", "wrong"),
    [
        ("events", {"id": "1", "type": "dear.PurchaseRecorded"}),
        ("events", {"type": "dear.MergeRequested"}),
        ("track", {"event": "Seen"}),
        ("track", {"userId": "u"}),
        ("group", {"userId": "u"}),
        ("batch", {"batch": [{"type": "bought", "userId": "u"}]}),
        ("poslog", {"Foo": 1}),
        ("shopify/webhooks", {"created_at": "2026-03-01T18:00:00+07:00"}),
    ],
)
def test_the_description_of_the_api_allows_not_everything(way: str, wrong: object) -> None:
    described = create_app(identity.build(NoBroker(), IdentitySettings(), WallClock()), WallClock(), Progress()).openapi()["paths"]
    for content in described[f"/v1/{way}"]["post"]["requestBody"]["content"].values():
        assert not jsonschema.Draft202012Validator(content["schema"]).is_valid(wrong)


async def found(client: httpx.AsyncClient, reference: str) -> dict[str, object]:
    return dict((await client.get("/v1/customers/lookup", params={"reference": reference})).json())
