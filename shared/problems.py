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


def _invalid(error: RequestValidationError) -> Problem:
    faults = [{"at": "/".join(str(part) for part in fault["loc"]), "fault": fault["msg"]} for fault in error.errors()]
    detail = "; ".join(f"{fault['at']}: {fault['fault']}" for fault in faults[:5])
    return Problem(422, "Invalid request", detail, errors=faults)


def add_problem_answers(app: FastAPI) -> None:
    """Answer every error of an app with a problem document."""

    @app.exception_handler(Problem)
    async def on_problem(_: Request, error: Problem) -> JSONResponse:
        return error.answer()

    @app.exception_handler(Unavailable)
    async def on_unavailable(_: Request, error: Unavailable) -> JSONResponse:
        return unavailable(str(error)).answer()

    @app.exception_handler(MessageTooLarge)
    async def on_too_large(_: Request, error: MessageTooLarge) -> JSONResponse:
        return Problem(413, "Too large", f"Send less at once: {error}").answer()

    @app.exception_handler(RequestValidationError)
    async def on_invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return _invalid(error).answer()

    @app.exception_handler(HTTPException)
    async def on_http(_: Request, error: HTTPException) -> JSONResponse:
        headers = dict(error.headers) if error.headers else None
        return Problem(error.status_code, "Not answered", str(error.detail), headers).answer()
