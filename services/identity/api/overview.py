"""What became of events, in numbers."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from services.identity.domain.events import SEPARATOR
from services.identity.store import customers, outcomes, positions, references, timeline
from shared.access.gate import needs
from shared.access.scopes import Scope
from shared.mongo import in_store
from shared.problems import Problem

router = APIRouter(tags=["overview"])
_NOT_KEPT: dict[int | str, dict[str, Any]] = {404: {"description": "What was sent there is not kept."}}


class Noted(StrEnum):
    """What is noted of events beside their count."""

    QUARANTINED = "quarantined"
    PARKED = "parked"
    MERGE_REFUSED = "merge_refused"


class Sent(StrEnum):
    """Outcomes whose events are kept as they came."""

    QUARANTINED = "quarantined"
    PARKED = "parked"


@router.get("/outcomes", dependencies=[needs(Scope.REPORTS_READ)])
async def counted_outcomes(topic: str | None = None) -> dict[str, Any]:
    """Of every event exactly one: accepted, anonymous, repeated, quarantined, parked, or lost before it was read; and the reasons.

    With `topic`, of the events of that topic alone, without the parked ones and the reasons.
    """
    return await in_store(_outcomes) if topic is None else await in_store(positions.counted, topic)


def _outcomes() -> dict[str, Any]:
    reasons = outcomes.by_reason()
    return {**positions.outcomes(), "merges_refused": sum(reasons.get("merge_refused", {}).values()), "reasons": reasons}


@router.get("/outcomes/{outcome}", dependencies=[needs(Scope.REPORTS_READ)])
async def noted_outcomes(outcome: Noted, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> dict[str, Any]:
    """The newest of one kind, with the name of the event where it could be read, and of a refused merge the profiles."""
    return {"outcomes": [_noted(each) for each in await in_store(outcomes.noted, outcome.value, limit)]}


@router.get("/outcomes/{outcome}/event", dependencies=[needs(Scope.PROFILES_READ)], responses=_NOT_KEPT)
async def sent_event(outcome: Sent, origin: str) -> Response:
    """What was sent at a position and was quarantined or parked, as it came."""
    text = await in_store(outcomes.sent_text, outcome.value, origin)
    if text is None:
        raise Problem(404, "Not kept", "Nothing that was sent there is kept: see `origin` in the list, and DEAR_RETENTION_DAYS.")
    return Response(text, media_type="application/octet-stream")


def _noted(kept: dict[str, Any]) -> dict[str, Any]:
    source, _, event = (kept.get("named") or "").partition(SEPARATOR)
    shown = {name: kept[name] for name in ("outcome", "reason", "detail", "origin")}
    named = {"source": source, "id": event} if source else {}
    profiles = {"profiles": kept["profiles"]} if kept.get("profiles") else {}
    return {**shown, **named, **profiles, "at": kept["at"].isoformat()}


@router.get("/summary", dependencies=[needs(Scope.REPORTS_READ)])
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


@router.get("/stores/anonymous", dependencies=[needs(Scope.REPORTS_READ)])
async def anonymous_sales() -> dict[str, Any]:
    """Sales to nobody in particular, by store and day (UTC); amounts in minor units."""
    days = await in_store(timeline.anonymous_sales)
    return {"days": sorted(days, key=lambda each: (each["store"] or "", each["day"]))}
