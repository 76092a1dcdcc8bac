"""Customers as they are known, and every statement of consent that was ever made."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import mongoengine as me
from pymongo import InsertOne, ReplaceOne, UpdateMany
from pymongo.results import BulkWriteResult

from services.identity.domain.called import Called
from services.identity.domain.customers import CustomerState, Detail, Permission, Said, microseconds
from services.identity.domain.events import SEPARATOR, SourceEvent, statements
from services.identity.store.bulk import collection_of, find_by_ids
from services.identity.store.references import ReferenceDocument
from shared.mongo import find_by, insert_new, portions, refused_as_duplicates


class CustomerDocument(me.Document):
    """What is known of one profile, and the version under which its id is published.

    All that reaches a person, or names one, is in `contact` and nowhere else here.
    """

    meta = {"db_alias": "identity", "collection": "customers", "auto_create_index": False}  # noqa: RUF012 - mongoengine's way

    customer_id = me.StringField(primary_key=True)
    version = me.IntField(required=True)
    members = me.ListField(me.StringField())
    first_seen = me.LongField(required=True)
    consents = me.ListField(me.DictField())
    contact = me.DictField()


PROOF = ("lawful_basis", "text_version", "text_sha256", "method", "place", "evidence")
"""What a statement may say of itself."""


class ConsentDocument(me.Document):
    """One statement of consent or refusal. Only ever added; it goes when its customer is erased."""

    meta = {"db_alias": "identity", "collection": "consents", "auto_create_index": False, "indexes": ["profile"]}  # noqa: RUF012

    statement_id = me.StringField(primary_key=True)
    profile = me.StringField(required=True)
    purpose = me.StringField(required=True)
    channel = me.StringField(required=True)
    granted = me.BooleanField(required=True)
    at = me.LongField(required=True)
    source = me.StringField(required=True)
    event = me.StringField(required=True)
    lawful_basis = me.StringField()
    text_version = me.StringField()
    text_sha256 = me.StringField()
    method = me.StringField()
    place = me.StringField()
    evidence = me.StringField()


class MentionDocument(me.Document):
    """That a customer's document says something of a reference that is another's: the way to it when that one is erased.

    Written before the customer. A collection of its own, because an index of customers would cost each of them as much as all the rest
    of its writing, and hardly any says such a thing.
    """

    meta = {"db_alias": "identity", "collection": "mentions", "auto_create_index": False, "indexes": ["reference", "customer"]}  # noqa: RUF012

    mention_id = me.StringField(primary_key=True)
    reference = me.StringField(required=True)
    customer = me.StringField(required=True)


def _customers() -> Any:
    return collection_of(CustomerDocument)


def load(customer_ids: Iterable[str]) -> dict[str, CustomerState]:
    """The customers that there are."""
    return {found["_id"]: _state(found) for found in find_by_ids(_customers(), customer_ids)}


_ITS_PROFILE: tuple[dict[str, Any], ...] = (
    {"$lookup": {"from": "customers", "localField": "profile", "foreignField": "_id", "as": "customer"}},
    {"$unwind": "$customer"},
    {"$lookup": {"from": "profiles", "localField": "profile", "foreignField": "_id", "as": "home"}},
    {"$unwind": "$home"},
)


def with_reference(reference: str) -> tuple[CustomerState, bool] | None:
    """The profile that a reference belongs to, and whether decisions on merging may concern it.

    Three collections are asked at once, for whoever asks stands at a till.
    """
    pipeline = [{"$match": {"_id": reference}}, *_ITS_PROFILE]
    found = next(iter(collection_of(ReferenceDocument).aggregate(pipeline)), None)
    return None if found is None else (_state(found["customer"]), bool(found["home"].get("linked")))


def versions(customer_ids: Iterable[str]) -> dict[str, int]:
    """The versions that these customers have now."""
    return {found["_id"]: found["version"] for found in find_by_ids(_customers(), customer_ids, {"version": 1})}


def save(states: Sequence[CustomerState]) -> bool:
    """Store each as the version after the one it was read with; False where another process was faster with some."""
    if not states:
        return True
    insert_new(collection_of(MentionDocument), [each for state in states for each in _mentions(state)])
    writes = [_write(state) for state in states]
    done: list[BulkWriteResult] = []
    taken = refused_as_duplicates(lambda: done.append(_customers().bulk_write(writes, ordered=False)))
    return not taken and done[0].inserted_count + done[0].matched_count == len(states)


def _write(state: CustomerState) -> InsertOne[Any] | ReplaceOne[Any]:
    document = _document(state)
    if state.version == 1:
        return InsertOne(document)
    return ReplaceOne({"_id": state.customer_id, "version": state.version - 1}, document)


def count_versions_on(customer_ids: Iterable[str]) -> None:
    """What is to be published under these ids has changed."""
    writes = [UpdateMany({"_id": {"$in": some}}, {"$inc": {"version": 1}}) for some in portions(customer_ids)]
    if writes:
        _customers().bulk_write(writes, ordered=False)


def every(page_size: int = 500) -> Iterator[list[CustomerState]]:
    """All customers, in pages."""
    page: list[CustomerState] = []
    for found in _customers().find({}).batch_size(page_size):
        page.append(_state(found))
        if len(page) == page_size:
            yield page
            page = []
    if page:
        yield page


def page_after(customer_id: str, limit: int) -> list[CustomerState]:
    """The next customers in the order of their ids."""
    return [_state(found) for found in _customers().find({"_id": {"$gt": customer_id}}).sort("_id", 1).limit(limit)]


def count() -> int:
    """How many customers there are."""
    return int(_customers().estimated_document_count())


def add_statements(stated: Sequence[tuple[SourceEvent, str]]) -> None:
    """Add the statements of these events and their profiles; those that are there already stay."""
    insert_new(collection_of(ConsentDocument), [each for event, profile in stated for each in _statements(event, profile)])


def _statements(event: SourceEvent, profile: str) -> Iterator[dict[str, Any]]:
    for index, each in enumerate(statements(event)):
        said = {"purpose": each.purpose, "channel": each.channel, "granted": each.granted, "at": microseconds(event.at)}
        proof = {name: value for name in PROOF if (value := getattr(each, name)) is not None}
        yield {"_id": f"{event.key}{SEPARATOR}{index}", "profile": profile, **said, **proof, "source": event.source, "event": event.id}


def statements_of(profiles: Iterable[str]) -> list[dict[str, Any]]:
    """Everything that these profiles ever stated, in no order."""
    return list(find_by(collection_of(ConsentDocument), profiles, field="profile"))


def erase_statements(profiles: Iterable[str]) -> int:
    """Delete what these profiles stated; returns how many statements there were."""
    collection = collection_of(ConsentDocument)
    return sum(collection.delete_many({"profile": {"$in": some}}).deleted_count for some in portions(profiles))


def erase(customer_ids: Iterable[str]) -> None:
    """Delete what is known of these profiles."""
    for some in portions(customer_ids):
        collection_of(MentionDocument).delete_many({"customer": {"$in": some}})
        _customers().delete_many({"_id": {"$in": some}})


def forget_elsewhere(references: Iterable[str]) -> None:
    """Forget what others than those whose they are said of these references. Whoever is changing one of them reads it again."""
    mentions = collection_of(MentionDocument)
    for some in portions(references):
        named = {"reference": {"$in": some}}
        for those in portions({each["customer"] for each in mentions.find(named)}):
            # Also where there is nothing yet: whoever is about to write it then finds another version, and reads again.
            _customers().update_many({"_id": {"$in": those}}, {"$pull": {"contact.elsewhere": named}, "$inc": {"version": 1}})
        # After what it leads to, so that whoever dies here comes by again.
        mentions.delete_many(named)


def mentioned(is_meant: Callable[[str], bool]) -> set[str]:
    """Those references that somebody says something of although they are another's, and that are meant."""
    return {each["reference"] for each in collection_of(MentionDocument).find({}, {"reference": 1}) if is_meant(each["reference"])}


