"""Reads and writes as both databases do them well."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from pymongo.collection import Collection

LOOKUP_SIZE = 25
"""Keys per lookup: the embedded database compares every document found with every key asked for."""


def collection_of(document: Any) -> Collection[Any]:
    """A document's collection."""
    collection: Collection[Any] = document._get_collection()
    return collection


def find_by_ids(collection: Collection[Any], ids: Iterable[str], projection: dict[str, int] | None = None) -> Iterator[dict[str, Any]]:
    """The documents with these keys, in no order."""
    for some in _chunks(ids, LOOKUP_SIZE):
        yield from collection.find({"_id": {"$in": some}}, projection)


def _chunks(items: Iterable[str], size: int) -> Iterator[list[str]]:
    remaining = iter(items)
    while chunk := list(islice(remaining, size)):
        yield chunk
