"""What every service's HTTP side has: health, metrics, the clock, problem documents, a limit on bodies, request metrics."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any

from fastapi import FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Histogram, disable_created_metrics, generate_latest
from pydantic import BaseModel, Field
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.access.audit_api import create_audit_router
from shared.access.describing import describe_access
from shared.access.gate import ANSWERS, Gate, guard, needs, open_gate, public
from shared.access.scopes import Scope as KeyScope
from shared.clock import Clock
from shared.direct import Direct
from shared.logs import where
from shared.problems import Problem, add_problem_answers
from shared.service import Service
from shared.streaming.progress import Progress

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 1_000_000
"""For any route; those that take less refuse more themselves, and count it."""

REQUESTS = Counter("dear_http_requests_total", "HTTP requests answered.", ["method", "route", "status"])
REQUEST_SECONDS = Histogram("dear_http_request_seconds", "Time to answer an HTTP request.", ["route"])


class ClockAdvance(BaseModel):
    """How far a replay clock shall move."""

    advance_seconds: Annotated[float, Field(gt=0, le=10 * 366 * 86400)]


def create_app(service: Service, clock: Clock, progress: Progress, *, with_api: bool = True, gate: Gate | None = None) -> FastAPI:
    """The service's own routes, unless the process is only a worker, and those that every process has.

    Whoever lets others in gives a gate; without one the app is open, as tests want it. Raises UndeclaredRoutes.
    """
    disable_created_metrics()  # type: ignore[no-untyped-call]
    app = FastAPI(title=f"Dear {service.name}", version="1", docs_url="/docs", redoc_url=None)
    if with_api:
        app.include_router(service.api, responses=dict(ANSWERS))
        app.include_router(create_audit_router(service.name), responses=dict(ANSWERS))
    _add_health(app, service, progress)
    _add_clock(app, clock)
    add_problem_answers(app)
    _add_last_answer(app)
    describe_access(app)
    app.add_middleware(Direct, routes=app)
    gate = gate or open_gate()
    guard(app, gate)
    app.add_middleware(BodyLimit)
    app.add_middleware(RequestMetrics, routes=gate.routes)
    return app


def _add_last_answer(app: FastAPI) -> None:
    @app.exception_handler(Exception)
    async def on_failure(_: Request, failure: Exception) -> Response:
        log.error("a request failed: %s", where(failure))
        return Problem(500, "Failed", "This is our fault; the log says where it happened. The request may be sent again.").answer()


def _add_health(app: FastAPI, service: Service, progress: Progress) -> None:
    @app.get("/health/live", tags=["health"], dependencies=[public])
    async def live() -> dict[str, Any]:
        """The process runs; one that stands still ends itself."""
        return {"status": "live", "service": service.name, "silent_seconds": round(progress.silent_seconds(), 1)}

    @app.get("/health/ready", tags=["health"], dependencies=[public], responses={503: {"description": "It waits for something."}})
    async def ready() -> dict[str, Any]:
        """Can it take work?"""
        if not progress.ready:
            raise Problem(503, "Not ready", "; ".join(progress.reasons), {"Retry-After": "1"})
        return {"status": "ready", "service": service.name}

    @app.get("/metrics", include_in_schema=False, dependencies=[public])
    async def metrics() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


def _add_clock(app: FastAPI, clock: Clock) -> None:
    @app.get("/v1/clock", tags=["clock"], dependencies=[public])
    async def read_clock() -> dict[str, str]:
        """The mode and the present."""
        return {"mode": clock.mode, "now": clock.now().isoformat()}

    answers: dict[int | str, dict[str, Any]] = {**ANSWERS, 409: {"description": "The clock is the wall's."}}

    @app.post("/v1/clock", tags=["clock"], dependencies=[needs(KeyScope.OPERATE)], responses=answers)
    async def advance_clock(by: ClockAdvance) -> dict[str, str]:
        """Move a replay clock forward; every process of the service follows within two seconds."""
        if clock.mode != "replay":
            raise Problem(409, "The clock is live", "Only a data directory that was started with DEAR_CLOCK=replay has a clock that moves.")
        clock.observe(clock.now() + timedelta(seconds=by.advance_seconds))
        return {"mode": clock.mode, "now": clock.now().isoformat()}


class BodyLimit:
    """Refuses bodies that are too large before anything reads them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length")
        if declared is None and scope["method"] in ("POST", "PUT", "PATCH"):
            body = await _read_at_most(MAX_BODY_BYTES, receive)
            receive = _replay(body, receive)
            size = len(body)
        else:
            size = int(declared or 0)
        if size > MAX_BODY_BYTES:
            refusal = Problem(413, "Too large", f"A body may have {MAX_BODY_BYTES} bytes; send less at once.", reason="oversized")
            await refusal.answer()(scope, receive, send)
            return
        await self._app(scope, receive, send)


async def _read_at_most(limit: int, receive: Receive) -> bytes:
    """A body of undeclared length; a little more than the limit where it is longer."""
    body = bytearray()
    while len(body) <= limit:
        message = await receive()
        body += message.get("body", b"")
        if message["type"] != "http.request" or not message.get("more_body"):
            break
    return bytes(body)


def _replay(body: bytes, receive: Receive) -> Receive:
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return waiting.pop() if waiting else await receive()

    return replayed


class RequestMetrics:
    """Counts requests and their time by route, never by path: paths carry customers' ids.

    `routes`: endpoint -> path as it is known outside. The route that FastAPI leaves in the scope knows nothing of the routers it is in.
    """

    def __init__(self, app: ASGIApp, routes: Mapping[Any, str]) -> None:
        self._app, self._routes = app, routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def counting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, counting)
        finally:
            route = self._routes.get(scope.get("endpoint"), "unmatched")
            REQUESTS.labels(scope["method"], route, status).inc()
            REQUEST_SECONDS.labels(route).observe(time.perf_counter() - began)
