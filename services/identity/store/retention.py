"""What is kept no longer than the company has said, emptied or deleted a portion at a time."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import mongoengine as me
from pymongo import UpdateOne

from services.identity.domain.customers import microseconds
from services.identity.domain.privacy import State
from services.identity.store import outcomes, positions
from services.identity.store.bulk import collection_of
from services.identity.store.outcomes import OutcomeDocument
from services.identity.store.privacy import PrivacyRequestDocument
from services.identity.store.timeline import EventDocument

EXPIRED = b""
"""In the place of an event that was kept long enough: its name and hash stay, so that it is not taken in a second time."""


class RetentionDocument(me.Document):
    """How far the walk through the timeline has come."""

    meta = {"db_alias": "identity", "collection": "retention", "auto_create_index": False}  # noqa: RUF012 - mongoengine's way

    kind = me.StringField(primary_key=True)
    after = me.StringField(required=True)


def empty_events(kind: str, topic: str, before: datetime, portion: int) -> int:
    """Look at the next events of the timeline and empty those that came by this topic and are older; returns how many.

    There is no index by time, and none is worth its cost to every insert: a walk in the order of names sees each event once a round.
    """
    events, walks = collection_of(EventDocument), collection_of(RetentionDocument)
    walk = walks.find_one({"_id": kind})
    looked_at = list(events.find({"_id": {"$gt": walk["after"] if walk else ""}}, {"at": 1, "origin": 1}).sort("_id", 1).limit(portion))
    logs = positions.logs_of(topic)
    oldest = microseconds(before)
    old = [each["_id"] for each in looked_at if each["at"] < oldest and each["origin"].rsplit("/", 2)[0] in logs]
    emptied = 0
    if old:
        changes = [UpdateOne({"_id": key, "event": {"$ne": EXPIRED}}, {"$set": {"event": EXPIRED}}) for key in old]
        emptied = int(events.bulk_write(changes, ordered=False).modified_count)
    # Noted after the work: dying in between looks at the portion again.
    at_end = len(looked_at) < portion
    walks.update_one({"_id": kind}, {"$set": {"after": "" if at_end else looked_at[-1]["_id"]}}, upsert=True)
    return emptied


def empty_outcomes(before: datetime, portion: int) -> int:
    """Empty what was quarantined or parked before then; that it was, and why, stays."""
    wanted: dict[str, Any] = {"at": {"$lt": before}, "event": {"$ne": None}}
    old = [each["_id"] for each in collection_of(OutcomeDocument).find(wanted, {"_id": 1}).limit(portion)]
    outcomes.erase_texts(old)
    return len(old)


def delete_requests(before: datetime, portion: int) -> int:
    """Delete privacy requests that were done before then, with their proofs; graves stay."""
    requests = collection_of(PrivacyRequestDocument)
    old = [each["_id"] for each in requests.find({"state": State.DONE, "done_at": {"$lt": before}}, {"_id": 1}).limit(portion)]
    return int(requests.delete_many({"_id": {"$in": old}}).deleted_count) if old else 0
