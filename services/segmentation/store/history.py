"""How scores and segments were: a point a day, in rings of 400 days, so that nothing grows without end.

Nothing has to be deleted; where a retention rule says so, customers' points are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, ClassVar

from mongoengine import DateTimeField, DictField, Document, FloatField, IntField, StringField
from pymongo import ReplaceOne, UpdateOne

from shared.mongo import find_by, insert_new, portions, refused_as_duplicates

ALIAS = "segmentation"
KEPT_DAYS = 400
"""A day's point takes the place of the one 400 days before it."""


class ScorePoint(Document):
    """What a customer's scores were on a day.

    Found by key alone: a second index would take two thirds of the embedded database's rate of inserts.
    """

    meta: ClassVar = {"db_alias": ALIAS, "collection": "score_points", "auto_create_index": False}

    id = StringField(primary_key=True)
    """customer/place in the ring."""
    day = IntField(required=True)
    as_of = DateTimeField(required=True)
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
    model = StringField()


class SizePoint(Document):
    """How many of a partition's customers were in each segment on a day."""

    meta: ClassVar = {"db_alias": ALIAS, "collection": "size_points", "auto_create_index": False}

    id = StringField(primary_key=True)
    """partition/place in the ring."""
    partition = IntField(required=True)
    generation = IntField(required=True)
    day = IntField(required=True)
    as_of = DateTimeField(required=True)
    sizes = DictField()


POINT_SCORES = tuple(name for name in ScorePoint._fields if name not in ("id", "day", "as_of"))
"""The scores that a point has."""


def score_point(customer: str, day: int, at: datetime, scores: Mapping[str, Any]) -> dict[str, Any]:
    """A customer's point of a day; another of the same day takes its place."""
    return {"_id": f"{customer}/{day % KEPT_DAYS}", "day": day, "as_of": at, **{name: scores[name] for name in POINT_SCORES}}


def size_point(partition: int, generation: int, day: int, at: datetime, sizes: Mapping[str, int]) -> dict[str, Any]:
    """A partition's point of a day; another of the same day takes its place."""
    place = f"{partition}/{day % KEPT_DAYS}"
    return {"_id": place, "partition": partition, "generation": generation, "day": day, "as_of": at, "sizes": dict(sizes)}


def write_score_points(points: Sequence[dict[str, Any]]) -> None:
    """Put customers' points in their places. Most places are empty, and inserting is several times cheaper than replacing."""
    collection = ScorePoint._get_collection()
    taken = insert_new(collection, points)
    if taken:
        newer = [points[place] for place in sorted(taken)]
        collection.bulk_write([ReplaceOne({"_id": point["_id"]}, point, upsert=True) for point in newer], ordered=False)


def write_size_points(points: Sequence[dict[str, Any]]) -> None:
    """Put partitions' points in their places, unless a later owner of the partition has written there."""
    changes = [
        UpdateOne({"_id": point["_id"], "generation": {"$lte": point["generation"]}}, {"$set": _without_id(point)}, upsert=True)
        for point in points
    ]
    if changes:
        refused_as_duplicates(partial(SizePoint._get_collection().bulk_write, changes, ordered=False))


def read_score_points(customer: str) -> list[dict[str, Any]]:
    """A customer's points of the 400 days that end with his newest, oldest first."""
    return _of_one_ring(find_by(ScorePoint._get_collection(), _places(customer)))


def read_size_points(segment: str) -> list[dict[str, Any]]:
    """All partitions' points of the 400 days that end with the newest, oldest first: `size` is None before there was such a segment."""
    shown = {"partition": 1, "day": 1, "as_of": 1, f"sizes.{segment}": 1}
    points = _of_one_ring(SizePoint._get_collection().find({}, shown))
    return [{**point, "size": point.get("sizes", {}).get(segment)} for point in points]


def forget(customer: str) -> None:
    """Delete a customer's points."""
    for some in portions(_places(customer)):
        ScorePoint._get_collection().delete_many({"_id": {"$in": some}})


def places_of_days(first: int | None, beyond: int) -> list[int]:
    """Where points of these days may lie; without a first day, of all before."""
    if first is None or beyond - first >= KEPT_DAYS:
        return list(range(KEPT_DAYS))
    return [day % KEPT_DAYS for day in range(first, beyond)]


def retire(customers: Sequence[str], places: Sequence[int], before_day: int) -> int:
    """Delete the points of these customers in these places that are of days before that one; returns how many there were."""
    keys = (f"{customer}/{place}" for customer in customers for place in places)
    points, old = ScorePoint._get_collection(), {"day": {"$lt": before_day}}
    return sum(points.delete_many({"_id": {"$in": some}, **old}).deleted_count for some in portions(keys))


def _places(customer: str) -> list[str]:
    return [f"{customer}/{place}" for place in range(KEPT_DAYS)]


def _of_one_ring(points: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Where nothing changed for long, places still hold points of the ring's last turn."""
    ordered = sorted(points, key=lambda point: (point["day"], point.get("partition", 0)))
    newest = ordered[-1]["day"] if ordered else 0
    return [point for point in ordered if point["day"] > newest - KEPT_DAYS]


def _without_id(point: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in point.items() if name != "_id"}
