"""Messages: one document per offer, customer and channel. Every change of state is conditional on the state before it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

import mongoengine as me
from pymongo import UpdateMany, UpdateOne

from services.notifications.domain.contacts import Sent
from services.notifications.domain.messages import COUNTED_BY_CAPS, FINAL, Message, Outcome, State
from services.notifications.domain.reasons import Reason
from services.notifications.store.words import FIELDS, opened, sealed
from shared.mongo import find_by, insert_new, portions
from shared.walks import parts

_MESSAGE_FIELDS = tuple(name for name in Message.__slots__ if name not in ("message_id", "put_off_to", "reference"))

RETIRED_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class Postponed:
    """A message that is not through yet: why, and when to ask again by the clock and by the wall's clock."""

    message: Message
    due_at: datetime
    reason: Reason
    retry_at: datetime
    detail: str | None = None


class MessageDocument(me.Document):
    """One message and what became of it. `due_at` is there while it is due, `unreported` from the claim until the outcome is published.

    Both are indexed by themselves, and absent from all the others: the embedded database bounds a range by no other kind of index.
    """

    meta = {  # noqa: RUF012 - mongoengine's way
        "db_alias": "notifications",
        "collection": "messages",
        "auto_create_index": False,
        "indexes": [
            {"fields": ["due_at"], "sparse": True},
            {"fields": ["unreported"], "sparse": True},
            ("customer_id", "claimed_at"),
        ],
    }

    message_id = me.StringField(primary_key=True)
    offer_id = me.StringField(required=True)
    program = me.StringField(required=True)
    customer_id = me.StringField(required=True)
    channel = me.StringField(required=True)
    channel_reason = me.StringField()
    partition = me.IntField(required=True)
    template = me.StringField(required=True)
    purpose = me.StringField(required=True)
    content = me.BinaryField()
    decided_at = me.DateTimeField(required=True)
    expires_at = me.DateTimeField(required=True)
    recorded_at = me.DateTimeField(required=True)
    appended_ms = me.LongField(required=True)
    state = me.StringField(required=True, choices=[state.value for state in State])
    reason = me.StringField()
    detail = me.BinaryField()
    language = me.StringField()
    due_at = me.DateTimeField()
    retry_at = me.DateTimeField()
    """By the wall's clock: not before then, whatever is due."""
    attempts = me.IntField(default=0)
    claim = me.StringField()
    claimed_at = me.DateTimeField()
    leased_until = me.DateTimeField()
    """By the wall's clock: after it, the claimer is taken for dead."""
    outcome_at = me.DateTimeField()
    reference = me.BinaryField()
    """Whom it is for, or was written to; not there any more once the outcome is told."""
    tracked = me.BooleanField()
    unreported = me.BooleanField()


def record(messages: Sequence[Message], held_back: Mapping[str, Outcome | Postponed] = MappingProxyType({})) -> set[str]:
    """Insert the messages, as due or as the gate holds them back already; the ids that were there before.

    A refusal is not marked as unreported: whoever records it has the offer in hand, and the offer comes again until it is told.
    """
    documents = sealed((message, _document(message) | _at_first(message, held_back.get(message.message_id))) for message in messages)
    return {messages[position].message_id for position in insert_new(_collection(), documents)}


def read_due(message_ids: Collection[str], now: datetime, wall: datetime) -> list[Message]:
    """Those of these messages that may be sent now."""
    return _messages(find_by(_collection(), message_ids, **_due(now, wall)))


def due(partitions: Collection[int], now: datetime, wall: datetime, limit: int) -> list[Message]:
    """The messages of these partitions that may be sent now, longest due first."""
    return _messages(_collection().find({**_due(now, wall), "partition": {"$in": list(partitions)}}).sort("due_at", 1).limit(limit))


def history(customer_ids: Collection[str], since: datetime) -> dict[str, list[Sent]]:
    """The marketing messages that went out to these profiles since then, or may have."""
    wanted = {"claimed_at": {"$gt": since}, "state": {"$in": list(COUNTED_BY_CAPS)}, "purpose": "marketing"}
    kept = {"customer_id": 1, "channel": 1, "claimed_at": 1, "program": 1}
    sent: dict[str, list[Sent]] = defaultdict(list)
    for document in find_by(_collection(), customer_ids, kept, field="customer_id", **wanted):
        sent[document["customer_id"]].append(
            Sent(document["channel"], document["claimed_at"], document["program"], document["customer_id"])
        )
    return sent


