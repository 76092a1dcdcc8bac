"""Requests about the data on somebody, what the services answered, and the archives that are fetched."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import mongoengine as me
from pymongo import ReturnDocument

from services.identity.domain.privacy import Kind, Reason, Request, State
from services.identity.store.bulk import collection_of
from shared.mongo import find_by, insert_new

CHUNK_BYTES = 4_000_000
"""A document has at most 16 MB."""


class PrivacyRequestDocument(me.Document):
    """One request. What is personal in it (`changes`, `events`) goes as soon as it is in force."""

    meta = {"db_alias": "identity", "collection": "privacy_requests", "auto_create_index": False, "indexes": ["state", "members"]}  # noqa: RUF012

    request_id = me.StringField(primary_key=True)
    kind = me.StringField(required=True)
    state = me.StringField(required=True)
    round = me.IntField(required=True)
    customer_id = me.StringField(required=True)
    profile = me.StringField(required=True)
    members = me.ListField(me.StringField())
    reason = me.StringField()
    """None: somebody asked."""
    silent_since = me.LongField()
    requested_at = me.DateTimeField(required=True)
    received_at = me.DateTimeField(required=True)
    settled_from = me.DateTimeField()
    done_at = me.DateTimeField()
    asked_at = me.DateTimeField()
    """When the other services were last asked in this round."""
    leased_until = me.DateTimeField()
    """By the wall's clock: until then one process works on it."""
    changes = me.StringField()
    """Of a rectification: JSON."""
    events = me.ListField(me.ListField(me.StringField()))
    """What is to be said: id, reference, event as JSON."""
    counts = me.DictField()
    digests = me.ListField(me.StringField())
    proof = me.DictField()


class PrivacyAnswerDocument(me.Document):
    """One part of what one service answered for one profile."""

    meta = {"db_alias": "identity", "collection": "privacy_answers", "auto_create_index": False, "indexes": ["request_id"]}  # noqa: RUF012

    answer_id = me.StringField(primary_key=True)
    request_id = me.StringField(required=True)
    round = me.IntField(required=True)
    profile = me.StringField(required=True)
    service = me.StringField(required=True)
    part = me.IntField(required=True)
    parts = me.IntField(required=True)
    counts = me.ListField(me.ListField())
    records = me.ListField(me.StringField())


class ArchiveDocument(me.Document):
    """A piece of the archive of one request."""

    meta = {"db_alias": "identity", "collection": "privacy_archives", "auto_create_index": False, "indexes": ["request_id"]}  # noqa: RUF012

    piece_id = me.StringField(primary_key=True)
    request_id = me.StringField(required=True)
    number = me.IntField(required=True)
    data = me.BinaryField(required=True)


def _requests() -> Any:
    return collection_of(PrivacyRequestDocument)


def create(request: Request, changes: str | None) -> dict[str, Any]:
    """Keep a request, unless there is one of its id; returns the one that is kept."""
    document = _document(request, changes)
    insert_new(_requests(), [document])
    return find(request.request_id) or document


def create_once(request: Request) -> bool:
    """The same; False where there was one."""
    return not insert_new(_requests(), [_document(request, None)])


def _document(request: Request, changes: str | None) -> dict[str, Any]:
    return {
        "_id": request.request_id,
        "kind": request.kind,
        "state": request.state,
        "round": request.round,
        "customer_id": request.customer_id,
        "profile": request.profile,
        "members": list(request.members),
        "requested_at": request.requested_at,
        "received_at": request.received_at,
        "changes": changes,
        "reason": request.reason,
        "silent_since": request.silent_since,
    }


def find(request_id: str) -> dict[str, Any] | None:
    """One request as it is kept."""
    found: dict[str, Any] | None = _requests().find_one({"_id": request_id})
    return found


def page(wanted: Mapping[str, str], after: tuple[datetime, str] | None, limit: int) -> list[dict[str, Any]]:
    """The requests with these values, newest first, after the last one of the page before."""
    query: dict[str, Any] = dict(wanted)
    if after is not None:
        query["$or"] = [{"received_at": {"$lt": after[0]}}, {"received_at": after[0], "_id": {"$gt": after[1]}}]
    return list(_requests().find(query).sort([("received_at", -1), ("_id", 1)]).limit(limit))


def take(now: datetime, until: datetime) -> dict[str, Any] | None:
    """A request that is not done and that nobody works on; it is ours until then."""
    waits = {"state": {"$ne": State.DONE}, "$or": [{"leased_until": None}, {"leased_until": {"$lt": now}}]}
    taken: dict[str, Any] | None = _requests().find_one_and_update(
        waits, {"$set": {"leased_until": until}}, sort=[("leased_until", 1)], return_document=ReturnDocument.AFTER
    )
    return taken


def change(request_id: str, **fields: Any) -> None:
    """Note how far it has come."""
    _requests().update_one({"_id": request_id}, {"$set": fields})


