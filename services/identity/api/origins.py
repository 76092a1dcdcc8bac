"""Which web pages may send messages from their visitors' browsers, and what a browser is told of it."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass

from fastapi import Request, Response

from services.identity.api.edge import answered
from shared.problems import ANSWERED, problem_of

ANYWHERE = "*"
_REMEMBERED_SECONDS = 7200
"""No browser remembers a permission for longer."""


@dataclass(frozen=True, slots=True)
class Origins:
    """The pages, as browsers name them. No cookie lets anybody in here, so a page has no more rights than the key that it sends."""

    allowed: frozenset[str] = frozenset()

    def headers(self, request: Request) -> dict[str, str]:
        """What lets the page of this request read the answer."""
        origin = request.headers.get("origin")
        if not self.allowed:
            return {}
        if ANYWHERE in self.allowed:
            return {"Access-Control-Allow-Origin": ANYWHERE, **_READABLE}
        # Whoever keeps answers must not give one page what was meant for another.
        return {"Vary": "Origin"} | ({"Access-Control-Allow-Origin": origin, **_READABLE} if origin in self.allowed else {})

    def preflight(self, request: Request) -> Response:
        """The answer to a browser that asks whether its page may send at all."""
        told = self.headers(request)
        return Response(status_code=204, headers={**told, **_MAY} if "Access-Control-Allow-Origin" in told else told)

    async def answered(self, way: str, request: Request, answering: Awaitable[Response]) -> Response:
        """The answer, counted; a page is to read a refusal, too."""
        told = self.headers(request)
        try:
            answer = await answered(way, answering)
        except ANSWERED as error:
            problem = problem_of(error)
            problem.headers = {**(problem.headers or {}), **told}
            raise problem from error
        answer.headers.update(told)
        return answer


_READABLE = {"Access-Control-Expose-Headers": "Retry-After"}
_MAY = {
    "Access-Control-Allow-Methods": "POST",
    "Access-Control-Allow-Headers": "Authorization, Content-Type",
    "Access-Control-Max-Age": str(_REMEMBERED_SECONDS),
}
