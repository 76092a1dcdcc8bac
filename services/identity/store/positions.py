"""How far each log is in the timeline and what became of its events; which logs there were; what was published where."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import mongoengine as me
from pymongo.errors import DuplicateKeyError

from services.identity.store.bulk import collection_of
from services.identity.store.outcomes import PARKED, count_parked
from shared.contracts.topics import PARTITION_COUNT

COUNTED = ("accepted", "anonymous", "repeated", "quarantined", "lost")
"""What becomes of an event: of these exactly one, or it is parked, which is told by what is noted of it."""

Log = tuple[str, int]
"""Topic id and partition."""


class CommittedDocument(me.Document):
    """Of one partition of one log: everything up to `offset` is in the timeline, with all that follows from it, and counted here once."""

    meta = {"db_alias": "identity", "collection": "committed", "auto_create_index": False}  # noqa: RUF012 - mongoengine's way

    log = me.StringField(primary_key=True)
    topic_id = me.StringField(required=True)
    partition = me.IntField(required=True)
    offset = me.LongField(required=True)
    counts = me.DictField()


class LogDocument(me.Document):
    """A log that was read. `settled`: it is gone, and nothing of it is left half done."""

    meta = {"db_alias": "identity", "collection": "logs", "auto_create_index": False}  # noqa: RUF012 - mongoengine's way

    topic_id = me.StringField(primary_key=True)
    topic = me.StringField(required=True)
    settled = me.BooleanField(default=False)


class PublishedDocument(me.Document):
    """The id of the topic that holds all customers."""

    meta = {"db_alias": "identity", "collection": "published", "auto_create_index": False}  # noqa: RUF012 - mongoengine's way

    topic = me.StringField(primary_key=True)
    topic_id = me.StringField(required=True)


def _committed() -> Any:
    return collection_of(CommittedDocument)


def committed() -> dict[Log, int]:
    """How far each log is in the timeline."""
    return {(each["topic_id"], each["partition"]): each["offset"] for each in _committed().find({}, {"counts": 0})}


def committed_of(log: Log) -> int:
    """How far one log is in the timeline; -1 where nothing of it is."""
    found = _committed().find_one({"_id": _key(log)}, {"offset": 1})
    return int(found["offset"]) if found else -1


def commit(log: Log, outcomes: Mapping[int, str | None]) -> None:
    """Everything up to the last of these offsets is done; those beyond the committed one are counted, each once for ever.

    None is what is not counted here: a parked event, or a second coming of one that has been counted.
    """
    last = max(outcomes)
    while (before := committed_of(log)) < last:
        counts: dict[str, int] = {}
        for offset, outcome in outcomes.items():
            if offset > before and outcome is not None:
                counts[outcome] = counts.get(outcome, 0) + 1
        if _advance(log, before, last, counts):
            return


def pass_over(log: Log, upto: int, parked_count: int) -> int:
    """What is not done of the log up to this offset is gone and is counted as lost, but for what was parked; returns how much."""
    before = committed_of(log)
    lost_count = max(0, upto - before - parked_count)
    if upto <= before:
        return 0
    return lost_count if _advance(log, before, upto, {"lost": lost_count}) else pass_over(log, upto, parked_count)


def _advance(log: Log, before: int, last: int, counts: Mapping[str, int]) -> bool:
    """Move from exactly `before` to `last`; False where another process moved meanwhile."""
    if before < 0:
        try:
            _committed().insert_one({"_id": _key(log), "topic_id": log[0], "partition": log[1], "offset": last, "counts": dict(counts)})
        except DuplicateKeyError:
            return False
        return True
    changes: dict[str, Any] = {"$set": {"offset": last}}
    if counts:
        changes["$inc"] = {f"counts.{name}": count for name, count in counts.items()}
    return bool(_committed().update_one({"_id": _key(log), "offset": before}, changes).matched_count)


def _key(log: Log) -> str:
    return f"{log[0]}/{log[1]}"


def outcomes() -> dict[str, int]:
    """What became of every event of every log, summed."""
    return {**counted(), PARKED: count_parked()}


def counted(topic: str | None = None) -> dict[str, int]:
    """The same without what is parked; with `topic`, of the events of all logs that it has had."""
    totals = dict.fromkeys(COUNTED, 0)
    wanted = {} if topic is None else {"topic_id": {"$in": [each["_id"] for each in collection_of(LogDocument).find({"topic": topic})]}}
    for each in _committed().find(wanted, {"counts": 1}):
        for name in COUNTED:
            totals[name] += each["counts"].get(name, 0)
    return totals


def register_logs(topics: Mapping[str, str]) -> None:
    """Remember these logs, topic name -> topic id."""
    for topic, topic_id in topics.items():
        collection_of(LogDocument).update_one({"_id": topic_id}, {"$setOnInsert": {"topic": topic, "settled": False}}, upsert=True)


def lost_logs(current: Iterable[str]) -> list[tuple[str, Log]]:
    """Topic name and every partition of the logs that are gone and not settled."""
    lost = collection_of(LogDocument).find({"settled": False, "_id": {"$nin": list(current)}})
    return [(each["topic"], (each["_id"], partition)) for each in lost for partition in range(PARTITION_COUNT)]


def settle_logs(topic_ids: Iterable[str]) -> None:
    """Nothing of these lost logs is left half done."""
    collection_of(LogDocument).update_many({"_id": {"$in": list(topic_ids)}}, {"$set": {"settled": True}})


def published_topic(topic: str) -> str | None:
    """The id of the log of that topic that everything was last published to."""
    found = collection_of(PublishedDocument).find_one({"_id": topic})
    return found["topic_id"] if found else None


def set_published_topic(topic: str, topic_id: str) -> None:
    """Everything is in this log of the topic."""
    collection_of(PublishedDocument).update_one({"_id": topic}, {"$set": {"topic_id": topic_id}}, upsert=True)
