"""Segments of a deployment's own, and questions that only the holders of rows can answer."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, ClassVar

from mongoengine import BooleanField, DateTimeField, DictField, Document, IntField, ListField, StringField
from pymongo.errors import DuplicateKeyError

ALIAS = "segmentation"
_COUNTER = "version"


class OwnSegment(Document):
    """A segment as its owner wrote it, and its bit in the memberships."""

    meta: ClassVar = {
        "db_alias": ALIAS,
        "collection": "segments",
        "auto_create_index": False,
        "indexes": [{"fields": ["bit"], "unique": True}],
    }

    id = IntField(primary_key=True)
    """The bit again: one document for each, taken over when the bit is given to another name."""
    bit = IntField(required=True)
    name = StringField(required=True)
    definition = DictField(required=True)
    retired = BooleanField(required=True)
    changed_at = DateTimeField(required=True)


class Counter(Document):
    """Grows with every change of a segment."""

    meta: ClassVar = {"db_alias": ALIAS, "collection": "counters", "auto_create_index": False}

    id = StringField(primary_key=True)
    value = IntField(required=True)


class Question(Document):
    """What the API wants to know of rows; each partition's owner adds its answer."""

    meta: ClassVar = {"db_alias": ALIAS, "collection": "questions", "auto_create_index": False}

    id = StringField(primary_key=True)
    kind = StringField(required=True)
    about = DictField(required=True)
    partitions = ListField(IntField())
    """Whose owners are asked."""
    asked_at = DateTimeField(required=True)
    answers = DictField()


class NoRoom(Exception):
    """Every bit is in use."""


def version() -> int:
    """Of the segments: 0 before the first change."""
    found = Counter._get_collection().find_one({"_id": _COUNTER})
    return int(found["value"]) if found else 0


def read_all() -> list[dict[str, Any]]:
    """All own segments, also retired ones whose bit nobody has taken yet."""
    return list(OwnSegment._get_collection().find().sort("_id", 1))


def put(name: str, definition: dict[str, Any], bits: Iterable[int], now: datetime, rests: timedelta) -> bool:
    """Write a segment under its name; True where it is new. A bit that was retired is given away after `rests`. Raises NoRoom."""
    collection = OwnSegment._get_collection()
    values = {"name": name, "definition": definition, "retired": False, "changed_at": now}
    known = collection.find_one_and_update({"name": name}, {"$set": values})
    if known is None:
        _take_bit(values, bits, now - rests)
    _count()
    return known is None or bool(known["retired"])


def retire(name: str, now: datetime) -> bool:
    """Nobody is in it from now on. False where there is none."""
    collection = OwnSegment._get_collection()
    known = collection.find_one_and_update({"name": name, "retired": False}, {"$set": {"retired": True, "changed_at": now}})
    if known is None:
        return False
    _count()
    return True


def _take_bit(values: dict[str, Any], bits: Iterable[int], retired_before: datetime) -> None:
    collection = OwnSegment._get_collection()
    taken = {each["_id"] for each in collection.find({}, {"_id": 1})}
    for bit in bits:
        if bit not in taken:
            try:
                collection.insert_one({"_id": bit, "bit": bit, **values})
            except DuplicateKeyError:
                continue
            return
    free = {"retired": True, "changed_at": {"$lt": retired_before}}
    if collection.find_one_and_update(free, {"$set": values}, sort=[("changed_at", 1)]) is None:
        raise NoRoom


def _count() -> None:
    # After the write, so that whoever sees the new version sees the new segments.
    Counter._get_collection().update_one({"_id": _COUNTER}, {"$inc": {"value": 1}}, upsert=True)


def ask(question: dict[str, Any]) -> None:
    """Put a question."""
    Question._get_collection().insert_one({**question, "answers": {}})


def open_questions(asked_after: datetime) -> list[dict[str, Any]]:
    """Questions that somebody still waits for."""
    return list(Question._get_collection().find({"asked_at": {"$gt": asked_after}}))


def answer(question: str, partition: int, found: dict[str, Any]) -> None:
    """Add a partition's answer."""
    Question._get_collection().update_one({"_id": question}, {"$set": {f"answers.{partition}": found}})


def answers(question: str) -> dict[str, Any]:
    """What was answered so far, by partition."""
    found = Question._get_collection().find_one({"_id": question})
    return dict(found["answers"]) if found else {}


def forget(question: str) -> None:
    """It was answered, or nobody waits any more."""
    Question._get_collection().delete_one({"_id": question})
