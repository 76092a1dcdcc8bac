"""The audit log in a service's own database. Entries are added and read; nothing here changes or removes one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shared.mongo import collection_named, insert_new


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
