"""The events and references that were not simply accepted, each with its reason. Keyed by position, so a redelivery adds nothing.

What is noted as parked is parked: a redelivery is not judged again, because the clock by which it was judged has moved on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import mongoengine as me

from services.identity.store.bulk import collection_of
from shared.mongo import find_by, in_pages, insert_new, portions
from shared.vault import vault_of

PARKED = "parked"
BLOCK_OFFSETS = 4096
"""How much of a log lies in one place: the embedded database finds equal values by an index, but no range of them."""


class OutcomeDocument(me.Document):
    """One quarantined event, parked event, or refused merge."""

    meta = {"db_alias": "identity", "collection": "outcomes", "auto_create_index": False, "indexes": ["outcome", "place"]}  # noqa: RUF012

    outcome_id = me.StringField(primary_key=True)
    outcome = me.StringField(required=True)
    reason = me.StringField(required=True)
    detail = me.StringField()
    origin = me.StringField(required=True)
    place = me.StringField()
    """`topic id/partition/block of offsets`, of a parked event: the way to what is parked between two offsets."""
    offset = me.LongField()
    event = me.BinaryField()
    """What was sent, of a quarantined or parked event; of one that is larger than any event may be, the beginning. Sealed."""
    sealed_for = me.StringField()
    named = me.StringField()
    profiles = me.ListField(me.StringField())
    at = me.DateTimeField()
    """When it was noted, by the service's clock."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is to be noted."""

    outcome: str
    reason: str
    detail: str
    origin: str
    subject: str = ""
    """Tells apart what happened to several references of one event."""
    event: bytes | None = None
    owner: str | None = None
    """Whose key the event is sealed under; its own where nobody is named."""
    named: str | None = None
    """The event's source and id, where it could be read."""
    profiles: tuple[str, ...] = ()
    """Of a refused merge: who did not become one customer, as far as they were asked about."""


@dataclass(frozen=True, slots=True)
class Parked:
    """An event that was parked."""

    reason: str
    detail: str


def note(outcomes: Sequence[Outcome], at: datetime) -> None:
    """Keep them; those that are kept already stay as they are."""
    with_text = [(each.owner or _id(each), _id(each), each.event) for each in outcomes if each.event is not None]
    texts = {name: (owner, text) for (owner, name, _), text in zip(with_text, vault_of("identity").seal(with_text), strict=True)}
    insert_new(collection_of(OutcomeDocument), [_document(outcome, at, *texts.get(_id(outcome), (None, None))) for outcome in outcomes])


def _id(outcome: Outcome) -> str:
    return f"{outcome.origin}/{outcome.outcome}/{outcome.subject}"


def _document(outcome: Outcome, at: datetime, owner: str | None, text: bytes | None) -> dict[str, Any]:
    topic_id, partition, offset = outcome.origin.rsplit("/", 2)
    return {
        "_id": _id(outcome),
        "outcome": outcome.outcome,
        "reason": outcome.reason,
        "detail": outcome.detail,
        "origin": outcome.origin,
        "place": _place(topic_id, int(partition), int(offset) // BLOCK_OFFSETS),
        "offset": int(offset),
        "event": text,
        "sealed_for": owner,
        "named": outcome.named,
        "profiles": list(outcome.profiles),
        "at": at,
    }


def _place(topic_id: str, partition: int, block: int) -> str:
    return f"{topic_id}/{partition}/{block}"


def _parked_id(origin: str) -> str:
    return f"{origin}/{PARKED}/"


def parked_between(topic_id: str, partition: int, first: int, last: int) -> dict[int, Parked]:
    """What was parked of one log from one offset to another, both included."""
    places = [_place(topic_id, partition, block) for block in range(first // BLOCK_OFFSETS, last // BLOCK_OFFSETS + 1)]
    found = find_by(collection_of(OutcomeDocument), places, {"event": 0}, field="place", outcome=PARKED)
    return {each["offset"]: Parked(each["reason"], each["detail"]) for each in found if first <= each["offset"] <= last}


def still_parked(origins: Iterable[str]) -> set[str]:
    """Those of these positions whose events are parked."""
    found = find_by(collection_of(OutcomeDocument), map(_parked_id, origins), {"origin": 1})
    return {each["origin"] for each in found}


def park_again(origin: str, reason: str, detail: str) -> None:
    """A parked event was put back and is still wrong; one that is not parked any more stays so."""
    collection_of(OutcomeDocument).update_one({"_id": _parked_id(origin)}, {"$set": {"reason": reason, "detail": detail}})


def release(origins: Iterable[str]) -> None:
    """These events are not parked any more: they were put back, and something else became of them."""
    for some in portions(map(_parked_id, origins)):
        _destroy_own_keys(some)
        collection_of(OutcomeDocument).delete_many({"_id": {"$in": some}})


def count_parked() -> int:
    """How many events are parked."""
    return int(collection_of(OutcomeDocument).count_documents({"outcome": PARKED}))


def by_reason() -> dict[str, dict[str, int]]:
    """How many there are of each outcome and reason."""
    groups = [{"$group": {"_id": {"outcome": "$outcome", "reason": "$reason"}, "count": {"$sum": 1}}}]
    counted: dict[str, dict[str, int]] = {}
    for each in collection_of(OutcomeDocument).aggregate(groups):
        counted.setdefault(each["_id"]["outcome"], {})[each["_id"]["reason"]] = each["count"]
    return counted


def noted(outcome: str, limit: int) -> list[dict[str, Any]]:
    """The newest of one kind."""
    return list(collection_of(OutcomeDocument).find({"outcome": outcome}).sort([("at", -1), ("_id", 1)]).limit(limit))


def sent_text(outcome: str, origin: str) -> bytes | None:
    """What was sent at this position and ended so; None where that is not known, or not any more."""
    found = collection_of(OutcomeDocument).find_one({"_id": f"{origin}/{outcome}/", "event": {"$ne": None}})
    if found is None:
        return None
    [text] = vault_of("identity").open([(found.get("sealed_for") or "", found["_id"], bytes(found["event"]))])
    return text


def sent_texts() -> Iterator[tuple[str, bytes | None]]:
    """What was sent of every quarantined or parked event, by the outcome's id; None where its key was destroyed."""
    found = collection_of(OutcomeDocument).find({"event": {"$ne": None}}, {"event": 1, "sealed_for": 1})
    for some in in_pages(found):
        sealed = [(each.get("sealed_for") or "", each["_id"], bytes(each["event"])) for each in some]
        yield from zip((name for _, name, _ in sealed), vault_of("identity").open(sealed), strict=True)


def erase_texts(ids: Iterable[str]) -> None:
    """Delete what was sent; that something was, and why it was not accepted, stays."""
    for some in portions(ids):
        _destroy_own_keys(some)
        collection_of(OutcomeDocument).update_many({"_id": {"$in": some}}, {"$set": {"event": None, "named": None, "detail": "erased"}})


def _destroy_own_keys(ids: Iterable[str]) -> None:
    """Of outcomes that name nobody: copies of them are to say nothing, either."""
    vault_of("identity").destroy(ids)
