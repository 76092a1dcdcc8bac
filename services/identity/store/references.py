"""Which reference belongs to which profile, and which profile to which customer."""

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
    """One profile, and the customer that it belongs to now."""

    meta = {"db_alias": "identity", "collection": "profiles", "auto_create_index": False}  # noqa: RUF012 - mongoengine's way

    profile_id = me.StringField(primary_key=True)
    customer = me.StringField(required=True)


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


def customers_of(profiles: Iterable[str]) -> dict[str, str]:
    """The customers of those profiles that have one."""
    return {found["_id"]: found["customer"] for found in find_by_ids(_profiles(), profiles)}


def add_profiles(profiles: Collection[str]) -> None:
    """Make profiles, each a customer by itself; those that exist stay as they are."""
    insert_new(_profiles(), [{"_id": profile, "customer": profile} for profile in profiles])


def erase(references: Iterable[str], profiles: Collection[str]) -> None:
    """Forget these references as far as they are those profiles'."""
    for some in portions(references):
        _references().delete_many({"_id": {"$in": some}, "profile": {"$in": list(profiles)}})


def erase_profiles(profiles: Iterable[str]) -> None:
    """Forget these profiles."""
    for some in portions(profiles):
        _profiles().delete_many({"_id": {"$in": some}})
