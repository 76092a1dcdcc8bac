"""The texts that people are shown when they are asked for consent. One that is registered never changes: its hash stands in for it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import mongoengine as me

from services.identity.store.bulk import collection_of, find_by_ids
from shared.mongo import insert_new


class ConsentTextDocument(me.Document):
    """One version of a text."""

    meta = {"db_alias": "identity", "collection": "consent_texts", "auto_create_index": False}  # noqa: RUF012 - mongoengine's way

    version = me.StringField(primary_key=True)
    text = me.StringField(required=True)
    sha256 = me.StringField(required=True)
    language = me.StringField()
    registered_at = me.DateTimeField(required=True)


def register(version: str, text: str, sha256: str, language: str | None, at: datetime) -> dict[str, Any]:
    """Keep a text, unless the version has one; returns what the version has."""
    document = {"_id": version, "text": text, "sha256": sha256, "language": language, "registered_at": at}
    insert_new(collection_of(ConsentTextDocument), [document])
    return find(version) or document


def find(version: str) -> dict[str, Any] | None:
    """What is registered under a version."""
    found: dict[str, Any] | None = collection_of(ConsentTextDocument).find_one({"_id": version})
    return found


def every() -> list[dict[str, Any]]:
    """All texts by version."""
    return list(collection_of(ConsentTextDocument).find({}).sort("_id", 1))


def hashes(versions: Iterable[str]) -> dict[str, str]:
    """The hashes of those of these versions that are registered."""
    return {found["_id"]: found["sha256"] for found in find_by_ids(collection_of(ConsentTextDocument), versions, {"sha256": 1})}
