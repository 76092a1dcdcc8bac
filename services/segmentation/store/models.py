"""Every model that was fitted, also those that were not accepted: kept, so that they can be compared."""

from __future__ import annotations

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


def keep(document: dict[str, Any]) -> bool:
    """Keep a fit under its version; False where another one took it first."""
    try:
        FittedModel._get_collection().insert_one(document)
    except DuplicateKeyError:
        return False
    return True


def newest(limit: int) -> list[dict[str, Any]]:
    """Fits, newest first."""
    return list(FittedModel._get_collection().find().sort("_id", -1).limit(limit))
