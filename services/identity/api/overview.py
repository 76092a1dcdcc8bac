"""What became of events, in numbers."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from services.identity.store import customers, outcomes, positions, references, timeline
from shared.access.gate import needs
from shared.access.scopes import Scope
from shared.mongo import in_store

router = APIRouter(tags=["overview"], dependencies=[needs(Scope.REPORTS_READ)])


@router.get("/outcomes")
async def counted_outcomes(topic: str | None = None) -> dict[str, Any]:
    """Of every event exactly one: accepted, anonymous, repeated, quarantined, parked, or lost before it was read; and the reasons.

    With `topic`, of the events of that topic alone, without the parked ones and the reasons.
    """
    return await in_store(_outcomes) if topic is None else await in_store(positions.counted, topic)


def _outcomes() -> dict[str, Any]:
    reasons = outcomes.by_reason()
    return {**positions.outcomes(), "merges_refused": sum(reasons.get("merge_refused", {}).values()), "reasons": reasons}


@router.get("/outcomes/{outcome}")
async def noted_outcomes(outcome: str, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> dict[str, Any]:
    """The newest of one kind: quarantined, parked or merge_refused."""
    noted = await in_store(outcomes.noted, outcome, limit)
    shown = ("outcome", "reason", "detail", "origin")
    return {"outcomes": [{**{name: each[name] for name in shown}, "at": each["at"].isoformat()} for each in noted]}


@router.get("/summary")
async def summary() -> dict[str, Any]:
    """How many customers and events there are."""
    return await in_store(_summary)


def _summary() -> dict[str, Any]:
    counted = positions.counted()
    return {
        "customers": customers.count() - references.count_absorbed(),
        "events": counted["accepted"] + counted["anonymous"],
        "anonymous": counted["anonymous"],
    }


@router.get("/stores/anonymous")
async def anonymous_sales() -> dict[str, Any]:
    """Sales to nobody in particular, by store and day (UTC); amounts in minor units."""
    days = await in_store(timeline.anonymous_sales)
    return {"days": sorted(days, key=lambda each: (each["store"] or "", each["day"]))}
