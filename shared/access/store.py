"""The audit log in a service's own database. Entries are added and read, and go where a retention rule says so; none is changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from shared.mongo import collection_named, in_pages, insert_new, portions

RETIRED_AT_ONCE = 200


def _entries(database: str) -> Any:
    return collection_named(database, "audit")


def prepare(database: str) -> None:
    """Make the indexes: whose data, and who did it."""
    for field in ("about", "who"):
        _entries(database).create_index([(field, 1), ("_id", 1)])


def append(database: str, documents: Sequence[dict[str, Any]]) -> None:
    """Add entries; those that are there already stay as they are. Raises Unavailable."""
    insert_new(_entries(database), documents)


def page(database: str, wanted: dict[str, str], before: str, limit: int) -> list[dict[str, Any]]:
    """The newest entries before that id, of those with these values."""
    query: dict[str, Any] = {**wanted, **({"_id": {"$lt": before}} if before else {})}
    return list(_entries(database).find(query).sort("_id", -1).limit(limit))


def id_of(at: datetime, suffix: str = "") -> str:
    """How an entry's id begins: in order of time, so that the key is also the order of reading."""
    return f"{int(at.timestamp() * 1_000_000):016x}{suffix}"


def retire(database: str, before: datetime) -> Iterator[int]:
    """Delete the entries from before then, a portion a step; says how many."""
    entries = _entries(database)
    older = entries.find({"_id": {"$lt": id_of(before)}}, {"_id": 1}).batch_size(RETIRED_AT_ONCE)
    for some in in_pages(older, RETIRED_AT_ONCE):
        yield sum(entries.delete_many({"_id": {"$in": ids}}).deleted_count for ids in portions(each["_id"] for each in some))
