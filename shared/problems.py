"""RFC 9457 problem documents: what went wrong, and what to change."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from shared.streaming.errors import MessageTooLarge, Unavailable

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """An answer that is not a success; `detail` says what to change."""

    def __init__(self, status: int, title: str, detail: str, headers: dict[str, str] | None = None, **more: Any) -> None:
        super().__init__(detail)
        self.status, self.title, self.detail, self.headers, self.more = status, title, detail, headers, more

    def body(self) -> dict[str, Any]:
        """The problem document."""
        return {"type": "about:blank", "title": self.title, "status": self.status, "detail": self.detail, **self.more}

    def answer(self) -> JSONResponse:
        """The HTTP answer."""
        return JSONResponse(self.body(), self.status, headers=self.headers, media_type=MEDIA_TYPE)


def unavailable(what: str) -> Problem:
    """503 with `Retry-After`: nothing was accepted, send it again."""
    return Problem(503, "Unavailable", f"{what}. Nothing was accepted; try again shortly.", {"Retry-After": "1"})


def problem_of(error: Exception) -> Problem:
    """How an error that may leave a route is answered."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, Unavailable):
        return unavailable(str(error))
    if isinstance(error, MessageTooLarge):
        return Problem(413, "Too large", f"Send less at once: {error}")
    if isinstance(error, RequestValidationError):
        return _invalid(error)
    assert isinstance(error, HTTPException)
    return Problem(error.status_code, "Not answered", str(error.detail), dict(error.headers) if error.headers else None)


ANSWERED = (Problem, Unavailable, MessageTooLarge, RequestValidationError, HTTPException)
"""The errors that may leave a route; any other is our fault."""


def _invalid(error: RequestValidationError) -> Problem:
    faults = [{"at": "/".join(str(part) for part in fault["loc"]), "fault": fault["msg"]} for fault in error.errors()]
    detail = "; ".join(f"{fault['at']}: {fault['fault']}" for fault in faults[:5])
    return Problem(422, "Invalid request", detail, errors=faults)


def add_problem_answers(app: FastAPI) -> None:
    """Answer every error of an app with a problem document."""

    async def on_error(_: Request, error: Exception) -> JSONResponse:
        return problem_of(error).answer()

    for each in ANSWERED:
        app.add_exception_handler(each, on_error)
