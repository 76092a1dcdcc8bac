"""The timeline: every event that was accepted, once, and the order in which each log brought them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mongoengine as me

from services.identity.domain.duplicates import Kept
from services.identity.domain.heard import is_our_doing, may_be_our_doing
from services.identity.store.bulk import collection_of, find_by_ids
from services.identity.store.positions import Log
from shared.contracts.topics import PARTITION_COUNT
from shared.mongo import PAGE_ROWS, find_by, in_pages, insert_new, portions
from shared.streaming.partitions import partition_for
from shared.vault import vault_of
from shared.walks import parts

NOT_PASSED_ON = "-"
"""Stands for the partition of events that do not go to customer-events-v1."""
BLOCK_OFFSETS = 4096
"""How much of a log lies in one place: small, for the embedded database reads a whole range before it keeps a limit."""
TOLD_AT_ONCE = 500
WALKED_AT_ONCE = 200
EMPTIED = b""
"""In the place of an event that was kept for long enough."""
_LAST_BLOCK = 10**12 - 1


class EventDocument(me.Document):
    """One event. Its key is its source and id, so it is kept once however often it comes."""

    meta = {"db_alias": "identity", "collection": "timeline", "auto_create_index": False, "indexes": ["profile"]}  # noqa: RUF012

    key = me.StringField(primary_key=True)
    profile = me.StringField()
    at = me.LongField(required=True)
    origin = me.StringField(required=True)
    hash = me.BinaryField(required=True)
    event = me.BinaryField(required=True)
    """The event as JSON; sealed under a key of the profile where it has words of theirs."""
    sealed_for = me.StringField()
    """The profile whose key that is, also after the event went to another."""
    by_us = me.BooleanField()
    """Of an event that was emptied: it said that a mail went out."""
    sale = me.DictField()
    """Of an anonymous event only: store, day, kind and amount."""


class SliceDocument(me.Document):
    """What one batch brought for one partition of customer-events-v1: the way to read the timeline in the order of its logs.

    Written before the events, so that no event is ever in the timeline without it. It may name events that came earlier
    from elsewhere: only those whose origin agrees belong to it.
    """

    meta = {"db_alias": "identity", "collection": "slices", "auto_create_index": False, "indexes": ["place"]}  # noqa: RUF012

    slice_id = me.StringField(primary_key=True)
    place = me.StringField(required=True)
    """`partition of customer-events/topic id/partition/block of offsets`."""
    entries = me.ListField(me.ListField())
    """Offset, time of append in milliseconds, and the event's key."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An event on its way into the timeline."""

    key: str
    partition: str
    """Of customer-events-v1, or NOT_PASSED_ON."""
    offset: int
    appended_ms: int
    document: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Told:
    """An event as the timeline tells it."""

    key: str
    profile: str | None
    offset: int
    appended_ms: int
    event: bytes


def origin_of(topic_id: str, partition: int, offset: int) -> str:
    """How the timeline writes a position."""
    return f"{topic_id}/{partition}/{offset}"


def _events() -> Any:
    return collection_of(EventDocument)


def _slices() -> Any:
    return collection_of(SliceDocument)


def insert(topic_id: str, partition: int, entries: Sequence[Entry]) -> dict[str, Kept]:
    """Put a batch into the timeline; returns what was there already under the names that it refused."""
    insert_new(_slices(), list(_slice_documents(topic_id, partition, entries)))
    # A name that comes twice in the batch is refused too, but then it is the first that the second is judged against.
    taken = insert_new(_events(), [entry.document for entry in entries])
    if not taken:
        return {}
    arrived = {entries[index].document["origin"] for index in range(len(entries)) if index not in taken}
    names = {entries[index].key for index in taken}
    return {key: kept for key, kept in kept_under(names).items() if kept.origin not in arrived}


def kept_under(keys: Iterable[str]) -> dict[str, Kept]:
    """What the timeline holds under these names."""
    wanted = {"origin": 1, "hash": 1, "profile": 1}
    return {each["_id"]: Kept(each["origin"], bytes(each["hash"]), each["profile"]) for each in find_by_ids(_events(), keys, wanted)}


def event_under(key: str) -> bytes | None:
    """The event of this name, as JSON."""
    return next((each["event"] for each in _opened(find_by_ids(_events(), (key,)))), None)


def texts_of(keys: Iterable[str]) -> dict[str, bytes]:
    """What the events of these names say, where they still say it."""
    return {each["_id"]: bytes(each["event"]) for each in _opened(find_by_ids(_events(), keys, _SEALED))}


_SEALED = {"event": 1, "sealed_for": 1}


