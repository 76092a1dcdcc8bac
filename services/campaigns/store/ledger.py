"""The points ledger: one entry per cause, added and never changed.

A purchase's entry also bears the register of its refunds, which only grows. Refunds that come first keep their register in a document
under the id that the purchase's entry will have: it holds no points and is nobody's, and the entry takes its place.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from itertools import islice
from typing import Any, ClassVar

from mongoengine import DateTimeField, Document, IntField, ListField, StringField
from pymongo.errors import CursorNotFound

from services.campaigns.domain.loyalty import LedgerEntry, Refunds
from shared.mongo import PAGE_ROWS, find_by, in_pages, insert_new

Taken = tuple[tuple[str, int], ...]
"""Refunds as a register holds them."""
_FIELDS = tuple(field.name for field in fields(LedgerEntry) if field.name != "id")
_NOBODYS = {"profile_id": "", "points": 0}
FEW_PROFILES = 20
ONE_PASS_SHARE = 7
"""Reading entries through the index costs about this many times what passing over them in order does (docs/campaigns.md)."""


AWAITED = "awaited"
"""The kind of a register without its purchase: no entry."""


class LedgerDocument(Document):
    """One entry. `_id` derives from the event that caused it, which is what makes a second one impossible."""

    meta: ClassVar = {"collection": "ledger", "db_alias": "campaigns", "auto_create_index": False}

    id = StringField(primary_key=True)
    profile_id = StringField(required=True)
    kind = StringField(required=True)
    points = IntField(required=True)
    amount_minor = IntField(required=True)
    program = StringField(required=True)
    program_version = IntField(required=True)
    cause_source = StringField(required=True)
    cause_id = StringField(required=True)
    occurred_at = DateTimeField(required=True)
    posted_at = DateTimeField(required=True)
    refund_of = StringField()
    refunded_before_minor = IntField()
    refunds = ListField(ListField())
    """Of a purchase: entry id and amount of each refund, in the order in which they were noted."""
    refund_count = IntField()
    awaited_count = IntField()


@dataclass(frozen=True, slots=True)
class LedgerSummary:
    """The whole ledger in figures. Liability is what customers hold, debt what refunds left owing; their difference is the sum."""

    entries: int
    ledger_sum: int
    by_kind: Mapping[str, int]
    liability_points: int
    debt_points: int


def _entries() -> Any:
    return LedgerDocument._get_collection()


def ensure_indexes() -> None:
    """A balance is read by profile."""
    _entries().create_index("profile_id")


def insert(entries: Sequence[LedgerEntry], posted_at: datetime) -> set[str]:
    """Add the entries; returns the ids of those that were there before."""
    return {entries[position].id for position in insert_new(_entries(), [_document(entry, posted_at) for entry in entries])}


def stored(ids: Collection[str]) -> list[LedgerEntry]:
    """The entries with these ids as they were added."""
    return [_entry(document) for document in find_by(_entries(), ids) if document["kind"] != AWAITED]


def note_refund(purchase_entry_id: str, refund_entry_id: str, amount_minor: int) -> None:
    """Put a refund at the end of its purchase's register, once and for ever."""
    noted = [refund_entry_id, amount_minor]
    while True:
        found = _entries().find_one({"_id": purchase_entry_id}, {"refunds": 1})
        if found is None:
            if not insert_new(_entries(), [{"_id": purchase_entry_id, "kind": AWAITED, **_NOBODYS, "refunds": [noted], "refund_count": 1}]):
                return
            continue
        refunds = found.get("refunds", [])
        if any(refund_id == refund_entry_id for refund_id, _ in refunds):
            return
        # Only if nobody else put another one there meanwhile.
        as_read = {"_id": purchase_entry_id, "refund_count": len(refunds) or None}
        if _entries().update_one(as_read, {"$set": {"refunds": [*refunds, noted], "refund_count": len(refunds) + 1}}).matched_count:
            return


def take_place(entry: LedgerEntry, late: Callable[[LedgerEntry, Taken], LedgerEntry], posted_at: datetime) -> bool:
    """Let an entry take the place of the register that waits for it; False where the entry is there already."""
    while (found := _entries().find_one({"_id": entry.id, "kind": AWAITED})) is not None:
        taken = _taken(found)
        document = _document(late(entry, taken), posted_at)
        del document["_id"]
        # Only if no other refund came meanwhile: it would have found no purchase, and the purchase not it.
        as_read = {"_id": entry.id, "kind": AWAITED, "refund_count": len(taken)}
        if _entries().update_one(as_read, {"$set": {**document, "awaited_count": len(taken)}}).matched_count:
            return True
    return False


def registers(purchase_entry_ids: Collection[str]) -> dict[str, Refunds]:
    """The registers of these purchases."""
    return {found["_id"]: _refunds(found) for found in find_by(_entries(), purchase_entry_ids)}


def _refunds(found: Mapping[str, Any]) -> Refunds:
    purchase = None if found["kind"] == AWAITED else _entry(found)
    return Refunds(_taken(found), found.get("awaited_count", 0), purchase)


