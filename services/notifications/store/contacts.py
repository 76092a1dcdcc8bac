"""Contacts: the read model of `customers-v1`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import mongoengine as me
from pymongo import UpdateOne

from services.notifications.domain.contacts import Answer, Contact
from shared.mongo import find_by, insert_new, portions


class ContactDocument(me.Document):
    """One customer. A version lower than the one held is never written."""

    meta = {"db_alias": "notifications", "collection": "contacts", "auto_create_index": False}  # noqa: RUF012 - mongoengine's way

    customer_id = me.StringField(primary_key=True)
    version = me.IntField(required=True)
    addresses = me.DictField(me.StringField())
    consents = me.ListField(me.ListField())
    """Purpose, channel, granted, since when."""
    preferred_channel = me.StringField()
    language = me.StringField()
    time_zone = me.StringField()
    first_name = me.StringField()
    members = me.ListField(me.StringField())
    merged_into = me.StringField()


def save(contacts: Mapping[str, Contact | None]) -> None:
    """Keep the newest version of each; None forgets the customer."""
    collection = ContactDocument._get_collection()
    for gone in portions(customer_id for customer_id, contact in contacts.items() if contact is None):
        collection.delete_many({"_id": {"$in": gone}})
    documents = [_document(contact) for contact in contacts.values() if contact is not None]
    # Most are new, and the embedded database inserts eight in the time that it updates one.
    if there := insert_new(collection, documents):
        collection.bulk_write([_if_newer(documents[position]) for position in there], ordered=False)


def read(customer_ids: Collection[str]) -> dict[str, Contact]:
    """The contacts of these customers that are known; of one that is part of another customer, that one's."""
    found = _read(customer_ids)
    # Versions of different customers come in any order, so one may still name another that itself was merged since.
    asked: set[str] = set()
    while missing := {each.merged_into for each in found.values() if each.merged_into is not None} - found.keys() - asked:
        asked |= missing
        found.update(_read(missing))
    homes = {customer_id: _home(found[customer_id], found) for customer_id in customer_ids if customer_id in found}
    return {customer_id: home for customer_id, home in homes.items() if home is not None}


def _read(customer_ids: Collection[str]) -> dict[str, Contact]:
    return {document["_id"]: _contact(document) for document in find_by(ContactDocument._get_collection(), customer_ids)}


def _home(contact: Contact, found: Mapping[str, Contact]) -> Contact | None:
    """Whom to write to; nobody while the customer that it is part of is not known yet, or the two still name each other."""
    passed: set[str] = set()
    home: Contact | None = contact
    while home is not None and home.merged_into is not None:
        if home.customer_id in passed:
            return None
        passed.add(home.customer_id)
        home = found.get(home.merged_into)
    return home


def count() -> int:
    """How many customers are known."""
    total: int = ContactDocument._get_collection().count_documents({"merged_into": None})
    return total


def _if_newer(document: Mapping[str, Any]) -> UpdateOne:
    fields = {name: value for name, value in document.items() if name != "_id"}
    return UpdateOne({"_id": document["_id"], "version": {"$lt": document["version"]}}, {"$set": fields})


def _document(contact: Contact) -> dict[str, Any]:
    return {
        "_id": contact.customer_id,
        "version": contact.version,
        "addresses": dict(contact.addresses),
        "consents": [[*allowed, answer.granted, answer.at] for allowed, answer in contact.consents.items()],
        "preferred_channel": contact.preferred_channel,
        "language": contact.language,
        "time_zone": contact.time_zone,
        "first_name": contact.first_name,
        "members": list(contact.members),
        "merged_into": contact.merged_into,
    }


def _contact(document: Mapping[str, Any]) -> Contact:
    return Contact(
        customer_id=document["_id"],
        version=document["version"],
        addresses=document["addresses"],
        consents={(purpose, channel): Answer(granted, at) for purpose, channel, granted, at in document["consents"]},
        preferred_channel=document["preferred_channel"],
        language=document["language"],
        time_zone=document["time_zone"],
        first_name=document["first_name"],
        members=tuple(document.get("members", ())),
        merged_into=document.get("merged_into"),
    )
