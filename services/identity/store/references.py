"""Which reference belongs to which profile, and which profiles decisions on merging concern."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import mongoengine as me

from services.identity.store.bulk import collection_of, find_by_ids
from shared.mongo import insert_new, portions


class ReferenceDocument(me.Document):
    """One reference. Its key is unique, so two workers that meet it at once agree on one profile."""

    meta = {"db_alias": "identity", "collection": "references", "auto_create_index": False}  # noqa: RUF012 - mongoengine's way

    reference = me.StringField(primary_key=True)
    profile = me.StringField(required=True)


class ProfileDocument(me.Document):
    """One profile. Most are customers by themselves: only those that a decision ever concerned are looked up among the decisions."""

    meta = {  # noqa: RUF012 - mongoengine's way
        "db_alias": "identity",
        "collection": "profiles",
        "auto_create_index": False,
        "indexes": [{"fields": ["absorbed"], "sparse": True}],
    }

    profile_id = me.StringField(primary_key=True)
    linked = me.BooleanField()
    """Some decision may concern it; written before the decision is."""
    absorbed = me.BooleanField()
    """It is part of another customer, as was last published; for counting."""
    published = me.IntField()
    """The version that `absorbed` is of."""


def _references() -> Any:
    return collection_of(ReferenceDocument)


def _profiles() -> Any:
    return collection_of(ProfileDocument)


def profiles_of(references: Iterable[str]) -> dict[str, str]:
    """The profiles of those references that are known."""
    return {found["_id"]: found["profile"] for found in find_by_ids(_references(), references)}


def claim(profiles: Mapping[str, str]) -> dict[str, str]:
    """Give new references to profiles; returns the ones that another process gave away first, with their profile."""
    documents = [{"_id": reference, "profile": profile} for reference, profile in profiles.items()]
    taken = insert_new(_references(), documents)
    return profiles_of(documents[index]["_id"] for index in taken)


def add_profiles(profiles: Collection[str]) -> set[str]:
    """Make profiles, each a customer by itself; those that exist stay as they are. Returns those that were made."""
    documents = [{"_id": profile} for profile in profiles]
    taken = insert_new(_profiles(), documents)
    return {each["_id"] for each in documents} - {documents[index]["_id"] for index in taken}


def linked(profiles: Iterable[str]) -> set[str]:
    """Those of these profiles that decisions may concern."""
    return {found["_id"] for found in find_by_ids(_profiles(), profiles, {"linked": 1}) if found.get("linked")}


def link(profiles: Iterable[str]) -> None:
    """A decision is about to concern these profiles."""
    for some in portions(profiles):
        _profiles().update_many({"_id": {"$in": some}}, {"$set": {"linked": True}})


def note_absorbed(absorbed: Mapping[str, tuple[bool, int]]) -> None:
    """Profile -> whether it is part of another customer, and the version of that; an older version changes nothing."""
    for profile, (is_absorbed, version) in absorbed.items():
        change: dict[str, Any] = {"$set": {"published": version, **({"absorbed": True} if is_absorbed else {})}}
        if not is_absorbed:
            change["$unset"] = {"absorbed": ""}
        _profiles().update_one({"_id": profile, "published": {"$not": {"$gt": version}}}, change)


def count_absorbed() -> int:
    """How many profiles are part of another customer."""
    return int(_profiles().count_documents({"absorbed": True}))


def erase(references: Iterable[str], profiles: Collection[str]) -> None:
    """Forget these references as far as they are those profiles'."""
    for some in portions(references):
        _references().delete_many({"_id": {"$in": some}, "profile": {"$in": list(profiles)}})


def erase_profiles(profiles: Iterable[str]) -> None:
    """Forget these profiles."""
    for some in portions(profiles):
        _profiles().delete_many({"_id": {"$in": some}})
