"""Whom a privacy request is about when work on it begins, and what is to be said of each of their profiles.

Customers merge and split while a request waits. An erasure is a decision among those on merging, in their one order: its members are the
customer's at its place in that order, and every later merge or split with one of them is refused. So no process can make somebody a part
of what another one is erasing, and asking again after a crash finds the same members. What is only read or said needs no such place: its
members are those of the moment when it begins, and an archive begins again where they are others when it is packed.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import reduce
from typing import Any, get_args

from services.identity.domain.called import Called, by_strength
from services.identity.domain.corrections import shares
from services.identity.domain.customers import CustomerState, after_all_said, join
from services.identity.domain.events import SEPARATOR
from services.identity.domain.merging import Asked
from services.identity.domain.privacy import APPENDING, Kind, Request, event_id
from services.identity.domain.trust import NO_RULES
from services.identity.merging import decide, homes_of
from services.identity.store import customers, merges
from shared.contracts.customers import Channel, ConsentChanged, ConsentStatement, CustomerIdentified
from shared.contracts.envelope import envelope

SOURCE = "dear/identity/privacy"
CHANNELS: tuple[Channel, ...] = get_args(Channel)
Appended = tuple[str, str, str]
"""Id, reference, event as JSON."""


def customer_of(request: Request) -> CustomerState | None:
    """The customer that the one who asked is now; None where they were erased, or are being."""
    if merges.erased_among((request.profile,)):
        return None
    return homes_of((request.profile,)).get(request.profile)


def begun(request: Request, changes: str | None) -> tuple[Request, list[Appended]] | None:
    """The request in its next round, and what is to be appended for it; None where there is nobody any more."""
    if request.kind is Kind.ERASURE:
        return _next(request, _erased(request)), []
    customer = customer_of(request)
    if customer is None:
        return None
    states = customers.load(customer.members)
    begun = _next(replace(request, customer_id=customer.customer_id), customer.members)
    if request.kind not in APPENDING:
        return begun, []
    # Dated once for all deliveries, and after the last word on any of them.
    begun = replace(begun, requested_at=after_all_said(reduce(join, states.values()), request.requested_at))
    return begun, _refusals(begun, states) if request.kind is Kind.OBJECTION else _corrections(begun, states, changes)


def _next(request: Request, members: frozenset[str]) -> Request:
    return replace(request, round=request.round + 1, members=tuple(sorted(members)))


def _erased(request: Request) -> frozenset[str]:
    """Who is erased with the one who asked, decided once for ever."""
    name = SOURCE + SEPARATOR + request.request_id
    [decision] = decide([Asked(request.request_id, name, (request.profile,), is_erasure=True)], NO_RULES, request.requested_at)
    return decision.members


def _refusals(request: Request, states: Mapping[str, CustomerState]) -> list[Appended]:
    """Said of every profile: an objection outlives a split."""
    statements = tuple(ConsentStatement(purpose="marketing", channel=channel, granted=False, method="objection") for channel in CHANNELS)
    return [
        _appended(request, profile, reference, ConsentChanged(reference=reference, consents=statements))
        for profile, reference in _called(states).items()
    ]


def _corrections(request: Request, states: Mapping[str, CustomerState], changes: str | None) -> list[Appended]:
    said, called = json.loads(changes or "{}"), _called(states)
    shared = shares(said, request.customer_id, states)
    retired = {*filter(_all_say(states).is_retired, called.values())}
    events = [_identified(request, profile, called[profile], shared[profile], retired) for profile in sorted(shared)]
    if said.get("references"):
        # By themselves: a reference that turns out to be somebody else's must not give them the rest.
        more = {"references": said["references"], "retired": said.get("retire_references", ())}
        events.append(_identified(request, "references", called[request.customer_id], more, retired))
    return events


def _called(states: Mapping[str, CustomerState]) -> dict[str, str]:
    """A reference that names each profile, which begins with one: the strongest, and one that is retired only where all are."""
    says = _all_say(states)

    def place(reference: str) -> tuple[bool, tuple[int, str]]:
        return says.is_retired(reference), by_strength(reference)

    return {profile: min(state.references, key=place) for profile, state in sorted(states.items()) if state.references}


def _all_say(states: Mapping[str, CustomerState]) -> Called:
    return reduce(Called.joined, (state.called for state in states.values()), Called())


def _identified(request: Request, what: str, reference: str, said: Mapping[str, Any], retired: Collection[str]) -> Appended:
    """`retired`: what is not to be taken back only because somebody has to be named by it."""
    references = dict.fromkeys((reference, *said.get("references", ())))
    gone = dict.fromkeys((*said.get("retired", ()), *({reference} & {*retired})))
    data = CustomerIdentified.model_validate_json(json.dumps({**said, "references": [*references], "retired": [*gone]}))
    return _appended(request, what, data.references[0], data)


def _appended(request: Request, what: str, reference: str, data: ConsentChanged | CustomerIdentified) -> Appended:
    name = event_id(request.request_id, f"{request.kind}/{what}")
    return name, reference, envelope(data, id=name, source=SOURCE, time=request.requested_at).model_dump_json()
