"""The database `notifications`: contacts, messages, responses to them, suppressions, and the key that signs links."""

from __future__ import annotations

from services.notifications.store.contacts import ContactDocument
from services.notifications.store.messages import MessageDocument
from services.notifications.store.responses import ResponseDocument
from services.notifications.store.suppressions import SuppressionDocument

DATABASE = "notifications"


def prepare() -> None:
    """Make the indexes; making them again changes nothing."""
    for document in (ContactDocument, MessageDocument, ResponseDocument, SuppressionDocument):
        document.ensure_indexes()
