"""Goes through a collection a part at a time, in parts that both databases find without reading what is outside them."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from typing import Any

from pymongo.collection import Collection

from shared.mongo import collection_named

_SPACE = 2**32
"""As many places as eight hexadecimal digits tell apart."""


def parts(database: str, name: str, collection: Collection[Any], field: str, size: int) -> Iterator[dict[str, Any]]:
    """Conditions for about so many documents each, from where the last walk of this name came to, up to the end.

    The field is indexed, and holds ids that begin with evenly spread hexadecimal digits. How far the walk came is noted when the next part
    is asked for, so that whoever dies in between looks at his part again; the next walk after the end begins at the beginning.
    """
    walks = collection_named(database, "retention")
    low: str = (walks.find_one({"_id": name}) or {}).get("place", "")
    step = max(1, _SPACE // max(1, ceil(collection.estimated_document_count() / size)))
    while True:
        beyond = int(low or "0", 16) + step
        high = f"{beyond:08x}" if beyond < _SPACE else ""
        yield {field: {"$gte": low, **({"$lt": high} if high else {})}}
        walks.update_one({"_id": name}, {"$set": {"place": high}}, upsert=True)
        if not high:
            return
        low = high
