"""The read model in MongoDB: what the API answers from. Workers write it behind the stream; nothing is ever read back into rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import Any, ClassVar

from mongoengine import BooleanField, DateTimeField, DictField, Document, FloatField, IntField, ListField, StringField
from pymongo import ReplaceOne, UpdateOne

from shared.mongo import PAGE_ROWS, find_by, in_pages, portions, refused_as_duplicates

ALIAS = "segmentation"


class CustomerScores(Document):
    """The scores and segments of one customer."""

    meta: ClassVar = {
        "db_alias": ALIAS,
        "collection": "scores",
        "auto_create_index": False,
        "indexes": [
            {"fields": ["segments", "_id"]},
            {"fields": ["-value_at_risk_minor", "_id"]},
            {"fields": ["-expected_value_minor", "_id"]},
            {"fields": ["others"], "sparse": True},
        ],
    }

    id = StringField(primary_key=True)
    partition = IntField(required=True)
    as_of = DateTimeField(required=True)
    segments = ListField(StringField())
    recency_days = IntField(null=True)
    frequency = IntField()
    monetary_minor = IntField()
    rfm_cell = StringField()
    value_class = StringField()
    buys_again = FloatField()
    risk = FloatField()
    risk_band = StringField()
    expected_value_minor = IntField()
    value_at_risk_minor = IntField()
    next_purchase_on = StringField(null=True)
    reasons = ListField(StringField())
    need_segment = StringField(null=True)
    needs = ListField(StringField())
    stated_needs = ListField(StringField())
    bonds = ListField(StringField())
    model = StringField()
    purchases = IntField()
    bought_minor = IntField()
    refunded_minor = IntField()
    others = ListField(StringField())
    """The other profiles of the customer; absent where there is none, so that their index stays small."""


class PartitionSummary(Document):
    """What one partition's rows add up to, and how far they are."""

    meta: ClassVar = {"db_alias": ALIAS, "collection": "partitions", "auto_create_index": False}

    id = IntField(primary_key=True)
    generation = IntField(required=True)
    as_of = DateTimeField(null=True)
    """Every change up to here is in the customers' documents; null before each was stored once."""
    totals = DictField()
    segments = DictField()
    applied = DictField()
    cells = DictField()
    bands = DictField()
    classes = DictField()


class Curve(Document):
    """The 80/20 curves as each worker sees them: consumers' here, traders' within."""

    meta: ClassVar = {"db_alias": ALIAS, "collection": "curves", "auto_create_index": False}

    id = IntField(primary_key=True)
    as_of = DateTimeField(required=True)
    buyers = IntField()
    class_a_minor = IntField()
    class_b_minor = IntField()
    customer_share = ListField(FloatField())
    spend_share = ListField(FloatField())
    basis = StringField()
    """What customers are ranked by: spend or profit."""
    of_all_buyers = BooleanField()
    """Too few of a kind are compared with all buyers."""
    traders = DictField(null=True)
    """The same columns; null where there is one crowd only."""


def prepare() -> None:
    """Create the indexes."""
    CustomerScores.ensure_indexes()


def write_scores(documents: Sequence[dict[str, Any]]) -> None:
    """Put customers' scores in the place of the last."""
    refused = refused_as_duplicates(partial(_replace_scores, documents))
    if refused:
        # The partition's other owner put the same customers in at the same moment; now they are there to be replaced.
        _replace_scores([documents[place] for place in sorted(refused)])


def _replace_scores(documents: Sequence[dict[str, Any]]) -> None:
    CustomerScores._get_collection().bulk_write([ReplaceOne({"_id": each["_id"]}, each, upsert=True) for each in documents], ordered=False)


def write_summaries(summaries: Sequence[dict[str, Any]]) -> None:
    """Put partitions' summaries in the place of the last, except where a later owner of the partition has written one.

    Without totals only `as_of` is renewed; without `as_of` the last one stays.
    """
    if summaries:
        changes = [_summary_change(summary) for summary in summaries]
        refused_as_duplicates(partial(PartitionSummary._get_collection().bulk_write, changes, ordered=False))


def _summary_change(summary: dict[str, Any]) -> UpdateOne:
    known = {"_id": summary["_id"], "generation": {"$lte": summary["generation"]}}
    change: dict[str, Any] = {"$set": {name: value for name, value in summary.items() if name != "_id"}}
    if "as_of" not in summary:
        change["$setOnInsert"] = {"as_of": None}
    return UpdateOne(known, change, upsert="totals" in summary)


def write_curve(curve: dict[str, Any]) -> None:
    """Put a worker's curve in the place of the last."""
    Curve._get_collection().replace_one({"_id": curve["_id"]}, curve, upsert=True)


def read_scores(customer: str) -> dict[str, Any] | None:
    """The scores under one id."""
    found: dict[str, Any] | None = CustomerScores._get_collection().find_one({"_id": customer})
    return found


def read_scores_of(customers: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The scores of those who are known, by the id asked for: who is part of another customer has that one's."""
    wanted = dict.fromkeys(customers)
    found = {each["_id"]: each for each in find_by(CustomerScores._get_collection(), wanted)}
    missing = wanted.keys() - found.keys()
    homes = find_by(CustomerScores._get_collection(), missing, field="others") if missing else ()
    return {**found, **{other: home for home in homes for other in home["others"] if other in missing}}


def read_everyone(page_size: int = PAGE_ROWS) -> Iterator[list[dict[str, Any]]]:
    """All customers, in no order, in pages."""
    return in_pages(iter(CustomerScores._get_collection().find().batch_size(page_size)), page_size)


def forget(customer: str) -> int:
    """Delete a customer's scores; returns how many there were."""
    return int(CustomerScores._get_collection().delete_one({"_id": customer}).deleted_count)


def forget_all(customers: Sequence[str]) -> None:
    """Delete the scores of many."""
    for some in portions(customers):
        CustomerScores._get_collection().delete_many({"_id": {"$in": some}})


def read_best(order: str, limit: int, after: tuple[int, str] | None) -> list[dict[str, Any]]:
    """Customers by a score, highest first; equal ones by id."""
    wanted: dict[str, Any] = {}
    if after is not None:
        value, customer = after
        wanted = {"$or": [{order: {"$lt": value}}, {order: value, "_id": {"$gt": customer}}]}
    return list(CustomerScores._get_collection().find(wanted).sort([(order, -1), ("_id", 1)]).limit(limit))


def read_members(segment: str, limit: int, after: str) -> list[dict[str, Any]]:
    """The customers in a segment, by id."""
    return list(CustomerScores._get_collection().find({"segments": segment, "_id": {"$gt": after}}).sort("_id", 1).limit(limit))


def read_summaries() -> list[dict[str, Any]]:
    """All partitions' summaries."""
    return list(PartitionSummary._get_collection().find().sort("_id", 1))


def read_as_of() -> datetime | None:
    """The moment up to which the read model has every change."""
    return as_of(list(PartitionSummary._get_collection().find({}, {"as_of": 1})))


def read_curves() -> list[dict[str, Any]]:
    """All workers' curves."""
    return list(Curve._get_collection().find().sort("_id", 1))


def as_of(summaries: Sequence[dict[str, Any]]) -> datetime | None:
    """The oldest moment among them: everything is at least that new. None where one of them cannot say."""
    moments = [each["as_of"] for each in summaries]
    return min(moments) if moments and None not in moments else None