def claim(message_ids: Collection[str], token: str, now: datetime, leased_until: datetime) -> set[str]:
    """Take due messages for sending; the ids of those that nobody else had taken."""
    if not message_ids:
        return set()
    ids = list(message_ids)
    claimed = {"state": State.SENDING, "claim": token, "claimed_at": now, "leased_until": leased_until, "unreported": True}
    change = {"$set": claimed, "$inc": {"attempts": 1}, "$unset": {"due_at": ""}}
    changed = _collection().update_many({"_id": {"$in": ids}, "state": State.DUE}, change)
    if changed.modified_count == len(ids):
        return set(ids)
    taken = _collection().find({"_id": {"$in": ids}, "claim": token, "state": State.SENDING}, {"_id": 1})
    return {document["_id"] for document in taken}


def defer(deferrals: Iterable[Postponed]) -> None:
    """Put due messages off."""
    _write(UpdateOne({"_id": message_id, "state": State.DUE}, {"$set": fields}) for message_id, fields in _put_off(deferrals))


def suppress(outcomes: Sequence[Outcome]) -> bool:
    """Close due messages that may not be sent; True if all of them were still due."""
    return _close(outcomes, {"state": State.DUE})


def settle(outcomes: Sequence[Outcome], token: str) -> bool:
    """Close the messages of one claim; True if all of them were still under it."""
    return _close(outcomes, {"state": State.SENDING, "claim": token})


def release(postponed: Iterable[Postponed], token: str) -> None:
    """Give messages of one claim back that certainly did not go out: they are due again, and caps do not count them."""
    unclaimed = {"claim": "", "claimed_at": "", "leased_until": "", "unreported": ""}
    _write(
        UpdateOne(
            {"_id": message_id, "state": State.SENDING, "claim": token},
            {"$set": {"state": State.DUE, **fields}, "$unset": unclaimed},
        )
        for message_id, fields in _put_off(postponed)
    )


def abandon(partitions: Collection[int], wall: datetime, now: datetime) -> list[str]:
    """Mark as unknown what somebody claimed and, by the end of the lease, had neither sent nor given back; the channels of these."""
    wanted = {"unreported": True, "state": State.SENDING, "partition": {"$in": list(partitions)}, "leased_until": {"$lt": wall}}
    change = {"state": State.UNKNOWN, "reason": Reason.PROCESS_DIED, "outcome_at": now}
    found = list(_collection().find(wanted, {"channel": 1}))
    _write(UpdateOne({"_id": one["_id"], **wanted}, {"$set": change}) for one in found)
    return [one["channel"] for one in found]


def unreported(partitions: Collection[int], limit: int) -> list[Outcome]:
    """Outcomes that are not published yet."""
    wanted = {"unreported": True, "state": {"$in": list(FINAL)}, "partition": {"$in": list(partitions)}}
    return _outcomes(_collection().find(wanted).limit(limit))


def final(message_ids: Collection[str]) -> list[Outcome]:
    """The outcomes of those of these messages that have one."""
    return _outcomes(find_by(_collection(), message_ids, state={"$in": list(FINAL)}))


def reported(message_ids: Collection[str]) -> None:
    """These outcomes are published; whom the mail went to needs not be known any more."""
    told = {"$unset": {"unreported": "", "reference": ""}}
    _write(UpdateMany({"_id": {"$in": ids}}, told) for ids in portions(message_ids))


def page(customer_id: str | None, state: State | None, after: str, limit: int) -> list[dict[str, Any]]:
    """The messages after an id, in order of id, as they are kept, in plain."""
    wanted: dict[str, Any] = {"_id": {"$gt": after}}
    if customer_id is not None:
        wanted["customer_id"] = customer_id
    if state is not None:
        wanted["state"] = state
    return opened(_collection().find(wanted).sort("_id", 1).limit(limit))


def find(message_id: str) -> Message | None:
    """One message."""
    return next(iter(_messages(_collection().find({"_id": message_id}))), None)


_SHOWN = ("offer_id", "program", "channel", "template", "purpose", "content", "language", "state", "reason", "decided_at", "outcome_at")


def of_customer(customer_id: str) -> list[dict[str, Any]]:
    """All messages of a customer, as they are shown to whom they were written."""
    found = opened(_collection().find({"customer_id": customer_id}))
    return [{"message_id": document["_id"], **{name: document.get(name) for name in _SHOWN}} for document in found]


def ids_of_customer(customer_id: str) -> list[str]:
    """The ids of all messages of a customer."""
    return [document["_id"] for document in _collection().find({"customer_id": customer_id}, {"_id": 1})]


def erase_contents(customer_id: str) -> int:
    """Empty what a customer's messages said and to whom; what was sent when, and why not, stays. Returns how many had something."""
    wanted = {"customer_id": customer_id, "$or": [{name: {"$ne": None}} for name in FIELDS]}
    emptied = _collection().update_many(wanted, {"$unset": dict.fromkeys(FIELDS, "")})
    return int(emptied.modified_count)