def begin(request: Request, events: Sequence[tuple[str, str, str]]) -> None:
    """Begin the request's round, with whom it is about and what is to be said of them; a round begins once, and so is one thing only."""
    about = {"customer_id": request.customer_id, "members": list(request.members), "requested_at": request.requested_at}
    said = {"events": [list(each) for each in events], "changes": None}
    # An erasure counts over both rounds; whatever else begins again does so about others.
    counted: dict[str, Any] = {} if request.kind is Kind.ERASURE else {"counts": {}}
    begun = {"state": State.WORKING, "round": request.round, "asked_at": None, **about, **said, **counted}
    _requests().update_one({"_id": request.request_id, "round": request.round - 1, "state": {"$ne": State.DONE}}, {"$set": begun})


def raise_counts(request_id: str, service: str, counts: Mapping[str, int]) -> None:
    """Note how much was found; of what is found again after a crash, when some of it was deleted already, the most stays."""
    most = {f"counts.{service}.{name}": count for name, count in counts.items()}
    if most:
        _requests().update_one({"_id": request_id}, {"$max": most})


def note_digests(request_id: str, digests: Iterable[str]) -> None:
    """Remember by which keyed hashes the references are recognised."""
    _requests().update_one({"_id": request_id}, {"$addToSet": {"digests": {"$each": list(digests)}}})


def request_of(document: Mapping[str, Any]) -> Request:
    """A request read back."""
    return Request(
        document["_id"],
        Kind(document["kind"]),
        State(document["state"]),
        document["round"],
        document["customer_id"],
        tuple(document["members"]),
        document["requested_at"],
        document["received_at"],
        document.get("settled_from"),
        document.get("done_at"),
        document.get("profile") or document["customer_id"],
        Reason(document.get("reason") or Reason.ASKED),
        document.get("silent_since") or 0,
    )


def add_answer(answer: Any) -> None:
    """Keep a part of an answer, as long as it is waited for; one that is there already stays."""
    document = {
        "_id": f"{answer.request_id}/{answer.round}/{answer.profile_id}/{answer.service}/{answer.part}",
        "request_id": answer.request_id,
        "round": answer.round,
        "profile": answer.profile_id,
        "service": answer.service,
        "part": answer.part,
        "parts": answer.parts,
        "counts": [list(item) for item in answer.counts.items()],
        "records": list(answer.records),
    }
    request = find(answer.request_id)
    if request is not None and request["state"] != State.DONE:
        insert_new(collection_of(PrivacyAnswerDocument), [document])


def answers(request_id: str) -> list[dict[str, Any]]:
    """All that was answered, in order."""
    found = collection_of(PrivacyAnswerDocument).find({"request_id": request_id})
    return sorted(found, key=lambda each: (each["round"], each["service"], each["profile"], each["part"]))


def forget_answers(request_id: str) -> None:
    """Delete what was answered: it is in the archive, or counted in the proof."""
    collection_of(PrivacyAnswerDocument).delete_many({"request_id": request_id})


def keep_archive(request_id: str, archive: bytes) -> None:
    """Keep the archive in pieces, in the place of one that was kept before."""
    forget_archive(request_id)
    pieces = [
        {"_id": f"{request_id}/{number}", "request_id": request_id, "number": number, "data": archive[at : at + CHUNK_BYTES]}
        for number, at in enumerate(range(0, len(archive), CHUNK_BYTES))
    ]
    for piece in pieces:
        insert_new(collection_of(ArchiveDocument), [piece])


def archive(request_id: str) -> Iterator[bytes]:
    """The archive in pieces; none where there is none."""
    for number in range(10_000):
        found = collection_of(ArchiveDocument).find_one({"_id": f"{request_id}/{number}"})
        if found is None:
            return
        yield bytes(found["data"])


def forget_archive(request_id: str) -> bool:
    """Delete the archive; was there one?"""
    return bool(collection_of(ArchiveDocument).delete_many({"request_id": request_id}).deleted_count)


def of_profiles(profiles: Iterable[str]) -> list[dict[str, Any]]:
    """The requests that are about some of these profiles."""
    found = {each["_id"]: each for each in find_by(_requests(), profiles, field="members")}
    return [found[request_id] for request_id in sorted(found)]


def count_waiting(reason: Reason) -> int:
    """How many requests that were made for this reason are not done."""
    waiting = [state.value for state in State if state is not State.DONE]
    return int(_requests().count_documents({"state": {"$in": waiting}, "reason": reason}))


def archives_before(moment: datetime, limit: int) -> list[str]:
    """Requests that were done before then and still have an archive."""
    wanted = {"kind": Kind.ACCESS, "state": State.DONE, "done_at": {"$lt": moment}, "proof.archive_deleted": {"$ne": True}}
    return [found["_id"] for found in _requests().find(wanted, {"_id": 1}).limit(limit)]
