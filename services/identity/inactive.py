"""Customers of whom nothing was heard for long are erased, by the request that a person would make of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from services.identity import petition
from services.identity.domain.customers import CustomerState, microseconds
from services.identity.domain.privacy import Kind, Reason, Request, State
from services.identity.merging import homes_of
from services.identity.store import merges, privacy, timeline
from shared.clock import Clock
from shared.contracts.envelope import derived_id
from shared.retained import Retained

WAITING_MAX = 20
"""So many such requests wait at a time: each erasure looks through all that was parked, and those whom people asked for come in between."""


def ask_for_erasures(clock: Clock, wall: Clock, before: datetime) -> Iterator[int]:
    """Make the requests, one a step, in the order of profiles."""
    limit = microseconds(before)
    for part in timeline.walk(Retained.INACTIVE_CUSTOMERS.value):
        silent = [profile for profile, newest in timeline.newest_by_profile(part).items() if newest < limit]
        yield 0
        for profile in sorted(silent):
            while privacy.count_waiting(Reason.RETENTION) >= WAITING_MAX:
                yield 0
            yield int(_ask_for(profile, limit, clock, wall))


def _ask_for(profile: str, limit: int, clock: Clock, wall: Clock) -> bool:
    """Make the request for the customer whom the profile is a part of; False where others of its profiles were heard of, or it waits.

    Its id derives from whom it is about and when they were last heard of: two workers, or one that comes by again, make it once.
    """
    customer = homes_of((profile,)).get(profile)
    if customer is None or merges.erased_among(customer.members):
        return False
    silent_since = timeline.last_heard_of(customer.members)
    if silent_since >= limit or any(each["state"] != State.DONE for each in privacy.of_profiles(customer.members)):
        return False
    return privacy.create_once(_request(customer, silent_since, clock, wall))


def _request(customer: CustomerState, silent_since: int, clock: Clock, wall: Clock) -> Request:
    request_id = derived_id("privacy-request", Reason.RETENTION.value, customer.customer_id, silent_since)
    members, reason = tuple(sorted(customer.members)), Reason.RETENTION
    return Request(
        request_id, Kind.ERASURE, State.RECEIVED, 0, customer.customer_id, members, clock.now(), wall.now(),
        profile=customer.customer_id, reason=reason, silent_since=silent_since,
    )  # fmt: skip


def is_heard_of_again(request: Request) -> bool:
    """Was something heard of them between the request and the moment when work on it begins? Once it has begun, it is done."""
    if request.reason is not Reason.RETENTION or request.round or (customer := petition.customer_of(request)) is None:
        return False
    return timeline.last_heard_of(customer.members) > request.silent_since
