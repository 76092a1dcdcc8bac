"""Scores and segments of everyone as a stream of lines, for copying into a data warehouse."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from services.segmentation.api.scores import customer
from services.segmentation.store import scores as store
from shared.access.gate import needs
from shared.access.scopes import Scope
from shared.mongo import in_store
from shared.row_stream import row_stream


def add_export(router: APIRouter) -> None:
    """All that is known of everyone."""

    @router.get("/v1/export/scores", dependencies=[needs(Scope.PROFILES_READ)])
    async def every_score() -> StreamingResponse:
        """Every customer's scores and segments; the head says as of when: asked for first, so that what follows is newer."""
        return row_stream(_scores, {"as_of": await in_store(store.read_as_of)})


def _scores() -> Iterator[list[dict[str, Any]]]:
    for page in store.read_everyone():
        yield [customer(row) for row in page]
