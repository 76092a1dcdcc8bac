"""Every model that was fitted, also those that were not accepted: kept, so that they can be compared."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

from mongoengine import BooleanField, DateTimeField, DictField, Document, IntField, StringField
from pymongo.errors import DuplicateKeyError

ALIAS = "segmentation"


class FittedModel(Document):
    """One fit: what it learned from, how it did, and whether it was taken."""

    meta: ClassVar = {"db_alias": ALIAS, "collection": "models", "auto_create_index": False}

    id = IntField(primary_key=True)
    """Its version."""
    name = StringField(required=True)
    fitted_at = DateTimeField(required=True)
    data_from = StringField()
    data_until = StringField()
    customers = IntField()
    parameters = DictField()
    back_test = DictField()
    """How it did on the newest window whose outcome is known, without having seen that."""
    back_test_of_current = DictField()
    """How the model that was in use did on the same window."""
    accepted = BooleanField(required=True)
    why = StringField()
    event = StringField()
    """What is published where it was accepted, as it is."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What a refit, or whoever has refits made, needs to know of those before."""

    newest_at: datetime | None = None
    """When the newest fit was made, accepted or not; None before there is one."""
    accepted_version: int = 0
    """Of the newest accepted fit; 0 before there is one."""
    event: bytes = b""
    """What that fit is published by."""
    needs_version: int = 0
    """Of the newest need model; 0 before there is one."""
    needs: str = ""
    """What that is published with."""


class KeptNeeds(Document):
    """A need model that was published, with why."""

    meta: ClassVar = {"db_alias": ALIAS, "collection": "need_models", "auto_create_index": False}

    id = IntField(primary_key=True)
    """Its version."""
    fitted_at = DateTimeField(required=True)
    why = StringField()
    published = StringField(required=True)
    """The data of the event, as JSON."""


def keep_needs(document: dict[str, Any]) -> bool:
    """Keep a need model under its version; False where another one took it first."""
    return _insert(KeptNeeds, document)


def newest_needs() -> dict[str, Any] | None:
    """The newest need model."""
    found: dict[str, Any] | None = KeptNeeds._get_collection().find_one(sort=[("_id", -1)])
    return found


def keep(document: dict[str, Any]) -> bool:
    """Keep a fit under its version; False where another one took it first."""
    return _insert(FittedModel, document)


def newest(limit: int) -> list[dict[str, Any]]:
    """Fits, newest first."""
    return list(FittedModel._get_collection().find({}, {"event": 0}).sort("_id", -1).limit(limit))


def look_back() -> Kept:
    """The newest fit, the newest that was accepted, and the newest need model."""
    fits = FittedModel._get_collection()
    of_all = fits.find_one({}, {"fitted_at": 1}, sort=[("_id", -1)])
    accepted = fits.find_one({"accepted": True, "event": {"$exists": True}}, {"event": 1}, sort=[("_id", -1)])
    needs = newest_needs()
    return Kept(
        of_all["fitted_at"] if of_all else None,
        *((accepted["_id"], accepted["event"].encode()) if accepted else (0, b"")),
        *((needs["_id"], needs["published"]) if needs else (0, "")),
    )


def _insert(into: type[Document], document: dict[str, Any]) -> bool:
    try:
        into._get_collection().insert_one(document)
    except DuplicateKeyError:
        return False
    return True
