"""The kinds of data that notifications keeps, and how each is let go of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

from services.notifications.store import messages, responses
from shared.clock import Clock
from shared.retained import Retained
from shared.retention import Rule


def rules(clock: Clock) -> Mapping[Retained, Rule]:
    """All of them; which are used the settings say."""
    return {Retained.MESSAGES: Rule(_messages, clock)}


def _messages(before: datetime) -> Iterator[int]:
    yield from messages.retire(before)
    yield from responses.retire(before)
