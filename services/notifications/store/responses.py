"""Responses: what readers did with their mails, one document for each mail, kind and day; also what is still to be told of it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Any

import mongoengine as me
from pymongo import UpdateMany

from services.notifications.domain.interactions import Kind, Response
from shared.mongo import find_by, insert_new, portions
from shared.walks import parts

RETIRED_AT_ONCE = 200


class ResponseDocument(me.Document):
    """The first response of its kind to a mail on a day. `unreported` and whose it was are there until it is published."""

    meta = {  # noqa: RUF012 - mongoengine's way
        "db_alias": "notifications",
        "collection": "responses",
        "auto_create_index": False,
        "indexes": [{"fields": ["unreported"], "sparse": True}, "message_id"],
    }

    response_id = me.StringField(primary_key=True)
    kind = me.StringField(required=True, choices=[kind.value for kind in Kind])
    message_id = me.StringField(required=True)
    partition = me.IntField(required=True)
    at = me.DateTimeField(required=True)
    properties = me.DictField()
    reference = me.StringField()
    unreported = me.BooleanField()


def record(response: Response) -> bool:
    """Keep it, to be published; False where there was one of that id before."""
    fields = {name: getattr(response, name) for name in ("kind", "message_id", "partition", "at", "reference")}
    document = {"_id": response.response_id, **fields, "properties": dict(response.properties), "unreported": True}
    return not insert_new(_collection(), [document])


def unreported(partitions: Collection[int], limit: int) -> list[Response]:
    """Responses to mails of these partitions that are not published yet."""
    found = _collection().find({"unreported": True, "partition": {"$in": list(partitions)}}).limit(limit)
    return [_response(document) for document in found]


def reported(response_ids: Collection[str]) -> None:
    """These are published; whose they were needs not be known any more."""
    told = {"$unset": {"unreported": "", "reference": ""}}
    writes = [UpdateMany({"_id": {"$in": ids}}, told) for ids in portions(response_ids)]
    if writes:
        _collection().bulk_write(writes, ordered=False)


def of_messages(message_ids: Collection[str]) -> list[dict[str, Any]]:
    """What readers did with these mails, as it is shown to them."""
    found = find_by(_collection(), message_ids, field="message_id")
    return [{"response": each["kind"], **{name: each[name] for name in ("message_id", "at", "properties")}} for each in found]


def erase(message_ids: Collection[str]) -> int:
    """Delete what readers did with these mails, told or not; returns how much there was."""
    return sum(_collection().delete_many({"message_id": {"$in": some}}).deleted_count for some in portions(message_ids))


def retire(before: datetime) -> Iterator[int]:
    """Delete what readers did before then and was told, a portion a step."""
    for part in parts("notifications", "responses", _collection(), "message_id", RETIRED_AT_ONCE):
        old = [each["_id"] for each in _collection().find({**part, "unreported": None, "at": {"$lt": before}}, {"_id": 1})]
        yield sum(_collection().delete_many({"_id": {"$in": some}}).deleted_count for some in portions(old))


def _response(document: dict[str, Any]) -> Response:
    return Response(
        response_id=document["_id"],
        kind=Kind(document["kind"]),
        message_id=document["message_id"],
        partition=document["partition"],
        at=document["at"],
        reference=document["reference"],
        properties=document["properties"],
    )


def _collection() -> Any:
    return ResponseDocument._get_collection()