def retire(before: datetime) -> Iterator[int]:
    """Empty what messages said whose outcome is older and was told, a portion a step; when they were sent, and why not, stays."""
    said = {"$or": [{name: {"$ne": None}} for name in FIELDS]}
    wanted = {"state": {"$in": list(FINAL)}, "unreported": None, "outcome_at": {"$lt": before}, **said}
    for part in parts("notifications", "messages", _collection(), "customer_id", RETIRED_AT_ONCE):
        old = [each["_id"] for each in _collection().find({**part, **wanted}, {"_id": 1})]
        changes = [UpdateMany({"_id": {"$in": some}}, {"$unset": dict.fromkeys(FIELDS, "")}) for some in portions(old)]
        yield int(_collection().bulk_write(changes, ordered=False).modified_count) if changes else 0


def tally() -> list[tuple[str, str, str | None, int]]:
    """How many messages there are by channel, state and reason."""
    group = {"_id": {"channel": "$channel", "state": "$state", "reason": "$reason"}, "count": {"$sum": 1}}
    rows = _collection().aggregate([{"$group": group}])
    return [(row["_id"]["channel"], row["_id"]["state"], row["_id"].get("reason"), row["count"]) for row in rows]


def _due(now: datetime, wall: datetime) -> dict[str, Any]:
    return {"state": State.DUE, "due_at": {"$lte": now}, "retry_at": {"$not": {"$gt": wall}}}


def _close(outcomes: Sequence[Outcome], condition: Mapping[str, Any]) -> bool:
    """Write outcomes, those that read the same in one go: most of a claim does."""
    alike: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    finals = sealed((outcome.message, _final(outcome)) for outcome in outcomes)
    for outcome, final_fields in zip(outcomes, finals, strict=True):
        alike[tuple(final_fields.items())].append(outcome.message.message_id)
    writes = [
        UpdateMany({"_id": {"$in": some}, **condition}, {"$set": {**dict(fields), "unreported": True}, "$unset": {"due_at": ""}})
        for fields, ids in alike.items()
        for some in portions(ids)
    ]
    return _write(writes) == len(outcomes)


def _final(outcome: Outcome) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "state": outcome.state,
        "reason": outcome.reason,
        "detail": outcome.detail,
        "outcome_at": outcome.at,
        "channel_reason": outcome.channel_reason,
        "language": outcome.language,
    }
    if outcome.state is State.SENT:
        fields["tracked"] = outcome.tracked
        if outcome.reference != outcome.message.reference:
            # The address changed after the message was recorded. It seldom does, so most outcomes still read the same.
            fields["reference"] = outcome.reference
    return fields


def _at_first(message: Message, verdict: Outcome | Postponed | None) -> dict[str, Any]:
    match verdict:
        case Outcome():
            return {**_final(verdict), "reference": None}
        case Postponed():
            return {"state": State.DUE, **_postponed(verdict)}
        case None:
            return {"state": State.DUE, "due_at": message.decided_at}


def _write(writes: Iterable[UpdateOne | UpdateMany]) -> int:
    """Do the writes, in one request; how many documents were matched."""
    listed = list(writes)
    return int(_collection().bulk_write(listed, ordered=False).matched_count) if listed else 0


def _document(message: Message) -> dict[str, Any]:
    fields = {name: getattr(message, name) for name in _MESSAGE_FIELDS}
    if message.reference is not None:
        fields["reference"] = message.reference
    return {"_id": message.message_id, **fields, "content": dict(message.content) or None}


def _put_off(postponed: Iterable[Postponed]) -> Iterator[tuple[str, dict[str, Any]]]:
    listed = list(postponed)
    fields = sealed((one.message, _postponed(one)) for one in listed)
    return zip((one.message.message_id for one in listed), fields, strict=True)


def _postponed(one: Postponed) -> dict[str, Any]:
    return {"due_at": one.due_at, "reason": one.reason, "detail": one.detail, "retry_at": one.retry_at}


def _messages(found: Iterable[Mapping[str, Any]]) -> list[Message]:
    return [_message(document) for document in opened(found)]


def _outcomes(found: Iterable[Mapping[str, Any]]) -> list[Outcome]:
    return [_outcome(document) for document in opened(found)]


def _message(document: Mapping[str, Any]) -> Message:
    due_at = document.get("due_at")
    put_off_to = due_at if due_at is not None and due_at > document["decided_at"] else None
    fields = {name: document[name] for name in _MESSAGE_FIELDS if name != "content"}
    content, reference = document.get("content") or {}, document.get("reference")
    return Message(message_id=document["_id"], put_off_to=put_off_to, content=content, reference=reference, **fields)


def _outcome(document: Mapping[str, Any]) -> Outcome:
    reason, message = document.get("reason"), _message(document)
    return Outcome(
        message,
        State(document["state"]),
        document["outcome_at"],
        Reason(reason) if reason else None,
        reference=message.reference,
        tracked=bool(document.get("tracked")),
    )


def _collection() -> Any:
    return MessageDocument._get_collection()
