"""Requests about the data on somebody: what may be asked, how far one has come, and what is proven at the end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any

from services.identity.domain.customers import moment
from shared.contracts.envelope import derived_id
from shared.contracts.topics import CUSTOMERS, DEAD_LETTERS, PRIVACY, SCORES, SEGMENTATION_STATE, TOPICS

OTHERS = tuple(service for service in PRIVACY.consumers if service != "identity")
"""The services that have to answer before a request is done."""
TOMBSTONED = (CUSTOMERS.name, SCORES.name, SEGMENTATION_STATE.name, DEAD_LETTERS.name)
"""The compacted topics that hold something of customers: a tombstone is the last word there."""
KEPT = "kept_"
BEYOND_REACH = (
    "backups of databases and topics that were made before: what is sealed in them cannot be opened, the rest has to be let go",
    "deleted documents in the databases' own files, until these are compacted",
)
"""What an erasure does not reach, said in its proof."""


class Kind(StrEnum):
    """What may be asked."""

    ACCESS = "access"
    """A copy of everything, as one archive: to read, and to take elsewhere."""
    OBJECTION = "objection"
    """No marketing any more, on any channel."""
    RECTIFICATION = "rectification"
    """What is known is wrong or incomplete."""
    ERASURE = "erasure"


APPENDING = (Kind.OBJECTION, Kind.RECTIFICATION)
"""What is answered by saying something, as any source does."""


class Reason(StrEnum):
    """Why there is a request."""

    ASKED = "asked"
    """Somebody made it."""
    RETENTION = "retention"
    """A retention rule: nothing was heard of them for long."""


class State(StrEnum):
    """received → working → done; an erasure settles in between, and is then asked for once more."""

    RECEIVED = "received"
    WORKING = "working"
    """Other services have still to answer, or what was appended is not in force yet."""
    SETTLING = "settling"
    """What was on its way while it was erased gets the time to arrive."""
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Request:
    """One request and how far it has come."""

    request_id: str
    kind: Kind
    state: State
    round: int
    customer_id: str
    members: tuple[str, ...]
    requested_at: datetime
    """By the service's clock, which a replay has of its own: what happened later is not erased. What is said is dated so."""
    received_at: datetime
    """By the wall's clock, as all times below."""
    settled_from: datetime | None = None
    done_at: datetime | None = None
    profile: str = ""
    """By which they asked. Customers merge and split: whom it is about is settled when the work begins."""
    reason: Reason = Reason.ASKED
    silent_since: int = 0
    """Of a retention rule: when they were last heard of, in microseconds since 1970."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What the company has set."""

    settle: timedelta
    """How long an erasure lets arrive what was on its way."""
    archives_kept: timedelta


def rounds_of(kind: Kind) -> int:
    """How often the other services are asked."""
    return 2 if kind is Kind.ERASURE else 1


def waiting_for(members: Iterable[str], answered: Mapping[tuple[str, str], tuple[int, set[int]]]) -> list[str]:
    """The services that have not answered for every member. `answered`: (profile, service) -> how many parts, and which came."""
    members = list(members)

    def is_whole(profile: str, service: str) -> bool:
        parts, came = answered.get((profile, service), (1, set()))
        return len(came) >= parts

    return [service for service in OTHERS if not all(is_whole(profile, service) for profile in members)]


def event_id(request_id: str, what: str) -> str:
    """The id of an event that a request appends: the same after a crash."""
    return derived_id("privacy", request_id, what)


def proof(request: Request, counts: Mapping[str, Mapping[str, int]], at: datetime, **more: Any) -> dict[str, Any]:
    """What was done where; of an erasure also what was kept, and from which day on the topics that only age have nothing of it."""
    told: dict[str, Any] = {
        "request_id": request.request_id,
        "kind": request.kind.value,
        "customer_id": request.customer_id,
        "members": list(request.members),
        "received_at": request.received_at.isoformat(),
        "done_at": at.isoformat(),
        **_why(request),
        **more,
    }
    if request.kind is not Kind.ERASURE:
        return {**told, "found": {service: dict(each) for service, each in counts.items()}}
    rolls_off = {topic.name: _day_after(at + topic.kept_for) for topic in TOPICS if topic.kept_for and not topic.compacted}
    return {
        **told,
        "erased": {service: {name: n for name, n in each.items() if not name.startswith(KEPT)} for service, each in counts.items()},
        "kept": {
            service: {name.removeprefix(KEPT): n for name, n in each.items() if name.startswith(KEPT)} for service, each in counts.items()
        },
        "tombstones": list(TOMBSTONED),
        "topics_roll_off": {name: day.isoformat() for name, day in rolls_off.items()},
        "nothing_left_from": max(rolls_off.values()).isoformat(),
        "not_covered": list(BEYOND_REACH),
    }


def _why(request: Request) -> dict[str, Any]:
    if request.reason is Reason.ASKED:
        return {}
    return {"reason": request.reason.value, "nothing_heard_since": moment(request.silent_since).isoformat()}


def _day_after(at: datetime) -> date:
    """The first whole day (UTC) on which it is over."""
    return (at + timedelta(days=1)).date()
