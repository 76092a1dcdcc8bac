"""The registry of consent texts: each version once, with its hash, so that a statement's version says what was shown."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from services.identity.store import consent_texts
from shared.access.gate import needs
from shared.access.scopes import Scope
from shared.clock import Clock
from shared.contracts.envelope import Name
from shared.mongo import in_store
from shared.problems import Problem


class ConsentText(BaseModel):
    """A text as people are shown it."""

    model_config = ConfigDict(extra="forbid")

    text: Annotated[str, Field(min_length=1, max_length=100_000)]
    language: Name | None = None


def create_router(clock: Clock) -> APIRouter:
    """Registering and reading texts."""
    router = APIRouter(prefix="/consent-texts", tags=["privacy"])

    @router.put(
        "/{version}",
        dependencies=[needs(Scope.PRIVACY)],
        status_code=201,
        responses={200: {"description": "It is registered already."}, 409: {"description": "The version has another text."}},
    )
    async def register(version: Name, asked: ConsentText, response: Response) -> dict[str, Any]:
        """Register a text for good. 200 where the version has this very text already."""
        sha256 = hashlib.sha256(asked.text.encode()).hexdigest()
        was_there = await in_store(consent_texts.find, version) is not None
        kept = await in_store(consent_texts.register, version, asked.text, sha256, asked.language, clock.now())
        if kept["sha256"] != sha256:
            detail = f"Version {version!r} has another text, which people have agreed to; register this one under a new version."
            raise Problem(409, "Another text", detail, sha256=kept["sha256"])
        response.status_code = 200 if was_there else 201
        return _shown(kept)

    @router.get("", dependencies=[needs(Scope.REPORTS_READ)])
    async def list_texts() -> dict[str, Any]:
        """All texts by version."""
        return {"texts": [_shown(each) for each in await in_store(consent_texts.every)]}

    @router.get("/{version}", dependencies=[needs(Scope.REPORTS_READ)], responses={404: {"description": "There is no such text."}})
    async def one(version: Name) -> dict[str, Any]:
        """One text."""
        found = await in_store(consent_texts.find, version)
        if found is None:
            raise Problem(404, "No such text", f"No text is registered as {version!r}; GET /v1/consent-texts lists them.")
        return _shown(found)

    return router


def _shown(kept: dict[str, Any]) -> dict[str, Any]:
    at = kept["registered_at"].isoformat()
    return {"version": kept["_id"], "sha256": kept["sha256"], "language": kept["language"], "registered_at": at, "text": kept["text"]}