def _mentions(state: CustomerState) -> Iterator[dict[str, Any]]:
    for each in _elsewhere(state):
        reference = each["reference"]
        yield {"_id": f"{reference}{SEPARATOR}{state.customer_id}", "reference": reference, "customer": state.customer_id}


def _document(state: CustomerState) -> dict[str, Any]:
    own, elsewhere = state.references, _elsewhere(state)
    return {
        "_id": state.customer_id,
        "version": state.version,
        "members": sorted(state.members),
        "first_seen": state.first_seen,
        "consents": [
            {"purpose": purpose, "channel": channel, "at": said.at, "granted": said.granted}
            for (purpose, channel), said in state.consents.items()
        ],
        "contact": {
            "references": sorted(state.references),
            "since": _pairs(state.called.since),
            "said": _pairs(_of(state.called.said, own)),
            "retired": _pairs(_of(state.called.retired, own)),
            **({"elsewhere": elsewhere} if elsewhere else {}),
            # Lists, not maps: a trait may have a name that no database takes as a field's.
            "traits": [_kept(name, said) for name, said in state.traits.items()],
            "wishes": [_kept(name, said) for name, said in state.wishes.items()],
            "details": [{"of": [*of], "at": said.at, "by": said.by, "value": said.value} for of, said in state.details.items()],
        },
    }


def _elsewhere(state: CustomerState) -> list[dict[str, Any]]:
    """What was said of references that are others': to be found when these are erased."""
    called = state.called
    foreign = sorted((called.said.keys() | called.retired.keys()) - state.references)
    return [{"reference": each, "said": called.said.get(each), "retired": called.retired.get(each)} for each in foreign]


def _of(times: Mapping[str, int], references: Collection[str]) -> dict[str, int]:
    return {reference: at for reference, at in times.items() if reference in references}


def _pairs(times: Mapping[str, int]) -> list[list[Any]]:
    return [[reference, at] for reference, at in times.items()]


def _kept(name: str, said: Said) -> dict[str, Any]:
    return {"name": name, "at": said.at, "by": said.by, "value": said.value}


def _said(kept: list[dict[str, Any]]) -> dict[str, Said]:
    return {each["name"]: Said(each["at"], each["by"], each["value"]) for each in kept}


def _state(document: dict[str, Any]) -> CustomerState:
    contact = document["contact"]
    return CustomerState(
        customer_id=document["_id"],
        members=frozenset(document["members"]),
        references=frozenset(contact["references"]),
        called=_called(contact),
        first_seen=document["first_seen"],
        traits=_said(contact["traits"]),
        wishes=_said(contact["wishes"]),
        consents={(each["purpose"], each["channel"]): Permission(each["at"], each["granted"]) for each in document["consents"]},
        details=_details(contact.get("details", ())),
        version=document["version"],
    )


def _called(contact: Mapping[str, Any]) -> Called:
    said, retired = dict(contact.get("said", ())), dict(contact.get("retired", ()))
    for each in contact.get("elsewhere", ()):
        for times, at in ((said, each["said"]), (retired, each["retired"])):
            if at is not None:
                times[each["reference"]] = at
    return Called(dict(contact.get("since", ())), said, retired)


def _details(kept: Iterable[dict[str, Any]]) -> dict[Detail, Said]:
    found = {}
    for each in kept:
        kind, name, of = each["of"]
        found[kind, name, of] = Said(each["at"], each["by"], each["value"])
    return found
