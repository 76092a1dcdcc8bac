"""The door of every service: each route says which scope opens it, and the gate asks for a key that has it."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from secrets import compare_digest
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as AsgiScope

from shared.access import metrics
from shared.access.audit import Action, AuditLog, Trail, begin_trail, current_trail
from shared.access.keyring import OPEN, Caller, Keyring, Refused, no_keys, write_key_callers
from shared.access.keys import Roster
from shared.access.scopes import AUDITED, READING, Scope
from shared.problems import Problem

FRAMEWORK_PAGES = frozenset({"/docs", "/docs/oauth2-redirect", "/openapi.json"})
"""What FastAPI adds: the description of the routes, which is no secret."""
SAFE_METHODS = frozenset({"GET", "HEAD"})
ANSWERS: Mapping[int | str, dict[str, Any]] = {
    400: {"description": "The body is not JSON."},
    401: {"description": "A key is needed, or it is not valid."},
    403: {"description": "The key lacks the scope."},
    429: {"description": "The key asks too often."},
}
HOW = "Send a key as a Bearer token, or as the user name of Basic authentication."
_DETAILS = {
    Refused.NO_KEY: HOW,
    Refused.UNKNOWN_KEY: f"The key is not one of ours, or not whole. {HOW}",
    Refused.EXPIRED: "The key has expired; make another: dear keys create",
    Refused.REVOKED: "The key was revoked; make another: dear keys create",
}
_NO_PEPPER = "This service can check no key: set DEAR_KEY_PEPPER, the same for every service."


@dataclass(frozen=True, slots=True)
class Needs:
    """What a route needs of its caller: one of these scopes. A dependency, so that FastAPI asks it first and tests can see it."""

    scopes: tuple[Scope, ...]
    key_in_body: bool = False
    """The key may be in the body: the route itself calls `check`."""
    audited: bool = True
    never_open: bool = False
    """Asks for a key also where everything else is open."""

    async def __call__(self, request: Request) -> None:
        if Scope.PUBLIC not in self.scopes:
            await gate_of(request).admit(request, self)

    def action(self, method: str) -> Action | None:
        """What is to be written down of a request."""
        if not self.audited or AUDITED.isdisjoint(self.scopes):
            return None
        return Action.READ if method in SAFE_METHODS or READING.issuperset(self.scopes) else Action.CHANGE


def needs(*scopes: Scope, key_in_body: bool = False, audited: bool = True, never_open: bool = False) -> Any:
    """Declare, for a route or a router, that its callers need one of these scopes."""
    return Depends(Needs(scopes, key_in_body, audited, never_open))


public = needs(Scope.PUBLIC)
"""Declares that anybody may ask: health, and what customers reach from their mail."""


@dataclass
class Gate:
    """Lets in who has the scope, or anybody while there are no keys and only this machine can ask."""

    keyring: Keyring
    is_loopback: bool
    write_keys: tuple[str, ...] = ()
    audit: AuditLog | None = None
    routes: dict[Any, str] = field(default_factory=dict)
    """Endpoint -> path as it is known outside."""

    def __post_init__(self) -> None:
        self._write_keys = write_key_callers(self.write_keys)

    async def admit(self, request: Request, route: Needs) -> None:
        """Let the request in, or raise the problem that says why not. Changes are written down first."""
        trail = current_trail()
        trail.method, trail.route = request.method, self.routes.get(request.scope.get("endpoint"), "")
        trail.action = route.action(request.method) if self.audit is not None else None
        await self.keyring.refresh_for(given_key(request))
        if route.key_in_body:
            return
        self._let_in(request, route, given_key(request))
        if self.audit is None or trail.action is None:
            return
        if self.audit.is_full:
            raise Problem(503, "Unavailable", "The audit log cannot be written, so nothing is shown.", {"Retry-After": "5"})
        # One who is named in the path is known before the route runs.
        trail.subjects.update(dict.fromkeys(value for name, value in request.path_params.items() if name == "customer_id"))
        if trail.action is Action.CHANGE:
            await self.audit.write_ahead(trail)

    def check(self, request: Request, key_in_body: object = None, scope: Scope = Scope.INGEST) -> None:
        """The check of a route whose key may be in its body. Raises as `admit` does."""
        self._let_in(request, Needs((scope,)), given_key(request) or (key_in_body if isinstance(key_in_body, str) else ""))

    def _let_in(self, request: Request, route: Needs, presented: str) -> None:
        trail = current_trail()
        verdict = self._judge(route, presented)
        if isinstance(verdict, Refused):
            raise self._refusal(verdict)
        trail.who = verdict.who
        request.state.caller = verdict
        if not verdict.may(*route.scopes):
            metrics.REFUSED.labels(Refused.MISSING_SCOPE.value).inc()
            raise _lacks(route.scopes, verdict)
        if verdict.bucket is not None:
            self._count(verdict, trail)

    def _judge(self, route: Needs, presented: str) -> Caller | Refused:
        # Every write key is compared, so the time taken tells nothing.
        matching = [caller for key, caller in self._write_keys.items() if compare_digest(presented.encode(), key)]
        verdict = self.keyring.judge(presented)
        if isinstance(verdict, Caller):
            return verdict
        if self._is_open(route):
            return OPEN
        if matching:
            return matching[0]
        return verdict if self.keyring.is_known else Refused.KEYS_NOT_KNOWN

    def _is_open(self, route: Needs) -> bool:
        """On loopback, while there is nothing to ask for."""
        guarded = route.never_open or (Scope.INGEST in route.scopes and bool(self._write_keys))
        return self.is_loopback and self.keyring.is_empty and not guarded

    def _refusal(self, reason: Refused) -> Problem:
        metrics.REFUSED.labels(reason.value).inc()
        if reason is Refused.KEYS_NOT_KNOWN:
            detail = "Identity has not said yet which keys there are. Try again shortly."
            return Problem(503, "Unavailable", detail, {"Retry-After": "1"}, reason=reason.value)
        detail = _DETAILS[reason] if self.keyring.pepper is not None or self._write_keys else f"{_DETAILS[reason]} {_NO_PEPPER}"
        return Problem(401, "Key needed", detail, {"WWW-Authenticate": 'Basic realm="dear", Bearer realm="dear"'})

    def _count(self, caller: Caller, trail: Trail) -> None:
        assert caller.bucket is not None
        wait = caller.bucket.take(self.keyring.steady())
        trail.headers = caller.bucket.headers()
        if wait > 0:
            metrics.REFUSED.labels(Refused.RATE_LIMITED.value).inc()
            trail.action = None
            detail = f"This key may ask {caller.bucket.rate} times a second; ask less often, or send several events in one batch."
            raise Problem(429, "Too many requests", detail, {"Retry-After": str(math.ceil(wait))}, reason=Refused.RATE_LIMITED.value)


def _lacks(scopes: Sequence[Scope], caller: Caller) -> Problem:
    wanted = " or ".join(scopes)
    detail = f"The key has {', '.join(sorted(caller.scopes)) or 'no scope'}, and {wanted} is needed; make one that has it: dear keys create"
    return Problem(403, "Scope missing", detail, reason=Refused.MISSING_SCOPE.value)


def open_gate() -> Gate:
    """As on loopback while there is no key: for a service that is looked at in a test."""
    keyring = Keyring(None, no_keys)
    keyring.use(Roster())
    return Gate(keyring, is_loopback=True)


def gate_of(request: Request) -> Gate:
    """The gate of the process that answers. There is none to pass where nobody set one up."""
    gate: Gate = request.app.state.gate
    return gate


def admitted(request: Request) -> Caller:
    """Whom the gate let in."""
    caller: Caller = request.state.caller
    return caller


def caller_may(request: Request, scopes: Sequence[str]) -> list[str]:
    """Those of the scopes that the caller himself lacks, and so cannot give to others."""
    caller = gate_of(request).keyring.judge(given_key(request))
    return [scope for scope in scopes if not (isinstance(caller, Caller) and caller.may(scope))]


def given_key(request: Request) -> str:
    """The key of a request: a Bearer token, or the user name of Basic authentication; empty where there is neither."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(value, validate=True).decode().partition(":")[0]
    except (binascii.Error, UnicodeDecodeError):
        return ""


