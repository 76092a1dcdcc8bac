"""The events and references that were not simply accepted, each with its reason. Keyed by position, so a redelivery adds nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import mongoengine as me

from services.identity.store.bulk import collection_of
from shared.mongo import insert_new


class OutcomeDocument(me.Document):
    """One quarantined event, parked event, or refused merge."""

    meta = {"db_alias": "identity", "collection": "outcomes", "auto_create_index": False, "indexes": ["outcome"]}  # noqa: RUF012

    outcome_id = me.StringField(primary_key=True)
    outcome = me.StringField(required=True)
    reason = me.StringField(required=True)
    detail = me.StringField()
    origin = me.StringField(required=True)
    event = me.BinaryField()
    """What was sent, of a quarantined event."""
    at = me.DateTimeField()
    """When it was noted, by the service's clock."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is to be noted."""

    outcome: str
    reason: str
    detail: str
    origin: str
    subject: str = ""
    """Tells apart what happened to several references of one event."""
    event: bytes | None = None


def note(outcomes: Sequence[Outcome], at: datetime) -> None:
    """Keep them; those that are kept already stay as they are."""
    insert_new(collection_of(OutcomeDocument), [_document(outcome, at) for outcome in outcomes])


def _document(outcome: Outcome, at: datetime) -> dict[str, Any]:
    return {
        "_id": f"{outcome.origin}/{outcome.outcome}/{outcome.subject}",
        "outcome": outcome.outcome,
        "reason": outcome.reason,
        "detail": outcome.detail,
        "origin": outcome.origin,
        "event": outcome.event,
        "at": at,
    }


def by_reason() -> dict[str, dict[str, int]]:
    """How many there are of each outcome and reason."""
    groups = [{"$group": {"_id": {"outcome": "$outcome", "reason": "$reason"}, "count": {"$sum": 1}}}]
    counted: dict[str, dict[str, int]] = {}
    for each in collection_of(OutcomeDocument).aggregate(groups):
        counted.setdefault(each["_id"]["outcome"], {})[each["_id"]["reason"]] = each["count"]
    return counted


def noted(outcome: str, limit: int) -> list[dict[str, Any]]:
    """The newest of one kind."""
    return list(collection_of(OutcomeDocument).find({"outcome": outcome}).sort([("at", -1), ("_id", 1)]).limit(limit))
