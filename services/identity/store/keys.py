"""API keys, one document a name, so that what must hold among the keys of a name is decided on one document."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import mongoengine as me
from pymongo.errors import DuplicateKeyError

from services.identity.domain.keys import KeyRecord
from services.identity.store.bulk import collection_of

Keys = tuple[KeyRecord, ...]


class KeysDocument(me.Document):
    """The keys that were ever made under one name, and how often they changed. None is ever removed."""

    meta = {"db_alias": "identity", "collection": "api_keys", "auto_create_index": False}  # noqa: RUF012 - mongoengine's way

    name = me.StringField(primary_key=True)
    version = me.IntField(required=True)
    keys = me.ListField(me.DictField())


def change(name: str, by: Callable[[Keys], Keys]) -> Keys:
    """Change the keys of a name, after everybody else's change; what `by` raises comes through and nothing is changed."""
    while True:
        found = collection_of(KeysDocument).find_one({"_id": name})
        after = by(_keys(found))
        if _replace(name, found["version"] if found else 0, [asdict(key) for key in after]):
            return after


def _replace(name: str, version: int, keys: list[dict[str, Any]]) -> bool:
    document = {"_id": name, "version": version + 1, "keys": keys}
    if version == 0:
        try:
            collection_of(KeysDocument).insert_one(document)
        except DuplicateKeyError:
            return False
        return True
    return bool(collection_of(KeysDocument).replace_one({"_id": name, "version": version}, document).matched_count)


def every() -> list[tuple[str, KeyRecord]]:
    """All keys with their names, by name and in the order in which they were made."""
    return [(found["_id"], key) for found in collection_of(KeysDocument).find({}).sort("_id", 1) for key in _keys(found)]


def name_of(key_id: str) -> str | None:
    """The name that a key was made under."""
    found = collection_of(KeysDocument).find_one({"keys.id": key_id}, {"_id": 1})
    return found["_id"] if found else None


def _keys(document: dict[str, Any] | None) -> Keys:
    return tuple(
        KeyRecord(**{**each, "scopes": tuple(each["scopes"]), "digest": bytes(each["digest"])}) for each in (document or {}).get("keys", ())
    )
