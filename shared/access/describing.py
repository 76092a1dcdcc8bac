"""The description of an app says how a caller shows who it is, and which scope each route asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI

from shared.access.gate import Needs, declared
from shared.access.scopes import Scope

SCHEMES: Mapping[str, Mapping[str, str]] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key: `dear keys create`."},
    "basic": {"type": "http", "scheme": "basic", "description": "The same key as the user name, with an empty password."},
}
BROUGHT = "x-security-schemes"
"""Where a route brings along a scheme of its own, which its description names."""


def describe_access(app: FastAPI) -> None:
    """Make the description say it. It is put together when it is first asked for."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if not app.openapi_schema:
            _add(plain(), declared(app))
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _add(described: dict[str, Any], routes: Mapping[tuple[str, str], Needs | None]) -> None:
    schemes = described.setdefault("components", {}).setdefault("securitySchemes", {})
    for (method, path), needs in routes.items():
        operation = described["paths"].get(path, {}).get(method.lower())
        if operation is None or needs is None:
            continue
        schemes.update(operation.pop(BROUGHT, {}))
        if Scope.PUBLIC not in needs.scopes:
            schemes.update(SCHEMES)
            operation["security"] = [{name: [scope.value for scope in needs.scopes]} for name in SCHEMES]
            operation["description"] = "\n\n".join(filter(None, (operation.get("description"), _scopes(needs))))


def _scopes(needs: Needs) -> str:
    if Scope.INTERNAL in needs.scopes:
        return "Of services and the `dear` command only."
    return f"Scope: {' or '.join(f'`{scope}`' for scope in needs.scopes)}."