def _opened(found: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The documents with their events in plain; one whose key was destroyed, or that was emptied, is as good as deleted."""
    listed = [each for each in found if each["event"]]
    texts = vault_of("identity").open([(each.get("sealed_for") or "", each["_id"], bytes(each["event"])) for each in listed])
    return [{**each, "event": text} for each, text in zip(listed, texts, strict=True) if text is not None]


def seal(entries: Sequence[Entry]) -> None:
    """Seal the events of these entries, each for its profile."""
    sealed = vault_of("identity").seal([(each.document["profile"], each.key, each.document["event"]) for each in entries])
    for entry, text in zip(entries, sealed, strict=True):
        if text is not entry.document["event"]:
            entry.document["event"], entry.document["sealed_for"] = text, entry.document["profile"]


def set_profiles(moved: Mapping[str, tuple[str, bytes]]) -> None:
    """Correct the profile of events whose reference another process gave away meanwhile, and seal them for it.

    `moved`: name -> profile, event. Under the key of whom it is not about, it would be lost when that one is erased.
    """
    sealed = vault_of("identity").seal([(profile, key, event) for key, (profile, event) in moved.items()])
    for (key, (profile, event)), text in zip(moved.items(), sealed, strict=True):
        kept = {"profile": profile} if text is event else {"profile": profile, "event": text, "sealed_for": profile}
        _events().update_one({"_id": key}, {"$set": kept})


def _slice_documents(topic_id: str, partition: int, entries: Sequence[Entry]) -> Iterator[dict[str, Any]]:
    by_place: dict[str, list[Entry]] = {}
    for entry in entries:
        by_place.setdefault(_place(entry.partition, topic_id, partition, entry.offset // BLOCK_OFFSETS), []).append(entry)
    for place, some in by_place.items():
        yield {
            "_id": f"{place}/{some[0].offset}-{some[-1].offset}/{len(some)}",
            "place": place,
            "entries": [[entry.offset, entry.appended_ms, entry.key] for entry in some],
        }


def _place(target: str, topic_id: str, partition: int, block: int) -> str:
    return f"{target}/{topic_id}/{partition}/{block:012d}"


def told(target: str, topic_id: str, partition: int, after: int, upto: int) -> Iterator[list[Told]]:
    """The events of one origin log with after < offset <= upto that belong to one partition of customer-events-v1, in order."""
    for block in range((after + 1) // BLOCK_OFFSETS, upto // BLOCK_OFFSETS + 1):
        entries = _entries({"place": _place(target, topic_id, partition, block)}, after, upto)
        for at in range(0, len(entries), TOLD_AT_ONCE):
            events = _tell(topic_id, partition, entries[at : at + TOLD_AT_ONCE])
            # Where a reference changed hands between two deliveries, a slice may name an event under a profile that it did not get.
            yield [each for each in events if each.profile and str(partition_for(each.profile.encode())) == target]


def tail(topic_id: str, partition: int, after: int) -> list[Told]:
    """All events of one origin log beyond an offset, in order, wherever they belong."""
    entries: dict[int, Any] = {}
    for target in (NOT_PASSED_ON, *map(str, range(PARTITION_COUNT))):
        first, last = (_place(target, topic_id, partition, block) for block in ((after + 1) // BLOCK_OFFSETS, _LAST_BLOCK))
        beyond = _entries({"place": {"$gte": first, "$lte": last}}, after, _LAST_BLOCK * BLOCK_OFFSETS)
        entries.update((entry[0], entry) for entry in beyond)
    return _tell(topic_id, partition, [entries[offset] for offset in sorted(entries)])


def _entries(wanted: dict[str, Any], after: int, upto: int) -> list[Any]:
    """Of all slices wanted, each entry once, in order: batches that came again may have been cut differently."""
    found = _slices().find(wanted, {"entries": 1})
    return sorted({entry[0]: entry for each in found for entry in each["entries"] if after < entry[0] <= upto}.values())


def _tell(topic_id: str, partition: int, entries: list[Any]) -> list[Told]:
    found = {each["_id"]: each for each in _opened(find_by_ids(_events(), (key for _, _, key in entries)))}
    return [
        Told(key, found[key]["profile"], int(offset), int(appended_ms), bytes(found[key]["event"]))
        for offset, appended_ms, key in entries
        if key in found and found[key]["origin"] == origin_of(topic_id, partition, offset)
    ]


def history(profiles: Sequence[str], limit: int, before: tuple[int, str] | None) -> list[dict[str, Any]]:
    """The events of these profiles, newest first, after the last one of the page before."""
    wanted: dict[str, Any] = {"profile": {"$in": list(profiles)}}
    if before is not None:
        wanted["$or"] = [{"at": {"$lt": before[0]}}, {"at": before[0], "_id": {"$gt": before[1]}}]
    return _opened(_events().find(wanted, {"event": 1, "at": 1, "sealed_for": 1}).sort([("at", -1), ("_id", 1)]).limit(limit))


def anonymous_sales() -> list[dict[str, Any]]:
    """Events that name nobody, by store and day."""
    amounts = {name: {"$sum": f"$sale.{name}"} for name in ("sales", "bought", "refunded")} | {"events": {"$sum": 1}}
    groups = [{"$match": {"profile": None}}, {"$group": {"_id": {"store": "$sale.store", "day": "$sale.day"}, **amounts}}]
    return [{**each.pop("_id"), **each} for each in _events().aggregate(groups)]


def count() -> int:
    """How many events the timeline holds."""
    return int(_events().estimated_document_count())


def every(after: Mapping[Log, int], upto: Mapping[Log, int], since: int | None) -> Iterator[list[dict[str, Any]]]:
    """Profile and event of all that the logs brought in after < offset <= upto and that happened at `since` or later, in pages."""
    wanted = {} if since is None else {"at": {"$gte": since}}
    found = _events().find(wanted, {"profile": 1, "event": 1, "origin": 1, "sealed_for": 1}).batch_size(PAGE_ROWS)
    return map(_opened, in_pages(each for each in found if _is_between(each["origin"], after, upto)))


def _is_between(origin: str, after: Mapping[Log, int], upto: Mapping[Log, int]) -> bool:
    topic_id, partition, offset = origin.rsplit("/", 2)
    log = (topic_id, int(partition))
    return after.get(log, -1) < int(offset) <= upto.get(log, -1)


def of_profiles(profiles: Iterable[str], page_size: int = PAGE_ROWS) -> Iterator[list[dict[str, Any]]]:
    """Everything that happened to these profiles, in pages, in no order."""
    return map(_opened, in_pages(find_by(_events(), profiles, field="profile"), page_size))


def sealed_or_not(profiles: Iterable[str], page_size: int = PAGE_ROWS) -> Iterator[list[dict[str, Any]]]:
    """The same without what they say, so also of those whose key was destroyed."""
    found = find_by(_events(), profiles, {"origin": 1, "profile": 1}, field="profile")
    return in_pages(found, page_size)


def emptied(profiles: Iterable[str]) -> list[dict[str, Any]]:
    """The events of these profiles that say nothing any more."""
    return list(find_by(_events(), profiles, {"origin": 1}, field="profile", event=EMPTIED))


def newest_by_profile(part: Mapping[str, Any]) -> dict[str, int]:
    """Of each profile of a part of the timeline when it was last heard of, but for events that may be our own doing."""
    newest: dict[str, int] = {}
    for each in _events().find(part, {"profile": 1, "at": 1}):
        at = -1 if may_be_our_doing(each["_id"]) else each["at"]
        newest[each["profile"]] = max(at, newest.get(each["profile"], -1))
    return newest


def last_heard_of(profiles: Iterable[str]) -> int:
    """When the last thing happened to these profiles that is not our own doing; 0 where nothing did."""
    found = list(find_by(_events(), profiles, {"at": 1, "by_us": 1}, field="profile"))
    sure = max((each["at"] for each in found if not may_be_our_doing(each["_id"])), default=0)
    later = {each["_id"]: each["at"] for each in found if each["at"] > sure and not each.get("by_us")}
    ours = {key for key, text in texts_of(later).items() if is_our_doing(key, text)}
    return max((at for key, at in later.items() if key not in ours), default=sure)


def walk(name: str) -> Iterator[dict[str, Any]]:
    """Conditions for some hundred events each, all those of a profile in one."""
    return parts("identity", name, _events(), "profile", WALKED_AT_ONCE)


def named(keys: Iterable[str]) -> list[dict[str, Any]]:
    """The events of these names, without what they say."""
    return list(find_by_ids(_events(), keys, {"origin": 1, "profile": 1}))


def erase(events: Sequence[dict[str, Any]]) -> None:
    """Delete these events, and their names where a batch is told; doing it again changes nothing."""
    places: dict[str, set[str]] = {}
    for each in events:
        topic_id, partition, offset = each["origin"].rsplit("/", 2)
        for target in (NOT_PASSED_ON, str(partition_for(each["profile"].encode()))):
            places.setdefault(_place(target, topic_id, int(partition), int(offset) // BLOCK_OFFSETS), set()).add(each["_id"])
    for place, keys in places.items():
        for found in _slices().find({"place": place}):
            left = [entry for entry in found["entries"] if entry[2] not in keys]
            if len(left) != len(found["entries"]):
                _slices().update_one({"_id": found["_id"]}, {"$set": {"entries": left}})
    for some in portions(each["_id"] for each in events):
        _events().delete_many({"_id": {"$in": some}})
