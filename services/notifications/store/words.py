"""What a message says, to whom, and what its server answered: sealed under the customer's key, field by field."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from services.notifications.domain.messages import Message
from shared.vault import vault_of

FIELDS = ("content", "reference", "detail")
"""Each is JSON once opened, and not there where there is nothing to say."""


def sealed(changes: Iterable[tuple[Message, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """The fields that are to be written of each message, those among them that are words sealed."""
    listed = list(changes)
    words = [(message, name, fields[name]) for message, fields in listed for name in FIELDS if fields.get(name) is not None]
    texts = [(message.customer_id, _name(message.message_id, name), msgspec.json.encode(said)) for message, name, said in words]
    closed: dict[str, dict[str, bytes]] = {}
    for (message, name, _), text in zip(words, vault_of("notifications").seal(texts), strict=True):
        closed.setdefault(message.message_id, {})[name] = text
    return [{**fields, **closed.get(message.message_id, {})} for message, fields in listed]


def opened(documents: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Messages as they are kept, in plain; words whose key was destroyed are not there any more. Of old messages they lie open."""
    listed = [*documents]
    words = [(document, name) for document in listed for name in FIELDS if isinstance(document.get(name), bytes)]
    texts = [(document["customer_id"], _name(document["_id"], name), bytes(document[name])) for document, name in words]
    said: dict[str, dict[str, Any]] = {}
    for (document, name), text in zip(words, vault_of("notifications").open(texts), strict=True):
        said.setdefault(document["_id"], {})[name] = None if text is None else msgspec.json.decode(text)
    return [{**document, **said.get(document["_id"], {})} for document in listed]


def _name(message_id: str, field: str) -> str:
    return f"{message_id}/{field}"
