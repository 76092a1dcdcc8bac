"""What is kept no longer than the company has said, emptied or deleted a portion a step."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from datetime import datetime
from typing import Any

from services.identity.domain.customers import microseconds
from services.identity.domain.heard import is_our_doing, may_be_our_doing
from services.identity.domain.privacy import State
from services.identity.store import outcomes, positions, timeline
from services.identity.store.bulk import collection_of
from services.identity.store.outcomes import OutcomeDocument
from services.identity.store.positions import Log
from services.identity.store.privacy import PrivacyRequestDocument, forget_archive
from services.identity.store.timeline import EMPTIED, EventDocument
from shared.mongo import in_pages, portions
from shared.retained import Retained

PORTION = 200


def empty_events(kind: Retained, topic: str, before: datetime) -> Iterator[int]:
    """Empty the events that came by this topic and are older; of an event its name and hash stay, so that it is not taken in twice.

    Only those that the timeline has with all that follows from them: what was half done when a log was lost is finished from what they say.
    """
    logs = positions.logs_of(topic)
    done = {log: offset for log, offset in positions.committed().items() if log[0] in logs}
    for some in _older(kind, microseconds(before)):
        yield _empty([each["_id"] for each in some if _is_done(each["origin"], done)])


def _older(kind: Retained, oldest: int) -> Iterator[list[dict[str, Any]]]:
    """There is no index by time, and none is worth its cost to every insert: a walk through the profiles sees each event once a round."""
    events, old = collection_of(EventDocument), {"at": {"$lt": oldest}, "event": {"$ne": EMPTIED}}
    for part in timeline.walk(kind.value):
        yield list(events.find({**part, **old}, {"origin": 1}))
    if kind is Retained.INTERACTIONS:
        # Nothing else is said of nobody, but for sales.
        yield from in_pages(events.find({"profile": None, **old}, {"origin": 1}).batch_size(PORTION), PORTION)


def _is_done(origin: str, done: dict[Log, int]) -> bool:
    topic_id, partition, offset = origin.rsplit("/", 2)
    return int(offset) <= done.get((topic_id, int(partition)), -1)


def _empty(keys: Collection[str]) -> int:
    asked = [key for key in keys if may_be_our_doing(key)]
    ours = {key for key, text in timeline.texts_of(asked).items() if is_our_doing(key, text)}
    return _emptied(set(keys) - ours, {}) + _emptied(ours, {"by_us": True})


def _emptied(keys: Iterable[str], also: dict[str, Any]) -> int:
    events, change = collection_of(EventDocument), {"$set": {"event": EMPTIED, **also}}
    return sum(events.update_many({"_id": {"$in": some}, "event": {"$ne": EMPTIED}}, change).modified_count for some in portions(keys))


def empty_outcomes(before: datetime) -> Iterator[int]:
    """Empty what was quarantined or parked before then; that it was, and why, stays."""
    old = collection_of(OutcomeDocument).find({"at": {"$lt": before}, "event": {"$ne": None}}, {"_id": 1}).batch_size(PORTION)
    for some in in_pages(old, PORTION):
        outcomes.erase_texts(each["_id"] for each in some)
        yield len(some)


def delete_requests(before: datetime) -> Iterator[int]:
    """Delete privacy requests that were done before then, with their proofs; graves stay."""
    requests = collection_of(PrivacyRequestDocument)
    old = requests.find({"state": State.DONE, "done_at": {"$lt": before}}, {"_id": 1}).batch_size(PORTION)
    for some in in_pages(old, PORTION):
        # Nothing else leads to an archive.
        for each in some:
            forget_archive(each["_id"])
        yield sum(requests.delete_many({"_id": {"$in": ids}}).deleted_count for ids in portions(each["_id"] for each in some))
