"""What campaigns has of somebody: offers, points, scores as segmentation told them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from services.campaigns.store import customers, facts, ledger, offers
from shared.mongo import in_store
from shared.privacy import Counts


class CampaignsHolder:
    """Implements shared.privacy.Holder. Points are money: their entries stay, under the id of a profile that nobody is any more."""

    async def show(self, profile: str) -> list[dict[str, Any]]:
        """Offers, and the entries of the points ledger."""
        return await in_store(_show, profile)

    async def object(self, profile: str, at: datetime) -> Counts:
        """What is offered is for notifications to hold back: it asks last thing before it sends."""
        return {}

    async def erase(self, profile: str, references: Sequence[str]) -> Counts:
        """The customer and the scores go, and what offers said; that they were made, and the ledger, stay for the sums."""
        return await in_store(_erase, profile)


def _show(profile: str) -> list[dict[str, Any]]:
    entries = [{"kind": "points", **each} for each in ledger.shown_of(profile)]
    return [{"kind": "offers", **each} for each in offers.shown_of(profile)] + entries


def _erase(profile: str) -> Counts:
    known = customers.known([profile])
    customers.forget([profile])
    facts.save_scores({}, [profile])
    emptied, kept = offers.erase_contents(profile)
    return {"customers": len(known), "offers": emptied, "kept_offers": kept, "kept_ledger_entries": ledger.sum_of(profile)[1]}
