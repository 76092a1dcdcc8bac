"""Messages and why they went out or did not, and their sums."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query

from services.notifications.domain.messages import State
from services.notifications.store import contacts, messages, suppressions
from shared.access.audit import about_all
from shared.access.gate import needs
from shared.access.scopes import Scope
from shared.contracts.envelope import ProfileId
from shared.mongo import in_store

PENDING = (State.DUE, State.SENDING)
_SHOWN = (
    "offer_id", "program", "customer_id", "channel", "channel_reason", "template", "language", "purpose", "state", "reason", "detail",
    "decided_at", "due_at", "expires_at", "claimed_at", "outcome_at", "attempts",
)  # fmt: skip


def create_messages_router() -> APIRouter:
    """Messages, their summary, and how many customers can be written to."""
    router = APIRouter(tags=["messages"])

    @router.get("/messages", dependencies=[needs(Scope.PROFILES_READ)])
    async def list_messages(
        customer: ProfileId | None = None,
        state: State | None = None,
        after: str = "",
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> dict[str, Any]:
        """Messages in order of id; `after` is the last id of the page before, `state=due` with a reason are those that wait."""
        found = await in_store(messages.page, customer, state, after, limit)
        about_all(document["customer_id"] for document in found)
        return {"messages": [_shown(document) for document in found], "after": found[-1]["_id"] if len(found) == limit else None}

    @router.get("/summary", dependencies=[needs(Scope.REPORTS_READ)])
    async def summary() -> dict[str, Any]:
        """How many messages ended how, why, and on which channel."""
        tally = await in_store(messages.tally)
        known = await in_store(contacts.count)
        return {**summed(tally), "contacts": known, "suppressions": await in_store(suppressions.count)}

    @router.get("/contacts/count", dependencies=[needs(Scope.REPORTS_READ)])
    async def count_contacts() -> dict[str, int]:
        """How many customers are known here."""
        return {"contacts": await in_store(contacts.count)}

    return router


def summed(tally: Iterable[tuple[str, str, str | None, int]]) -> dict[str, Any]:
    """The sums over (channel, state, reason, count)."""
    outcomes: Counter[str] = Counter({state.value: 0 for state in State})
    channels: dict[str, Counter[str]] = defaultdict(Counter)
    reasons: dict[str, Counter[str]] = defaultdict(Counter)
    for channel, state, reason, count in tally:
        outcomes[state] += count
        channels[channel][state] += count
        if reason is not None:
            reasons[state][reason] += count
    return {
        "messages": sum(outcomes.values()),
        "pending": sum(outcomes[state] for state in PENDING),
        "outcomes": dict(outcomes),
        "reasons": {state: dict(counts) for state, counts in reasons.items()},
        "channels": {channel: dict(counts) for channel, counts in channels.items()},
    }


def _shown(document: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "message_id": document["_id"],
        **{name: document.get(name) for name in _SHOWN},
        "reported": document["state"] not in PENDING and "unreported" not in document,
    }
