"""The graves of erased references and events: keyed hashes, and nothing else of anybody."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import mongoengine as me
from pymongo import UpdateOne

from services.identity.domain.graves import Digest, Grave, Graves
from services.identity.store.bulk import collection_of, find_by_ids
from shared.mongo import insert_new

_NUMBER = "number"


class GraveDocument(me.Document):
    """One reference that was erased."""

    meta = {"db_alias": "identity", "collection": "graves", "auto_create_index": False}  # noqa: RUF012 - mongoengine's way

    digest = me.StringField(primary_key=True)
    until = me.LongField(required=True)
    request_id = me.StringField(required=True)


class EventGraveDocument(me.Document):
    """One event that was erased, by the keyed hash of its source and id."""

    meta = {"db_alias": "identity", "collection": "event_graves", "auto_create_index": False}  # noqa: RUF012 - mongoengine's way

    digest = me.StringField(primary_key=True)


class ErasureCountDocument(me.Document):
    """How often graves were dug: what every process compares with."""

    meta = {"db_alias": "identity", "collection": "erasure_count", "auto_create_index": False}  # noqa: RUF012 - mongoengine's way

    name = me.StringField(primary_key=True)
    number = me.LongField(required=True)


def bury(references: Iterable[str], events: Iterable[str], grave: Grave) -> None:
    """Dig graves for these digests; then, and only then, tell every process to look. Digging again changes nothing."""
    later = {"$max": {"until": grave.until}, "$set": {"request_id": grave.request_id}}
    writes = [UpdateOne({"_id": digest}, later, upsert=True) for digest in references]
    if writes:
        collection_of(GraveDocument).bulk_write(writes, ordered=False)
    insert_new(collection_of(EventGraveDocument), [{"_id": digest} for digest in dict.fromkeys(events)])
    collection_of(ErasureCountDocument).update_one({"_id": _NUMBER}, {"$inc": {"number": 1}}, upsert=True)


def number() -> int:
    """How often graves were dug."""
    found = collection_of(ErasureCountDocument).find_one({"_id": _NUMBER})
    return int(found["number"]) if found else 0


def load(known: Graves, digest: Digest | None) -> Graves:
    """The graves that there are, or the known ones where none were dug since."""
    # The number is read first: graves that are dug meanwhile are then read once more, and never missed.
    now = number()
    if now == known.number:
        return known
    found: Iterable[dict[str, Any]] = collection_of(GraveDocument).find({})
    return Graves(now, {each["_id"]: Grave(each["until"], each["request_id"]) for each in found}, digest)


def buried(events: Iterable[str]) -> set[str]:
    """Those of these digests of events that have a grave."""
    return {found["_id"] for found in find_by_ids(collection_of(EventGraveDocument), events)}
