"""Offers and what became of them; and the causes that led to none."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, ClassVar

from mongoengine import DateTimeField, DictField, Document, IntField, StringField
from pymongo import UpdateMany, UpdateOne

from services.campaigns.domain.offers import Offer, OfferStatus, Skipped
from shared.mongo import PAGE_ROWS, find_by, in_pages, insert_new, portions
from shared.walks import parts

REPUBLISH_COUNT = 500
RETIRED_AT_ONCE = 200


class OfferDocument(Document):
    """One offer. `_id` derives from its cause, so a cause is decided once."""

    meta: ClassVar = {"collection": "offers", "db_alias": "campaigns", "auto_create_index": False}

    id = StringField(primary_key=True)
    program = StringField(required=True)
    program_version = IntField(required=True)
    customer_id = StringField(required=True)
    cause_id = StringField(required=True)
    status = StringField(required=True, choices=[status.value for status in OfferStatus])
    reason = StringField()
    template = StringField(required=True)
    purpose = StringField(required=True)
    decided_at = DateTimeField(required=True)
    expires_at = DateTimeField(required=True)
    content = DictField()
    score = DictField()
    channel = StringField()
    settled_at = DateTimeField()


class SkipDocument(Document):
    """A recent cause that led to no offer, and why."""

    meta: ClassVar = {"collection": "skips", "db_alias": "campaigns", "auto_create_index": False}

    id = StringField(primary_key=True)
    program = StringField(required=True)
    program_version = IntField(required=True)
    customer_id = StringField(required=True)
    cause_id = StringField(required=True)
    reason = StringField(required=True)
    decided_at = DateTimeField(required=True)


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of an offer, as notifications told."""

    offer_id: str
    program: str
    customer_id: str
    status: OfferStatus
    reason: str | None
    channel: str | None
    at: datetime


@dataclass(frozen=True, slots=True)
class Decided:
    """An offer that was decided earlier, as far as the next decision needs it."""

    id: str
    program: str
    customer_id: str
    decided_at: datetime


def _offers() -> Any:
    return OfferDocument._get_collection()


def _skips() -> Any:
    return SkipDocument._get_collection()


def ensure_indexes() -> None:
    """A customer's offers are looked up before the next one is decided."""
    _offers().create_index("customer_id")


def insert(offers: Sequence[Offer]) -> set[str]:
    """Claim the offers; returns the ids that were claimed before."""
    return {offers[position].id for position in insert_new(_offers(), [_document(offer) for offer in offers])}


def _document(offer: Offer) -> dict[str, Any]:
    document = asdict(offer)
    document["_id"] = document.pop("id")
    document["status"] = offer.status.value
    return document


def insert_skips(skips: Sequence[Skipped]) -> None:
    """Keep why these causes led to no offer; each once."""
    insert_new(_skips(), [{("_id" if name == "id" else name): value for name, value in asdict(skip).items()} for skip in skips])


def skipped(ids: Collection[str]) -> set[str]:
    """Those of the ids under which a skip is kept."""
    return {found["_id"] for found in find_by(_skips(), ids, {"_id": 1})}


def decided_for(customers: Collection[str]) -> list[Decided]:
    """Every offer that these customers have had."""
    kept = {"program": 1, "customer_id": 1, "decided_at": 1}
    found = find_by(_offers(), customers, kept, field="customer_id")
    return [Decided(each["_id"], each["program"], each["customer_id"], each["decided_at"]) for each in found]


def pending(ids: Collection[str]) -> list[Offer]:
    """Those of the offers that are still to be delivered."""
    return [_offer(found) for found in find_by(_offers(), ids, status=OfferStatus.PENDING)]


def every_pending() -> Iterator[list[Offer]]:
    """All offers still to be delivered, in portions."""
    ids = [found["_id"] for found in _offers().find({"status": OfferStatus.PENDING}, {"_id": 1})]
    for start in range(0, len(ids), REPUBLISH_COUNT):
        yield pending(ids[start : start + REPUBLISH_COUNT])


def _offer(found: Mapping[str, Any]) -> Offer:
    kept = {name: found[name] for name in Offer.__slots__ if name not in ("id", "status")}
    return Offer(id=found["_id"], status=OfferStatus(found["status"]), **kept)


def settle(outcomes: Sequence[Settled]) -> None:
    """Record what became of offers. The first outcome is final: neither a repeat nor another one changes it."""
    if not outcomes:
        return
    result = _offers().bulk_write([_if_pending(outcome) for outcome in outcomes], ordered=True)
    if result.matched_count < len(outcomes):
        _insert_unknown(outcomes)