class UndeclaredRoutes(Exception):
    """Routes that do not say, exactly once, which scope opens them."""


def declared(app: FastAPI) -> dict[tuple[str, str], Needs | None]:
    """(method, path) -> what the route needs; None where it forgot to say so, or said it twice."""
    found: dict[tuple[str, str], Needs | None] = {}
    for route in iter_route_contexts(app.routes):
        if not isinstance(route.original_route, APIRoute):
            said: list[Any] = [Needs((Scope.PUBLIC,))] if route.path in FRAMEWORK_PAGES else []
        else:
            said = [each.call for each in route.dependant.dependencies if isinstance(each.call, Needs)]
        for method in route.methods or {"*"}:
            found[method, route.path or ""] = said[0] if len(said) == 1 else None
    return found


def guard(app: FastAPI, gate: Gate) -> None:
    """Put the gate before an app whose routes are all there. Raises UndeclaredRoutes."""
    forgotten = sorted(f"{method} {path}" for (method, path), said in declared(app).items() if said is None)
    if forgotten:
        raise UndeclaredRoutes(f"these routes must say, once, which scope opens them: {', '.join(forgotten)}")
    gate.routes = {route.endpoint: route.path or "" for route in iter_route_contexts(app.routes) if route.endpoint is not None}
    app.state.gate = gate
    app.add_middleware(Trails, gate=gate)


class Trails:
    """Gives each request its trail, tells the caller of his rate limit, and has written down what was done."""

    def __init__(self, app: ASGIApp, gate: Gate) -> None:
        self._app, self._gate = app, gate

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        trail, status = Trail(), 0
        begin_trail(trail)

        async def following(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *trail.headers]
                self._note(trail, status)
            await send(message)

        try:
            await self._app(scope, receive, following)
        finally:
            if not status:
                self._note(trail, 500)

    def _note(self, trail: Trail, status: int) -> None:
        if self._gate.audit is not None and trail.action is not None and trail.who:
            self._gate.audit.note(trail, status)
