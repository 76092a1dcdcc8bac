"""Suppressions: who is not to be written to. Lifting one keeps it, with its history."""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import mongoengine as me
from pymongo import ReturnDocument

from services.notifications.domain.contacts import Suppression
from shared.contracts.envelope import derived_id
from shared.mongo import find_by


@dataclass(frozen=True, slots=True)
class Entry:
    """A suppression as it is kept and shown."""

    suppression_id: str
    suppression: Suppression
    active: bool
    history: tuple[Mapping[str, Any], ...]
    """What was done when and why, oldest first."""

    @property
    def first_at(self) -> datetime:
        """When it was first made."""
        at: datetime = self.history[0]["at"]
        return at


class SuppressionDocument(me.Document):
    """One subject on one channel (or all) for one purpose (or all)."""

    meta = {  # noqa: RUF012 - mongoengine's way
        "db_alias": "notifications",
        "collection": "suppressions",
        "auto_create_index": False,
        "indexes": ["subject"],
    }

    suppression_id = me.StringField(primary_key=True)
    subject = me.StringField(required=True)
    channel = me.StringField()
    purpose = me.StringField()
    until_consent_after = me.DateTimeField()
    active = me.BooleanField(required=True)
    history = me.ListField(me.DictField())


def add(suppression: Suppression, reason: str, at: datetime) -> Entry:
    """Make it, or make it active again; one that is active already stays as it is."""
    key = _id(suppression)
    fields = {"subject": suppression.subject, "channel": suppression.channel, "purpose": suppression.purpose}
    start: dict[str, Any] = {"until_consent_after": suppression.until_consent_after, "active": False, "history": []}
    _collection().update_one({"_id": key}, {"$setOnInsert": {**fields, **start}}, upsert=True)
    if suppression.until_consent_after is not None:
        # Somebody who came back and leaves again: only a still later consent counts.
        _collection().update_one({"_id": key}, {"$max": {"until_consent_after": suppression.until_consent_after}})
    return _change(key, True, "added", reason, at)


def lift(suppression_id: str, reason: str, at: datetime) -> Entry | None:
    """End it; None where there is none of that id."""
    return _change(suppression_id, False, "lifted", reason, at) if _collection().find_one({"_id": suppression_id}) else None


def active_for(subjects: Collection[str]) -> dict[str, list[Suppression]]:
    """The active suppressions of these subjects, by subject."""
    found: dict[str, list[Suppression]] = defaultdict(list)
    for document in find_by(_collection(), subjects, field="subject", active=True):
        found[document["subject"]].append(_entry(document).suppression)
    return found


def page(after: str, limit: int, active_only: bool) -> list[Entry]:
    """The suppressions after an id, in order of id."""
    wanted: dict[str, Any] = {"_id": {"$gt": after}}
    if active_only:
        wanted["active"] = True
    return [_entry(document) for document in _collection().find(wanted).sort("_id", 1).limit(limit)]


def count() -> int:
    """How many are active."""
    total: int = _collection().count_documents({"active": True})
    return total


def signing_key() -> bytes:
    """The key that signs links: made once, the same for every process."""
    made = {"$setOnInsert": {"key": secrets.token_bytes(32)}}
    keys = SuppressionDocument._get_db()["signing_keys"]
    kept = keys.find_one_and_update({"_id": "unsubscribe"}, made, upsert=True, return_document=ReturnDocument.AFTER)
    return bytes(kept["key"])


def _change(key: str, active: bool, action: str, reason: str, at: datetime) -> Entry:
    entry = {"at": at, "action": action, "reason": reason}
    _collection().update_one({"_id": key, "active": not active}, {"$set": {"active": active}, "$push": {"history": entry}})
    return _entry(_collection().find_one({"_id": key}))


def _entry(document: Mapping[str, Any]) -> Entry:
    suppression = Suppression(document["subject"], document["channel"], document["purpose"], document["until_consent_after"])
    return Entry(document["_id"], suppression, document["active"], tuple(document["history"]))


def _id(suppression: Suppression) -> str:
    ends = "until consent" if suppression.until_consent_after else "until lifted"
    return derived_id("suppression", suppression.subject, suppression.channel or "", suppression.purpose or "", ends)


def _collection() -> Any:
    return SuppressionDocument._get_collection()