def _if_pending(outcome: Settled) -> UpdateOne:
    settled = {"status": outcome.status.value, "reason": outcome.reason, "channel": outcome.channel, "settled_at": outcome.at}
    return UpdateOne({"_id": outcome.offer_id, "status": OfferStatus.PENDING.value}, {"$set": settled})


def _insert_unknown(outcomes: Sequence[Settled]) -> None:
    """An outcome of an offer that is not here (a restored database): keep it, so that the cause's return sends nothing."""
    first = {outcome.offer_id: outcome for outcome in reversed(outcomes)}
    insert_new(_offers(), [_outcome_alone(outcome) for outcome in first.values()])


def _outcome_alone(outcome: Settled) -> dict[str, Any]:
    return {
        "_id": outcome.offer_id,
        "program": outcome.program,
        "program_version": 0,
        "customer_id": outcome.customer_id,
        "cause_id": "",
        "status": outcome.status.value,
        "reason": outcome.reason,
        "channel": outcome.channel,
        "template": "",
        "purpose": "",
        "decided_at": outcome.at,
        "expires_at": outcome.at,
        "settled_at": outcome.at,
        "content": {},
        "score": None,
    }


def counts() -> list[tuple[str, str, str | None, int]]:
    """How many offers there are by program, status and reason."""
    group = {"$group": {"_id": {"program": "$program", "status": "$status", "reason": "$reason"}, "count": {"$sum": 1}}}
    found = _offers().aggregate([group])
    return [(row["_id"]["program"], row["_id"]["status"], row["_id"].get("reason"), row["count"]) for row in found]


def skip_counts() -> list[tuple[str, str, int]]:
    """How many causes led to no offer, by program and reason."""
    group = {"$group": {"_id": {"program": "$program", "reason": "$reason"}, "count": {"$sum": 1}}}
    return [(row["_id"]["program"], row["_id"]["reason"], row["count"]) for row in _skips().aggregate([group])]


def every(since: datetime | None) -> Iterator[list[dict[str, Any]]]:
    """All offers, in no order, in pages; or those decided or settled at that time or later."""
    wanted: dict[str, Any] = {} if since is None else {"$or": [{"decided_at": {"$gte": since}}, {"settled_at": {"$gte": since}}]}
    return in_pages({"id": offer.pop("_id"), **offer} for offer in _offers().find(wanted).batch_size(PAGE_ROWS))


def page(profiles: Collection[str], after: str | None, limit: int) -> list[dict[str, Any]]:
    """The offers of a customer of these profiles by id, beginning after the id named."""
    wanted: dict[str, Any] = {"customer_id": {"$in": list(profiles)}, **({"_id": {"$gt": after}} if after else {})}
    found = _offers().find(wanted).sort("_id", 1).limit(limit)
    return [{"id": offer.pop("_id"), **offer} for offer in found]


def shown_of(customer: str) -> list[dict[str, Any]]:
    """All offers of a customer, as they are shown to whom they were made."""
    found = _offers().find({"customer_id": customer})
    return [{"offer_id": offer.pop("_id"), **offer} for offer in found]


def erase_contents(customer: str) -> tuple[int, int]:
    """Empty what a customer's offers said, and forget why others were not made; returns how many had something, and how many there are."""
    emptied = _offers().update_many({"customer_id": customer, "content": {"$ne": {}}}, {"$set": {"content": {}, "score": None}})
    _skips().delete_many({"customer_id": customer})
    return int(emptied.modified_count), int(_offers().count_documents({"customer_id": customer}))


def retire(before: datetime) -> Iterator[int]:
    """Empty what settled offers said that were decided before then, a portion a step; that they were made, and what came of it, stays."""
    said = {"$or": [{"content": {"$ne": {}}}, {"score": {"$ne": None}}]}
    wanted = {"status": {"$ne": OfferStatus.PENDING}, "decided_at": {"$lt": before}, **said}
    for part in parts("campaigns", "offers", _offers(), "customer_id", RETIRED_AT_ONCE):
        old = [found["_id"] for found in _offers().find({**part, **wanted}, {"_id": 1})]
        changes = [UpdateMany({"_id": {"$in": some}}, {"$set": {"content": {}, "score": None}}) for some in portions(old)]
        yield int(_offers().bulk_write(changes, ordered=False).modified_count) if changes else 0
