"""Every decision on merging, splitting and erasing, in one order: its number is its key, so nobody decides without knowing those before.

No reference is kept here, only its kind and the event that named it. Decisions stay when somebody is erased, for the order of the others
rests on them; what people wrote about the erased goes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any

import mongoengine as me

from services.identity.domain.merging import Action, Asked, Decision
from services.identity.domain.trust import Verdict
from services.identity.store.bulk import collection_of
from shared.mongo import find_by, refused_as_duplicates

_LAST = "last"


class MergeDocument(me.Document):
    """One decision and its evidence. Only ever added."""

    meta = {  # noqa: RUF012 - mongoengine's way
        "db_alias": "identity",
        "collection": "merges",
        "auto_create_index": False,
        "indexes": ["event", "members", "profiles", "apart"],
    }

    number = me.LongField(primary_key=True)
    question = me.StringField(required=True)
    event = me.StringField(required=True)
    profiles = me.ListField(me.StringField())
    kinds = me.ListField(me.StringField())
    apart = me.ListField(me.StringField())
    at = me.LongField(required=True)
    by = me.StringField()
    evidence = me.StringField()
    action = me.StringField(required=True)
    rule = me.StringField(required=True)
    groups = me.ListField(me.ListField())
    members = me.ListField(me.StringField())
    """All who are in a group: the way to what concerns a profile."""
    decided_at = me.DateTimeField(required=True)


class LastNumberDocument(me.Document):
    """About how many decisions there are: where to look for the last one."""

    meta = {"db_alias": "identity", "collection": "merges_last", "auto_create_index": False}  # noqa: RUF012

    name = me.StringField(primary_key=True)
    number = me.LongField(required=True)


def last_number() -> int:
    """The number of the last decision. Asked for first, so that what is read afterwards is at least as new."""
    found = collection_of(LastNumberDocument).find_one({"_id": _LAST})
    number = int(found["number"]) if found else 0
    # Whoever wrote the last ones may have died before saying so.
    while collection_of(MergeDocument).find_one({"_id": number + 1}, {"_id": 1}) is not None:
        number += 1
    return number


def answers_to(events: Iterable[str]) -> dict[str, Decision]:
    """The decisions that these events led to, by their questions."""
    return {each["question"]: _decision(each) for each in find_by(collection_of(MergeDocument), events, field="event")}


def concerning(profiles: Collection[str]) -> list[Decision]:
    """The decisions that changed whom these profiles are one customer with, in order."""
    return [_decision(each) for each in _concerning(profiles)]


def _concerning(profiles: Collection[str]) -> list[dict[str, Any]]:
    found = {each["_id"]: each for each in find_by(collection_of(MergeDocument), profiles, field="members")}
    return [found[number] for number in sorted(found)]


def erased_among(profiles: Iterable[str]) -> set[str]:
    """Those of these profiles that were erased, or are being."""
    wanted = set(profiles)
    found = find_by(collection_of(MergeDocument), wanted, field="members", action=Action.ERASED.value)
    return wanted & {member for each in found for member in each["members"]}


def about(profiles: Collection[str]) -> list[dict[str, Any]]:
    """Everything that was asked or decided about these profiles, in order, also what was refused and so concerned nobody."""
    by_any = (find_by(collection_of(MergeDocument), profiles, field=field) for field in ("members", "profiles", "apart"))
    found = {each["_id"]: each for some in by_any for each in some}
    return [found[number] for number in sorted(found)]


def forget_words(profiles: Collection[str]) -> None:
    """Empty who asked for decisions about these profiles, and why, in their own words. That they were made stays."""
    numbers = [each["_id"] for each in about(profiles) if each["by"] or each["evidence"]]
    if numbers:
        collection_of(MergeDocument).update_many({"_id": {"$in": numbers}}, {"$set": {"by": "", "evidence": ""}})


def append(decisions: Sequence[Decision], after: int, at: datetime) -> bool:
    """Keep decisions that were made knowing all up to a number; False where another process was faster with some."""
    documents = [_document(after + 1 + index, each, at) for index, each in enumerate(decisions)]
    # In order: what follows on a decision that was not kept must not be kept either.
    done = not refused_as_duplicates(lambda: collection_of(MergeDocument).insert_many(documents, ordered=True))
    if done:
        collection_of(LastNumberDocument).update_one({"_id": _LAST}, {"$max": {"number": after + len(documents)}}, upsert=True)
    return done


def _document(number: int, decision: Decision, at: datetime) -> dict[str, Any]:
    asked = decision.asked
    return {
        "_id": number,
        "question": asked.id,
        "event": asked.event,
        "profiles": list(asked.profiles),
        "kinds": list(asked.kinds),
        "apart": list(asked.apart),
        "at": asked.at,
        "by": asked.by,
        "evidence": asked.evidence,
        "action": decision.action.value,
        "rule": decision.rule.value,
        "groups": [sorted(group) for group in decision.groups],
        "members": sorted(decision.members),
        "decided_at": at,
    }


def _decision(document: dict[str, Any]) -> Decision:
    asked = Asked(
        document["question"],
        document["event"],
        tuple(document["profiles"]),
        tuple(document["kinds"]),
        tuple(document["apart"]),
        document["at"],
        document["by"],
        document["evidence"],
        document["action"] == Action.ERASED,
    )
    groups = tuple(frozenset(group) for group in document["groups"])
    return Decision(asked, Action(document["action"]), Verdict(document["rule"]), groups)
