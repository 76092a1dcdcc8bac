"""Routes that take the request as it is and answer themselves, answered without what FastAPI does for those that want more."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, get_type_hints

from fastapi import FastAPI, Request, Response
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.types import ASGIApp, Receive, Scope, Send

from shared.access.gate import Needs
from shared.problems import ANSWERED, problem_of


@dataclass(frozen=True, slots=True)
class _Route:
    route: APIRoute
    needs: Needs
    endpoint: Callable[[Request], Awaitable[Response]]


class Direct:
    """Stands before an app's router. FastAPI still knows, checks and describes these routes, and answers all others.

    Finding the route, resolving its one dependency and the layers around that are half of what a short request costs.
    """

    def __init__(self, app: ASGIApp, routes: FastAPI) -> None:
        self._app = app
        self._routes = dict(direct_routes(routes))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = None
        if scope["type"] == "http" and not scope.get("root_path"):
            found = self._routes.get((scope["method"], scope["path"]))
        if found is None:
            await self._app(scope, receive, send)
            return
        scope["route"], scope["endpoint"], scope["path_params"] = found.route, found.endpoint, {}
        request = Request(scope, receive, send)
        try:
            await found.needs(request)
            answer = await found.endpoint(request)
        except ANSWERED as error:
            answer = problem_of(error).answer()
        await answer(scope, receive, send)


def direct_routes(app: FastAPI) -> Iterator[tuple[tuple[str, str], _Route]]:
    """(method, path) -> route, of those whose endpoint is given the request and nothing else, and says that it returns a Response."""
    for each in iter_route_contexts(app.routes):
        route = each.original_route
        if not isinstance(route, APIRoute) or "{" in str(each.path) or not _wants_only_the_request(route.endpoint):
            continue
        # Those of the routers that it is in are among them.
        asked = [dependency.call for dependency in each.dependant.dependencies]
        if len(asked) == 1 and isinstance(asked[0], Needs):
            for method in each.methods or ():
                yield (method, str(each.path)), _Route(route, asked[0], route.endpoint)


def _wants_only_the_request(endpoint: Callable[..., Any]) -> bool:
    hints = get_type_hints(endpoint)
    returned = hints.pop("return", None)
    return set(hints.values()) == {Request} and isinstance(returned, type) and issubclass(returned, Response)
