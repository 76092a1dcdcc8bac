"""Who a customer is, what happened, and what is allowed."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.encoders import jsonable_encoder
from fastapi.responses import JSONResponse
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from services.identity.api.edge import REFUSALS, Edge
from services.identity.api.stating import API_SOURCE, Statement, append, as_first_said, stated
from services.identity.consents import consent_history
from services.identity.domain.assets import OwnedAsset, assets_of, due
from services.identity.domain.customers import (
    LEAD_SOURCE,
    CustomerState,
    Said,
    as_published,
    decision_makers_of,
    join,
    microseconds,
    moment,
    retired_references,
    what_it_says,
)
from services.identity.domain.events import SEPARATOR, SourceEvent, statements
from services.identity.domain.names import is_called, names_of, words_of
from services.identity.domain.references import NamesNobody, Naming
from services.identity.merging import customers_among, homes_of, meant_by
from services.identity.store import customers, names, references, timeline
from shared.access.audit import about, about_all
from shared.access.gate import admitted, needs
from shared.access.scopes import Scope
from shared.clock import Clock
from shared.contracts.customers import ConsentChanged, ConsentStatement, CustomerIdentified
from shared.contracts.envelope import Name, Reference
from shared.mongo import in_store
from shared.problems import Problem

EFFECT_SECONDS = 2.0
POLL_SECONDS = 0.02
Effect = Callable[[CustomerState, SourceEvent], bool]
FOUND_MAX = 50
"""Customers that a search by name shows: who has more before him types more."""
CANDIDATES_MAX = 250
UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"description": "No such customer."}}
APPENDED = {**REFUSALS, 202: {"description": "Kept, and not in force yet; Location says where to look."}}
Limit = Annotated[int, Query(ge=1, le=1000)]


class ConsentRequest(BaseModel):
    """Consents of one person, as a form or a call centre states them."""

    reference: Reference
    consents: Annotated[list[ConsentStatement], Field(min_length=1, max_length=12)]
    at: AwareDatetime | None = None
    source: Name = API_SOURCE


class CustomerUpdate(CustomerIdentified):
    """What is known of one customer now: traits, wishes, where it came from, who decides there, and what it owns."""

    model_config = ConfigDict(strict=False)

    at: AwareDatetime | None = None
    source: Name = API_SOURCE


def create_router(edge: Edge, clock: Clock) -> APIRouter:
    """Customers and consents."""
    router = APIRouter(prefix="/customers", tags=["customers"])
    reading = [needs(Scope.PROFILES_READ)]
    # The write keys of tills and forms may state consents, as they may send them.
    stating = [needs(Scope.PROFILES_WRITE, Scope.INGEST)]

    @router.get("/lookup", dependencies=reading, responses=UNKNOWN)
    async def lookup(reference: str, store: str | None = None) -> dict[str, Any]:
        """The customer that a reference means; `store` says where a phone number without a country code was written down."""
        state = await in_store(by_reference, reference, edge.naming, store)
        if state is None:
            raise Problem(404, "No such customer", "No customer has this reference.")
        about(state.customer_id)
        return view(state)

    @router.get("", dependencies=reading)
    async def list_customers(after: str = "", limit: Limit = 100, search: str | None = None) -> dict[str, Any]:
        """Customers in the order of their ids; `search` finds those with a reference, typed or not, or up to 50 who are called so."""
        if search is not None:
            matching = await in_store(_search, search, edge.naming)
            about_all(state.customer_id for state in matching)
            return {"customers": [view(state) for state in matching], "next": None}
        found, last = await in_store(_page, after, limit)
        about_all(state.customer_id for state in found)
        return {"customers": [view(state) for state in found], "next": last}

    @router.post("/consents", dependencies=stating, responses=APPENDED)
    async def change_consents(asked: ConsentRequest, request: Request, idempotency_key: Annotated[str | None, Header()] = None) -> Response:
        """State consents. 200 once they are in force, to readers with the customer; 202 where that takes longer than two seconds."""
        said = ConsentChanged(reference=asked.reference, consents=tuple(asked.consents))
        statement = stated(said, idempotency_key, clock, at=asked.at, source=asked.source)
        return await _append(statement, edge, _in_force, request)

    @router.post("/updates", dependencies=stating, responses=APPENDED)
    async def update(asked: CustomerUpdate, request: Request, idempotency_key: Annotated[str | None, Header()] = None) -> Response:
        """Say what is known of a customer. 200 once it is joined, to readers with it; 202 where that takes longer than two seconds."""
        said = CustomerIdentified.model_validate(asked.model_dump(exclude={"at", "source"}))
        statement = stated(said, idempotency_key, clock, at=asked.at, source=asked.source)
        return await _append(statement, edge, _is_joined, request)

    @router.get("/{customer_id}", dependencies=reading, responses=UNKNOWN)
    async def one(customer_id: str) -> dict[str, Any]:
        """One customer, by its id or the id of one of its profiles."""
        return view(await in_store(by_id, customer_id))

    @router.get("/{customer_id}/events", dependencies=reading, responses=UNKNOWN)
    async def history(customer_id: str, after: str | None = None, limit: Limit = 50) -> dict[str, Any]:
        """What happened, newest first."""
        return await in_store(_history, customer_id, after, limit)

    @router.get("/{customer_id}/consents", dependencies=reading, responses=UNKNOWN)
    async def statements(customer_id: str, limit: Limit = 100) -> dict[str, Any]:
        """Every statement on consent, newest first: what it did, and what proves it."""
        return {"statements": await in_store(_statements, customer_id, limit)}

    return router


def view(state: CustomerState) -> dict[str, Any]:
    """As it is published, and beside it who said each value when."""
    said = {name: {each: _said(value) for each, value in sorted(group.items())} for name, group in _groups(state)}
    owned = [_owned(asset) for asset in assets_of(state)]
    lead = state.wishes.get(LEAD_SOURCE)
    more = {"lead_source": lead.value if lead else None, "decision_makers": decision_makers_of(state), "assets": owned}
    retired = {"retired_references": list(retired_references(state))}
    return {**as_published(state).model_dump(mode="json"), **retired, **more, "said": said}


def _owned(asset: OwnedAsset) -> dict[str, Any]:
    """An asset as far as it is known, and what of it falls due when."""
    known: dict[str, Any] = {name: value for name, value in asdict(asset).items() if value is not None and name != "readings"}
    readings = [{"on": day, "odometer_km": km} for day, km in sorted(asset.readings.items())]
    dues = [{"on": each.on, "reason": each.reason} for each in due(asset)]
    return jsonable_encoder({**known, "readings": readings, "due": dues})  # type: ignore[no-any-return]


def by_reference(reference: str, naming: Naming, store: str | None = None) -> CustomerState | None:
    """The customer that a reference means. Raises 422 where it is none."""
    return meant_by(spelt(reference, naming, store))


def _groups(state: CustomerState) -> tuple[tuple[str, Mapping[str, Said]], ...]:
    return ("traits", state.traits), ("wishes", state.wishes)


def _said(value: Said) -> dict[str, Any]:
    source, _, event = value.by.partition(SEPARATOR)
    return {"value": value.value, "at": moment(value.at).isoformat(), "source": source, "event": event}


def _page(after: str, limit: int) -> tuple[list[CustomerState], str | None]:
    """The next customers, fewer where profiles among them belong to others; and where to go on."""
    profiles = customers.page_after(after, limit)
    return customers_among(profiles), profiles[-1].customer_id if len(profiles) == limit else None


def spelt(reference: str, naming: Naming, store: str | None = None) -> str:
    """A reference in its one spelling. Raises 422 where it is none."""
    read = naming.read(reference, store)
    if isinstance(read, NamesNobody):
        expected = "a type and a value are expected, such as loyalty_card:42 or email:somebody@example.com"
        raise Problem(422, "Not a reference", f"reference: names nobody ({read.value}); {expected}")
    return read


def _search(text: str, naming: Naming) -> list[CustomerState]:
    """Those with such a reference, else those who are called so."""
    found = _of_references(naming.spellings(text))
    if found:
        return found
    typed = words_of(text)
    called = _at_home(names.customers_called(typed, CANDIDATES_MAX))
    return [state for state in called if is_called(names_of(state.traits), typed)][:FOUND_MAX]


def _of_references(asked: Iterable[str]) -> list[CustomerState]:
    return _at_home(set(references.profiles_of(asked).values()))


def _at_home(profiles: Collection[str]) -> list[CustomerState]:
    homes = {state.customer_id: state for state in homes_of(profiles).values()}
    return [homes[customer_id] for customer_id in sorted(homes)]


def by_id(customer_id: str) -> CustomerState:
    """The customer that a profile belongs to. Raises 404."""
    state = homes_of((customer_id,)).get(customer_id)
    if state is None:
        raise Problem(404, "No such customer", "No customer or profile has this id.")
    return state


def _history(customer_id: str, after: str | None, limit: int) -> dict[str, Any]:
    state = by_id(customer_id)
    found = timeline.history(sorted(state.members), limit, _read_cursor(after) if after else None)
    last = _cursor(found[-1]["at"], found[-1]["_id"]) if len(found) == limit else None
    return {"events": [json.loads(each["event"]) for each in found], "next": last}


def _cursor(at: int, key: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([at, key]).encode()).decode()


def _read_cursor(after: str) -> tuple[int, str]:
    try:
        at, key = json.loads(base64.urlsafe_b64decode(after))
        return int(at), str(key)
    except (binascii.Error, ValueError, TypeError) as error:
        raise Problem(422, "Not a cursor", "after: give what `next` of the page before said") from error


def _statements(customer_id: str, limit: int) -> list[dict[str, Any]]:
    return consent_history(by_id(customer_id).members)[:limit]


def shown_to(request: Request, state: CustomerState) -> dict[str, Any]:
    """The customer, to those who may read what is known of customers; its ids to those who may only say something."""
    if admitted(request).may(Scope.PROFILES_READ):
        return view(state)
    return {"customer_id": state.customer_id, "members": sorted(state.members)}


async def _append(statement: Statement, edge: Edge, has_effect: Effect, request: Request) -> Response:
    """Append to customer-updates-v1, as every other source does, and wait until it is in force."""
    event = await append(statement, edge)
    gives_up_at = time.monotonic() + EFFECT_SECONDS
    while time.monotonic() < gives_up_at:
        if statement.may_be_a_retry:
            event = await in_store(as_first_said, event, edge)
        # Not every reference need mean the one whom the event is about: the strongest that counts does.
        for state in await in_store(_of_references, event.references):
            if has_effect(state, event):
                about(state.customer_id)
                return JSONResponse(shown_to(request, state))
        await asyncio.sleep(POLL_SECONDS)
    headers = {"Location": f"/v1/customers/lookup?{urlencode({'reference': event.references[0]})}"}
    return JSONResponse({"source": statement.source, "id": statement.id, "status": "accepted"}, 202, headers)


def _in_force(state: CustomerState, event: SourceEvent) -> bool:
    """Is each statement, or a newer one, what the customer's consents say?"""
    said = [state.consents.get((each.purpose, each.channel)) for each in statements(event)]
    return all(each is not None and each.at >= microseconds(event.at) for each in said)


def _is_joined(state: CustomerState, event: SourceEvent) -> bool:
    """Does joining the event once more change nothing?"""
    own = tuple(each for each in event.references if each in state.references)
    profile = next(iter(state.members))
    return bool(own) and join(state, what_it_says(event, profile, state.customer_id, own)) == state
