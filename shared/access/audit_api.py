"""`GET /v1/audit`: who read or changed whose data."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from shared.access import store
from shared.access.audit import about
from shared.access.gate import needs
from shared.access.scopes import Scope
from shared.mongo import in_store

_SHOWN = ("request", "who", "action", "method", "route", "about", "shown", "outcome")


def create_audit_router(database: str) -> APIRouter:
    """The log of one service."""
    router = APIRouter(prefix="/v1/audit", tags=["audit"], dependencies=[needs(Scope.PRIVACY)])

    @router.get("")
    async def entries(
        customer: str | None = None,
        who: str | None = None,
        after: Annotated[str, Query(description="The `next` of the page before.")] = "",
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> dict[str, Any]:
        """Newest first; of one customer, or of one caller as the entries name him, or of everybody."""
        if customer is not None:
            about(customer)
        wanted = {name: value for name, value in (("about", customer), ("who", who)) if value is not None}
        found = await in_store(store.page, database, wanted, after, limit)
        shown = [{"id": each["_id"], "at": each["at"].isoformat(), **{name: each[name] for name in _SHOWN}} for each in found]
        return {"entries": shown, "next": found[-1]["_id"] if len(found) == limit else None}

    return router
