"""Read models of what others decide: products, and scores of customers who are not known yet."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from mongoengine import DateTimeField, DictField, Document, IntField, StringField
from pymongo import ReplaceOne

from shared.mongo import find_by


class ScoreDocument(Document):
    """The newest scores of a customer who was not known when they were told."""

    meta: ClassVar = {"collection": "scores", "db_alias": "campaigns", "auto_create_index": False}

    id = StringField(primary_key=True)
    as_of = DateTimeField(required=True)
    scores = DictField(required=True)


class ProductDocument(Document):
    """A product's current description."""

    meta: ClassVar = {"collection": "products", "db_alias": "campaigns", "auto_create_index": False}

    id = StringField(primary_key=True)
    name = StringField(required=True)
    department = StringField()
    category = StringField()
    unit_cost_minor = IntField()


def save_scores(documents: Mapping[str, dict[str, Any]], gone: Collection[str]) -> None:
    """Keep these scores."""
    _replace(ScoreDocument._get_collection(), documents, gone)


def save_products(documents: Mapping[str, dict[str, Any]], gone: Collection[str]) -> None:
    """Keep the current description of each product."""
    _replace(ProductDocument._get_collection(), documents, gone)


def scores_of(customers: Collection[str]) -> dict[str, dict[str, Any]]:
    """The scores kept of each customer that has any."""
    return {each["_id"]: each["scores"] for each in find_by(ScoreDocument._get_collection(), customers, {"scores": 1})}


def _replace(collection: Any, documents: Mapping[str, dict[str, Any]], gone: Collection[str]) -> None:
    if documents:
        collection.bulk_write([ReplaceOne({"_id": key}, each, upsert=True) for key, each in documents.items()], ordered=False)
    if gone:
        collection.delete_many({"_id": {"$in": list(gone)}})
