"""Offers and the ledger as streams of lines, for copying into a data warehouse."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from pydantic import AwareDatetime

from services.campaigns.store import ledger, offers
from shared.access.gate import needs
from shared.access.scopes import Scope
from shared.row_stream import row_stream

router = APIRouter(prefix="/export", tags=["export"], dependencies=[needs(Scope.PROFILES_READ)])


@router.get("/offers")
async def every_offer(since: AwareDatetime | None = None) -> StreamingResponse:
    """Every offer as it stands now; with `since`, those decided or settled then or later."""
    return row_stream(lambda: offers.every(since))


@router.get("/ledger")
async def every_entry(since: AwareDatetime | None = None) -> StreamingResponse:
    """Every entry of the points ledger; with `since`, those posted then or later."""
    return row_stream(lambda: ledger.every(since))
