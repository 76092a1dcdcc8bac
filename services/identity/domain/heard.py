"""What counts as hearing of a customer: everything that anybody says of them, but not what Dear itself did to them."""

from __future__ import annotations

import json

from services.identity.domain.events import SEPARATOR

_NOTIFICATIONS = "dear/notifications" + SEPARATOR
_SENT = "EmailSent"


def may_be_our_doing(key: str) -> bool:
    """Could the event of this name be a mail that went out? From there come also the answers to mails, which are the customer's doing."""
    return key.startswith(_NOTIFICATIONS)


def is_our_doing(key: str, event: bytes) -> bool:
    """Does the event say that a mail went out? Whoever never answers is not heard of, however often he is written to."""
    return may_be_our_doing(key) and json.loads(event)["data"].get("kind") == _SENT
