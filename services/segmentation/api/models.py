"""The models that were fitted to these customers."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from services.segmentation.api.scores import Limit
from services.segmentation.store import models as store
from shared.access.gate import needs
from shared.access.scopes import Scope
from shared.mongo import in_store


def add_models(router: APIRouter) -> None:
    """What was fitted."""

    @router.get("/v1/models", dependencies=[needs(Scope.REPORTS_READ)])
    async def fitted(limit: Limit = 20) -> dict[str, Any]:
        """Fits to this deployment's customers, newest first: parameters, data, back-tests, and whether each was taken."""
        fits = await in_store(store.newest, limit)
        return {"models": [{"version": each["_id"], **{name: value for name, value in each.items() if name != "_id"}} for each in fits]}
