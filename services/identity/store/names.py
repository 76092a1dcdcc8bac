"""The index of names: where to look for a customer of whom somebody typed a part of the name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import mongoengine as me
from pymongo import ReplaceOne

from services.identity.domain.customers import CustomerState
from services.identity.domain.names import has_a_name, key_for, keys_of, names_of
from services.identity.store.bulk import collection_of
from shared.mongo import portions, refused_as_duplicates


class NameDocument(me.Document):
    """What one customer is called. A hint only: whoever finds it reads the customer, for names change and customers merge."""

    meta = {"db_alias": "identity", "collection": "names", "auto_create_index": False, "indexes": ["keys"]}  # noqa: RUF012

    customer_id = me.StringField(primary_key=True)
    version = me.IntField(required=True)
    """Of the customer: what an older one was called replaces nothing."""
    keys = me.ListField(me.StringField())


def note(states: Iterable[CustomerState]) -> None:
    """Note what these customers are called now; of those that were never called anything nothing is written."""
    writes = [
        ReplaceOne(
            {"_id": state.customer_id, "version": {"$lt": state.version}},
            {"_id": state.customer_id, "version": state.version, "keys": keys_of(names_of(state.traits))},
            upsert=True,
        )
        for state in states
        if has_a_name(state)
    ]
    if writes:
        # Where the same or a newer version is noted already, the upsert finds its key taken.
        refused_as_duplicates(lambda: collection_of(NameDocument).bulk_write(writes, ordered=False))


def forget(customer_ids: Iterable[str]) -> None:
    """Remove what these customers were called."""
    for some in portions(customer_ids):
        collection_of(NameDocument).delete_many({"_id": {"$in": some}})


def customers_called(typed: Sequence[str], limit: int) -> list[str]:
    """Customers that may be called so, or were once."""
    key = key_for(tuple(typed))
    found: Any = collection_of(NameDocument).find({"keys": key}, {"_id": 1}).limit(limit) if key else ()
    return [each["_id"] for each in found]