def _taken(found: Mapping[str, Any]) -> Taken:
    return tuple((refund_id, amount_minor) for refund_id, amount_minor in found.get("refunds", ()))


def _document(entry: LedgerEntry, posted_at: datetime) -> dict[str, Any]:
    return {
        "_id": entry.id,
        "profile_id": entry.profile_id,
        "kind": entry.kind,
        "points": entry.points,
        "amount_minor": entry.amount_minor,
        "program": entry.program,
        "program_version": entry.program_version,
        "cause_source": entry.cause_source,
        "cause_id": entry.cause_id,
        "occurred_at": entry.occurred_at,
        "posted_at": posted_at,
        **({"refund_of": entry.refund_of} if entry.refund_of is not None else {}),
        **({"refunded_before_minor": entry.refunded_before_minor} if entry.refunded_before_minor else {}),
    }


def _entry(document: Mapping[str, Any]) -> LedgerEntry:
    kept = {name: document[name] for name in _FIELDS if name in document}
    return LedgerEntry(id=document["_id"], **kept)


def balances(profiles: Collection[str], known_profiles: int) -> dict[str, int]:
    """The balance of each profile that has entries. `known_profiles` tells which way of reading is cheaper."""
    grouped = {"$group": {"_id": "$profile_id", "points": {"$sum": "$points"}}}
    if len(profiles) > FEW_PROFILES and len(profiles) * ONE_PASS_SHARE > known_profiles:
        wanted = frozenset(profiles)
        return {row["_id"]: row["points"] for row in _entries().aggregate([grouped]) if row["_id"] in wanted}
    held: Counter[str] = Counter()
    for entry in find_by(_entries(), profiles, {"profile_id": 1, "points": 1}, field="profile_id"):
        held[entry["profile_id"]] += entry["points"]
    return dict(held)


def summary(owners: Mapping[str, str]) -> LedgerSummary:
    """One pass over the ledger. `owners` names the customer of each profile whose customer has another id."""
    by_profile_and_kind = {"_id": {"profile": "$profile_id", "kind": "$kind"}, "points": {"$sum": "$points"}, "entries": {"$sum": 1}}
    entries, by_kind, by_customer = 0, defaultdict[str, int](int), defaultdict[str, int](int)
    for row in _entries().aggregate([{"$group": by_profile_and_kind}]):
        profile, kind = row["_id"]["profile"], row["_id"]["kind"]
        if kind == AWAITED:
            continue
        entries += row["entries"]
        by_kind[kind] += row["points"]
        by_customer[owners.get(profile, profile)] += row["points"]
    held = sum(points for points in by_customer.values() if points > 0)
    owing = -sum(points for points in by_customer.values() if points < 0)
    return LedgerSummary(entries, sum(by_kind.values()), dict(by_kind), held, owing)


def of_profiles(profiles: Collection[str]) -> list[LedgerEntry]:
    """All entries of some profiles, in no order."""
    return [_entry(document) for document in find_by(_entries(), profiles, field="profile_id")]


def page(profiles: Collection[str], after: str | None, limit: int) -> list[dict[str, Any]]:
    """Entries of some profiles, newest first, beginning after the entry named."""
    wanted: dict[str, Any] = {"profile_id": {"$in": list(profiles)}}
    if after is not None:
        last = _entries().find_one({"_id": after}, {"occurred_at": 1})
        if last is None:
            return []
        older = [{"occurred_at": {"$lt": last["occurred_at"]}}, {"occurred_at": last["occurred_at"], "_id": {"$lt": after}}]
        wanted["$or"] = older
    found: Iterable[dict[str, Any]] = _entries().find(wanted).sort([("occurred_at", -1), ("_id", -1)]).limit(limit)
    return [{"id": entry.pop("_id"), **entry} for entry in found]


def every(since: datetime | None) -> Iterator[list[dict[str, Any]]]:
    """All entries, in no order, in pages; or those posted at that time or later."""
    wanted: dict[str, Any] = {"kind": {"$ne": AWAITED}} | ({} if since is None else {"posted_at": {"$gte": since}})
    told = dict.fromkeys((*_FIELDS, "posted_at"), 1)
    return in_pages({"id": entry.pop("_id"), **entry} for entry in _entries().find(wanted, told).batch_size(PAGE_ROWS))


def sum_of(profile: str) -> tuple[int, int]:
    """Points and number of a profile's entries, added up by the database."""
    total = {"$group": {"_id": None, "points": {"$sum": "$points"}, "entries": {"$sum": 1}}}
    for row in _entries().aggregate([{"$match": {"profile_id": profile}}, total]):
        return row["points"], row["entries"]
    return 0, 0


class Walk:
    """Reads the whole ledger again and again, some entries at a time."""

    def __init__(self) -> None:
        self._cursor: Any = None

    def next(self, count: int) -> list[LedgerEntry]:
        """The next entries in the order they lie in; nothing at the end of a round."""
        if self._cursor is None:
            self._cursor = _entries().find({"kind": {"$ne": AWAITED}}).batch_size(count)
        try:
            found = [_entry(document) for document in islice(self._cursor, count)]
        except CursorNotFound:
            found = []
        if not found:
            self._cursor = None
        return found
