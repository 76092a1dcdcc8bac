"""Whatever is asked of identity's HTTP, nothing breaks, and every answer is one that its description knows."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import status_code_conformance

from services.identity import app as identity
from services.identity.settings import IdentitySettings
from shared.access.gate import open_gate
from shared.http import create_app
from shared.streaming.progress import Progress
from tests.identity.world import World, identify, purchase

EXAMPLES = 6
"""Of what each route takes, and as many of what it does not: there are some thirty routes."""
FEW = settings(max_examples=EXAMPLES, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
INGEST = ("events", "track", "identify", "page", "screen", "group", "alias", "batch", "poslog", "shopify/webhooks")
TYPES = ("application/json", "application/cloudevents+json", "application/cloudevents-batch+json", "text/plain", "\u00ff")
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(("1900-01-01T00:00:00Z", "1e999999", "user:null")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
FIELDS = (
    "type",
    "id",
    "source",
    "time",
    "data",
    "specversion",
    "userId",
    "event",
    "traits",
    "properties",
    "batch",
    "timestamp",
    "POSLog",
    "messageId",
)
BODIES = (
    st.binary(max_size=200)
    | st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=8).map(lambda body: json.dumps(body).encode())
    | st.tuples(st.sampled_from((purchase("1"), identify("2"))), st.sampled_from(FIELDS), VALUES).map(
        lambda of: json.dumps({**of[0], of[1]: of[2]}).encode()
    )
    | st.sampled_from((b"", b"[" * 100_000, b"{" * 1000, b'{"a":' + b"9" * 5000 + b"}", b"\xff\xfe", b"[]", b"null", b"x" * 600_000))
)


@pytest.fixture
def app(world: World) -> Any:
    """Every route, on a database with nothing in it and a broker that takes everything."""
    # With all that some routes need, and one shop whose secret nobody guesses.
    settings = IdentitySettings(master_key="a master key for tests", shopify_webhook_secrets=("hush",), cors_origins=("*",))
    service = identity.build(world.bus, settings, world.clock)
    return create_app(service, world.clock, Progress(), gate=open_gate())


def ask(route: Any, mode: GenerationMode, statuses: list[int]) -> None:
    """What a route takes by its description, or what it does not; says how it answered."""

    @FEW
    @given(case=route.as_strategy(generation_mode=mode))
    def asked(case: Any) -> None:
        statuses.append(case.call_and_validate(checks=[not_a_server_error, status_code_conformance]).status_code)

    asked()


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["as described", "otherwise"])
def test_no_question_breaks_a_route_or_gets_an_answer_that_is_not_described(
    app: Any, mode: GenerationMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is signed is read; who signs is told by other tests.
    monkeypatch.setattr("services.identity.domain.shopify.is_signed", lambda *_: True)
    faults: dict[str, str] = {}
    statuses: dict[str, list[int]] = {}
    routes = schemathesis.openapi.from_asgi("/openapi.json", app).include(path_regex="^/v1/").exclude(path_regex="^/v1/[a-z]$")
    for found in routes.get_all_operations():
        route = found.ok()
        statuses[route.label] = []
        try:
            # A route that takes nothing cannot be asked otherwise.
            with suppress(Unsatisfiable):
                ask(route, mode, statuses[route.label])
        except (Exception, FailureGroup) as fault:
            faults[route.label] = str(fault)
    assert not faults, "\n\n".join(f"{label}: {said}" for label, said in faults.items())
    assert sum(map(len, statuses.values())) > 10 * EXAMPLES
    # What is described is what is taken: bodies made of the description are not all refused.
    taken = [way for way in INGEST if not {200, 202, 207}.isdisjoint(statuses[f"POST /v1/{way}"])]
    assert mode is GenerationMode.NEGATIVE or len(taken) > len(INGEST) / 2, statuses


@pytest.mark.parametrize("way", INGEST)
def test_no_body_breaks_a_way_in(app: Any, way: str) -> None:
    described = {int(status) for status in app.openapi()["paths"][f"/v1/{way}"]["post"]["responses"]}
    client = TestClient(app)

    @settings(FEW, max_examples=10 * EXAMPLES)
    @given(BODIES, st.sampled_from(TYPES))
    def send(body: bytes, media_type: str) -> None:
        answer = client.post(f"/v1/{way}", content=body, headers={b"content-type": media_type.encode("latin-1")})
        assert answer.status_code in described
        assert answer.status_code < 500 or (way, answer.status_code) == ("shopify/webhooks", 503)

    send()
