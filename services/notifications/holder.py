"""What notifications has of somebody: messages, what they did with them, and the wish not to be written to."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any

from services.notifications.domain.contacts import Suppression
from services.notifications.store import contacts, messages, responses, suppressions
from shared.mongo import in_store
from shared.privacy import Counts

OBJECTED = "objected to marketing"


class NotificationsHolder:
    """Implements shared.privacy.Holder. A customer's messages are kept under the id of the customer, which is one of its profiles'."""

    def __init__(self, master_key: bytes | None) -> None:
        self._master_key = master_key

    async def show(self, profile: str) -> list[dict[str, Any]]:
        """Messages, responses to them, and suppressions."""
        return await in_store(_show, profile)

    async def object(self, profile: str, at: datetime) -> Counts:
        """No marketing on any channel, until they allow it again themselves."""
        suppression = Suppression(f"customer:{profile}", None, "marketing", until_consent_after=at)
        await in_store(suppressions.add, suppression, OBJECTED, at)
        return {"suppressions": 1}

    async def erase(self, profile: str, references: Sequence[str]) -> Counts:
        """Contact, what messages said and what came of them go; that an address is not to be written to stays, as a keyed hash."""
        return await in_store(partial(_erase, profile, references, self._master_key))


def _show(profile: str) -> list[dict[str, Any]]:
    told = [{"kind": "messages", **each} for each in messages.of_customer(profile)]
    told += [{"kind": "responses", **each} for each in responses.of_messages(messages.ids_of_customer(profile))]
    entries = suppressions.of_subject(f"customer:{profile}")
    return told + [
        {"kind": "suppressions", "channel": each.suppression.channel, "purpose": each.suppression.purpose, "active": each.active}
        for each in entries
    ]


def _erase(profile: str, references: Sequence[str], master_key: bytes | None) -> Counts:
    known = contacts.read([profile])
    contacts.save({profile: None})
    hashed = suppressions.hash_addresses(frozenset(references), master_key) if master_key else 0
    # After the contact, without whom nothing more is noted.
    done = responses.erase(messages.ids_of_customer(profile))
    return {"contacts": len(known), "messages": messages.erase_contents(profile), "responses": done, "kept_suppressions": hashed}
