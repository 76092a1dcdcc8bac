"""No route of any service forgot to say which scope opens it, and none is open to a caller without a key."""

from __future__ import annotations

import asyncio
import importlib
import re
import warnings
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI

from shared.access.gate import Gate, Needs, UndeclaredRoutes, declared, guard, needs, open_gate, public
from shared.access.keyring import Keyring, no_keys
from shared.access.keys import Key, Roster, digest_of, presented
from shared.access.scopes import GRANTED, Scope
from shared.clock import WallClock
from shared.direct import direct_routes
from shared.http import REQUESTS, create_app
from shared.streaming.progress import Progress
from tests.unit.test_map import SERVICES, NoBroker

PUBLIC = {
    ("GET", "/health/live"), ("GET", "/health/ready"), ("GET", "/metrics"), ("GET", "/v1/clock"),
    ("GET", "/v1/unsubscribe/{token}"), ("POST", "/v1/unsubscribe/{token}"),
    ("GET", "/v1/open/{token}"), ("GET", "/v1/click/{token}"),
    ("POST", "/v1/shopify/webhooks"),
    *((method, page) for page in ("/docs", "/docs/oauth2-redirect", "/openapi.json") for method in ("GET", "HEAD")),
}  # fmt: skip
"""Everything that anybody may ask. What is added here is open to the world; Shopify's webhooks are guarded by their signature."""
INTERNAL = {("POST", "/v1/timeline/read"), ("GET", "/v1/keys/roster")}
PEPPER = b"a pepper of some length"
ID, SECRET = "0123456789abcdef", "ab" * 24


def app_of(name: str, gate: Gate | None = None, with_api: bool = True) -> FastAPI:
    module = importlib.import_module(f"services.{name}.app")
    service = module.build(NoBroker(), module.SETTINGS(), WallClock())
    return create_app(service, WallClock(), Progress(), with_api=with_api, gate=gate)


def gate_for(*scopes: str, is_loopback: bool = True) -> Gate:
    """A gate that knows one key."""
    ring = Keyring(PEPPER, no_keys)
    ring.use(Roster((Key(ID, digest_of(PEPPER, ID, SECRET), scopes, 10_000),)))
    return Gate(ring, is_loopback)


ROUTES = [
    (name, method, path, said)
    for name in SERVICES
    for (method, path), said in sorted(declared(app_of(name)).items(), key=lambda each: each[0])
]
GUARDED = [(name, method, path, said) for name, method, path, said in ROUTES if said and Scope.PUBLIC not in said.scopes]


def test_there_are_routes_of_every_service() -> None:
    assert {name for name, *_ in GUARDED} == set(SERVICES)
    assert len(GUARDED) > 40


@pytest.mark.parametrize(("name", "method", "path", "said"), ROUTES, ids=lambda each: each if isinstance(each, str) else "")
def test_every_route_says_which_scope_opens_it(name: str, method: str, path: str, said: Needs | None) -> None:
    assert said is not None, f"{method} {path} of {name} declares no scope"
    assert (Scope.PUBLIC in said.scopes) == ((method, path) in PUBLIC)
    assert (Scope.INTERNAL in said.scopes) == ((method, path) in INTERNAL)
    assert said.scopes in ((Scope.PUBLIC,), (Scope.INTERNAL,)) or set(said.scopes) <= GRANTED.keys()


@pytest.mark.parametrize("name", SERVICES)
def test_a_process_that_is_only_a_worker_guards_what_it_has(name: str) -> None:
    said = declared(app_of(name, with_api=False))
    assert said["POST", "/v1/clock"] == Needs((Scope.OPERATE,))
    assert None not in said.values()


