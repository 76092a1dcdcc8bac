"""The read model of customers: members and version, as identity published them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

from mongoengine import DateTimeField, Document, IntField, ListField, StringField
from pymongo import UpdateOne

from shared.mongo import find_by, insert_new


@dataclass(frozen=True, slots=True)
class Customer:
    """One customer: the profiles that are believed to be one person or firm."""

    id: str
    version: int
    members: tuple[str, ...]
    first_seen_at: datetime
    merged_into: str | None = None
    """The customer that it is part of, of one that is none by itself any more."""


class KnownCustomerDocument(Document):
    """What was published under one id.

    `aliases` are the members other than the customer's own id; most customers have none, so their index stays small.
    """

    meta: ClassVar = {"collection": "customers", "db_alias": "campaigns", "auto_create_index": False}

    id = StringField(primary_key=True)
    version = IntField(required=True)
    members = ListField(StringField(), required=True)
    aliases = ListField(StringField())
    first_seen_at = DateTimeField(required=True)
    merged_into = StringField()


def _customers() -> Any:
    return KnownCustomerDocument._get_collection()


def ensure_indexes() -> None:
    """A profile's customer is found by alias."""
    _customers().create_index("aliases", sparse=True)


def known(ids: Collection[str]) -> set[str]:
    """Those of the ids that are customers here."""
    return {found["_id"] for found in find_by(_customers(), ids, {"_id": 1})}


def save(customers: Sequence[Customer]) -> None:
    """Keep each customer unless a newer version is there. Each id may occur once."""
    documents = [_document(customer) for customer in customers]
    if there := insert_new(_customers(), documents):
        _customers().bulk_write([_if_newer(documents[position]) for position in sorted(there)], ordered=False)


def _if_newer(document: dict[str, Any]) -> UpdateOne:
    change: dict[str, Any] = {"$set": {name: value for name, value in document.items() if name != "_id"}}
    if absent := {name: "" for name in ("aliases", "merged_into") if name not in document}:
        change["$unset"] = absent
    return UpdateOne({"_id": document["_id"], "version": {"$lt": document["version"]}}, change)


def _document(customer: Customer) -> dict[str, Any]:
    aliases = [member for member in customer.members if member != customer.id]
    document = {
        "_id": customer.id,
        "version": customer.version,
        "members": list(customer.members),
        "first_seen_at": customer.first_seen_at,
    }
    # What is part of another customer has no members of its own: those that it had are the other's.
    if customer.merged_into is not None:
        return {**document, "merged_into": customer.merged_into}
    return {**document, "aliases": aliases} if aliases else document


def forget(ids: Collection[str]) -> None:
    """Drop customers that identity took back."""
    if ids:
        _customers().delete_many({"_id": {"$in": list(ids)}})


def owners(profiles: Collection[str]) -> dict[str, str]:
    """The customer of each profile whose customer has another id; every other profile is its own customer."""
    wanted = set(profiles)
    found = find_by(_customers(), wanted, {"aliases": 1}, field="aliases")
    return {alias: customer["_id"] for customer in found for alias in customer["aliases"] if alias in wanted}


def all_owners() -> dict[str, str]:
    """The same for every profile there is."""
    return {alias: found["_id"] for found in _customers().find({"aliases": {"$gt": ""}}, {"aliases": 1}) for alias in found["aliases"]}


def homes(ids: Collection[str]) -> dict[str, str]:
    """The customer that each of these ids belongs to now: mostly itself."""
    return {asked: found["_id"] if found else asked for asked, found in _homes(ids).items()}


def members(ids: Collection[str]) -> dict[str, list[str]]:
    """The profiles of the customer of each id; of one that is not known here, only the profile of its own id."""
    return {asked: found["members"] if found else [asked] for asked, found in _homes(ids).items()}


def _homes(ids: Collection[str]) -> dict[str, dict[str, Any] | None]:
    kept = {"members": 1, "merged_into": 1}
    found = {each["_id"]: each for each in find_by(_customers(), ids, kept)}
    # Versions of different customers come in any order, so one may still name another that itself was merged since.
    while missing := {each["merged_into"] for each in found.values() if each.get("merged_into")} - found.keys():
        more = {each["_id"]: each for each in find_by(_customers(), missing, kept)}
        found.update({each: more.get(each, {"_id": each, "members": [each]}) for each in missing})
    return {asked: _home(found[asked], found) if asked in found else None for asked in ids}


def _home(customer: dict[str, Any], found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    passed = {customer["_id"]}
    while (into := customer.get("merged_into")) is not None and into not in passed:
        passed.add(into)
        customer = found[into]
    return customer


def count() -> int:
    """How many customers are known, roughly where the database counts roughly."""
    return int(_customers().estimated_document_count())


def page(after: str, limit: int) -> list[Customer]:
    """Customers by id, beginning after the id named."""
    found = _customers().find({"_id": {"$gt": after}}).sort("_id", 1).limit(limit)
    return [Customer(each["_id"], each["version"], tuple(each["members"]), each["first_seen_at"]) for each in found]