async def ask(app: FastAPI, method: str, path: str, key: str = "") -> httpx.Response:
    """Path parameters are ids that nobody has; the body has what the frames of events ask for before they look at the key."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://dear") as client:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        body: dict[str, Any] = {"json": {"batch": []}} if method in ("POST", "PUT") else {}
        return await client.request(method, re.sub(r"\{\w+\}", "0" * 32, path), headers=headers, **body)


@pytest.mark.parametrize(("name", "method", "path", "said"), GUARDED, ids=lambda each: each if isinstance(each, str) else "")
@pytest.mark.parametrize("is_loopback", [True, False])
def test_no_guarded_route_answers_without_a_key_or_without_the_scope(
    name: str, method: str, path: str, said: Needs, is_loopback: bool
) -> None:
    """On the memory of a key alone: a route that got further would need a database, which is not there."""
    others = [scope for scope in GRANTED if scope not in said.scopes]
    app = app_of(name, gate_for(*others, is_loopback=is_loopback))
    for sent, status in (("", 401), (presented(ID, "0" * 48), 401), (presented(ID, SECRET), 403)):
        answer = asyncio.run(ask(app, method, path, sent))
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers.get("www-authenticate", "Basic").startswith("Basic")


@pytest.mark.parametrize("name", SERVICES)
def test_requests_are_counted_by_the_whole_template_of_their_path(name: str) -> None:
    guarded = [(method, path) for of, method, path, _ in GUARDED if of == name]
    app = app_of(name, gate_for("ingest", is_loopback=False))
    REQUESTS.clear()
    for method, path in guarded:
        asyncio.run(ask(app, method, path))
    asyncio.run(ask(app, "GET", "/v1/customers/0123/nowhere"))
    counted = {
        (each.labels["method"], each.labels["route"]): (each.labels["status"], each.value)
        for each in REQUESTS.collect()[0].samples
        if each.name.endswith("_total")
    }
    assert counted == {**dict.fromkeys(guarded, ("401", 1.0)), ("GET", "unmatched"): ("404", 1.0)}


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_describes_its_routes_each_under_a_name_of_its_own(name: str) -> None:
    with warnings.catch_warnings(action="error", category=UserWarning):
        paths = app_of(name).openapi()["paths"]
    described = [(method.upper(), path, found["operationId"]) for path, methods in paths.items() for method, found in methods.items()]
    assert len({operation for *_, operation in described}) == len(described)
    guarded = {(method, path) for of, method, path, _ in GUARDED if of == name}
    assert guarded - INTERNAL <= {(method, path) for method, path, _ in described}


def test_beyond_loopback_nothing_is_open_while_there_are_no_keys() -> None:
    ring = Keyring(PEPPER, no_keys)
    ring.use(Roster())
    assert asyncio.run(ask(app_of("campaigns", Gate(ring, is_loopback=False)), "GET", "/v1/programs")).status_code == 401


def test_while_the_keys_are_not_known_nobody_is_let_in() -> None:
    from shared.streaming.errors import Unavailable

    async def away() -> Roster:
        raise Unavailable("identity is away")

    app = app_of("campaigns", Gate(Keyring(PEPPER, away), is_loopback=True))
    answer = asyncio.run(ask(app, "GET", "/v1/programs"))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert asyncio.run(ask(app, "GET", "/health/live")).status_code == 200


def bare(*routers: APIRouter) -> FastAPI:
    app = FastAPI(redoc_url=None)
    for router in routers:
        app.include_router(router)
    return app


def test_an_app_with_a_route_that_forgot_does_not_start() -> None:
    forgot, twice = APIRouter(prefix="/forgot"), APIRouter(prefix="/twice", dependencies=[public])
    forgot.get("/it")(lambda: None)
    twice.get("/said", dependencies=[needs(Scope.PRIVACY)])(lambda: None)
    with pytest.raises(UndeclaredRoutes, match=r"GET /forgot/it, GET /twice/said$"):
        guard(bare(forgot, twice), open_gate())


def test_a_mounted_app_is_a_route_that_forgot() -> None:
    app = bare()
    app.mount("/console", FastAPI())
    with pytest.raises(UndeclaredRoutes, match="/console"):
        guard(app, open_gate())


@pytest.mark.parametrize("name", SERVICES)
def test_the_description_says_of_each_route_how_to_be_let_in(name: str) -> None:
    described = app_of(name).openapi()
    schemes = described["components"]["securitySchemes"]
    assert {each: (schemes[each]["type"], schemes[each]["scheme"]) for each in ("bearer", "basic")} == {
        "bearer": ("http", "bearer"), "basic": ("http", "basic")
    }  # fmt: skip
    for _, method, path, said in [route for route in ROUTES if route[0] == name]:
        operation = described["paths"].get(path, {}).get(method.lower())
        if operation is None or said is None or Scope.PUBLIC in said.scopes:
            assert operation is None or operation.get("security", [{"shopify": []}]) == [{"shopify": []}]
            continue
        scopes = [scope.value for scope in said.scopes]
        assert operation["responses"].keys() >= {"401", "403", "429"}, f"{method} {path} does not say how it refuses a key"
        assert operation["security"] == [{"bearer": scopes}, {"basic": scopes}]
        assert (
            "services" in operation["description"]
            if scopes == ["internal"]
            else all(f"`{each}`" in operation["description"] for each in scopes)
        )


def test_a_signature_is_described_and_what_brings_its_description_along_is_not() -> None:
    described = app_of("identity").openapi()
    assert described["components"]["securitySchemes"]["shopify"]["name"] == "X-Shopify-Hmac-Sha256"
    assert described["paths"]["/v1/shopify/webhooks"]["post"]["security"] == [{"shopify": []}]
    assert "x-security-schemes" not in str(described)


DIRECT = sorted(path for (_, path), _ in direct_routes(app_of("identity")))


def test_the_ways_in_are_answered_directly() -> None:
    calls = ("track", "identify", "page", "screen", "group", "alias", "batch")
    segment = (*calls, *(name[0] for name in calls))
    assert sorted(("/v1/events", "/v1/poslog", "/v1/shopify/webhooks", *(f"/v1/{name}" for name in segment))) == DIRECT


@pytest.mark.parametrize("path", DIRECT)
def test_what_is_answered_directly_is_answered_as_the_framework_would(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Status, body, headers and what is counted; nothing here gets as far as the broker."""

    def answers(app: FastAPI) -> Any:
        REQUESTS.clear()
        told = [asyncio.run(sent_to(app, path, headers, body)) for headers in HEADERS for body in BODIES]
        return [*told, sorted((*each.labels.values(), each.value) for each in REQUESTS.collect()[0].samples)]

    directly = answers(app_of("identity", gate_for("ingest")))
    assert {status for status, *_ in directly[:-1]} >= {401, 413}
    assert {path} == {route for _, route, *_ in directly[-1]}
    monkeypatch.setattr("shared.direct.direct_routes", lambda app: ())
    assert answers(app_of("identity", gate_for("ingest"))) == directly


KEY = {"authorization": f"Bearer {presented(ID, SECRET)}"}
HEADERS: tuple[dict[str, str], ...] = (
    {},
    {**KEY, "content-type": "application/cloudevents+json"},
    {**KEY, "content-type": "application/cloudevents-batch+json"},
    {**KEY, "content-type": "text/plain"},
    {**KEY, "content-encoding": "br"},
)
BODIES = (b"", b"{", b"{}", b"[]", b'{"batch": []}', b'{"batch": [{"type": "none"}, 1]}', b"[1, {}]", b" " * 600_000)


async def sent_to(app: FastAPI, path: str, headers: dict[str, str], body: bytes) -> tuple[Any, ...]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://dear") as client:
        answer = await client.post(path, content=body, headers=headers)
    told = {name: value for name, value in answer.headers.items() if name != "ratelimit"}
    return answer.status_code, answer.text, told
