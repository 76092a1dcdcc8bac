"""Who a customer is, what happened, and what is allowed."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import time
import uuid
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import JSONResponse
from pydantic import AwareDatetime, BaseModel, Field

from services.identity.api.edge import Edge
from services.identity.domain.customers import CustomerState, as_published, microseconds, moment
from services.identity.domain.references import normalise, spellings
from services.identity.merging import homes_of, published_as
from services.identity.store import customers, references, timeline
from shared.access.audit import about, about_all
from shared.access.gate import needs
from shared.access.scopes import Scope
from shared.clock import Clock
from shared.contracts.customers import ConsentChanged, ConsentStatement
from shared.contracts.envelope import Name, Reference, envelope
from shared.mongo import in_store
from shared.problems import Problem

API_SOURCE = "dear/identity/api"
EFFECT_SECONDS = 2.0
POLL_SECONDS = 0.02
Limit = Annotated[int, Query(ge=1, le=1000)]


class ConsentRequest(BaseModel):
    """Consents of one person, as a form or a call centre states them."""

    reference: Reference
    consents: Annotated[list[ConsentStatement], Field(min_length=1, max_length=12)]
    at: AwareDatetime | None = None
    source: Name = API_SOURCE


def create_router(edge: Edge, clock: Clock) -> APIRouter:
    """Customers and consents."""
    router = APIRouter(prefix="/customers", tags=["customers"])
    reading = [needs(Scope.PROFILES_READ)]
    # The write keys of tills and forms may state consents, as they may send them.
    stating = [needs(Scope.PROFILES_WRITE, Scope.INGEST)]

    @router.get("/lookup", dependencies=reading)
    async def lookup(reference: str) -> dict[str, Any]:
        """The customer that a reference means."""
        state = await in_store(_by_reference, reference)
        if state is None:
            raise Problem(404, "No such customer", "No customer has this reference.")
        about(state.customer_id)
        return view(state)

    @router.get("", dependencies=reading)
    async def list_customers(after: str = "", limit: Limit = 100, search: str | None = None) -> dict[str, Any]:
        """Customers in the order of their ids; `search` finds those with a reference, its type left out or not."""
        if search is not None:
            matching = await in_store(_search, search)
            about_all(state.customer_id for state in matching)
            return {"customers": [view(state) for state in matching], "next": None}
        found, last = await in_store(_page, after, limit)
        about_all(state.customer_id for state in found)
        return {"customers": [view(state) for state in found], "next": last}

    @router.post("/consents", dependencies=stating)
    async def change_consents(asked: ConsentRequest, idempotency_key: Annotated[str | None, Header()] = None) -> Response:
        """State consents. 200 with the customer once they are in force; 202 where that takes longer than two seconds."""
        return await _change_consents(asked, idempotency_key or uuid.uuid4().hex, asked.at or clock.now(), edge)

    @router.get("/{customer_id}", dependencies=reading)
    async def one(customer_id: str) -> dict[str, Any]:
        """One customer, by its id or the id of one of its profiles."""
        return view(await in_store(by_id, customer_id))

    @router.get("/{customer_id}/events", dependencies=reading)
    async def history(customer_id: str, after: str | None = None, limit: Limit = 50) -> dict[str, Any]:
        """What happened, newest first."""
        return await in_store(_history, customer_id, after, limit)

    @router.get("/{customer_id}/consents", dependencies=reading)
    async def statements(customer_id: str, limit: Limit = 100) -> dict[str, Any]:
        """Every statement on consent, newest first."""
        return {"statements": await in_store(_statements, customer_id, limit)}

    return router


def view(state: CustomerState) -> dict[str, Any]:
    """As the API shows a customer."""
    return as_published(state).model_dump(mode="json")


def _page(after: str, limit: int) -> tuple[list[CustomerState], str | None]:
    """The next customers, fewer where profiles among them belong to others; and where to go on."""
    ids = [state.customer_id for state in customers.page_after(after, limit)]
    seen = published_as(ids)
    found = [seen[each] for each in ids if each in seen and seen[each].merged_into is None]
    return found, ids[-1] if len(ids) == limit else None


def _by_reference(reference: str) -> CustomerState | None:
    normalised = normalise(reference)
    if normalised is None:
        raise Problem(
            422, "Not a reference", "reference: a type and a value are expected, such as loyalty_card:42 or email:somebody@example.com"
        )
    return next(iter(_of_references((normalised,))), None)


def _search(text: str) -> list[CustomerState]:
    return _of_references(spellings(text))


def _of_references(asked: tuple[str, ...]) -> list[CustomerState]:
    profiles = set(references.profiles_of(asked).values())
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
    made = [each for member in sorted(by_id(customer_id).members) for each in customers.statements_of(member, limit)]
    shown = ("purpose", "channel", "granted", "source", "event")
    newest = sorted(made, key=lambda each: -each["at"])[:limit]
    return [{**{name: each[name] for name in shown}, "at": moment(each["at"]).isoformat()} for each in newest]


async def _change_consents(asked: ConsentRequest, event_id: str, at: datetime, edge: Edge) -> Response:
    """Append to customer-updates-v1, as every other source does, and wait until it is in force."""
    data = ConsentChanged(reference=asked.reference, consents=tuple(asked.consents))
    verdict = await edge.accept(envelope(data, id=event_id, source=asked.source, time=at).model_dump_json().encode())
    if verdict.problem is not None:
        raise verdict.problem
    assert verdict.event is not None
    reference = verdict.event.references[0]
    gives_up_at = time.monotonic() + EFFECT_SECONDS
    while time.monotonic() < gives_up_at:
        state = await in_store(_by_reference, reference)
        if state is not None and _in_force(state, asked, at):
            about(state.customer_id)
            return JSONResponse(view(state))
        await asyncio.sleep(POLL_SECONDS)
    headers = {"Location": f"/v1/customers/lookup?reference={reference}"}
    return JSONResponse({"source": asked.source, "id": event_id, "status": "accepted"}, 202, headers)


def _in_force(state: CustomerState, asked: ConsentRequest, at: datetime) -> bool:
    """Is each statement, or a newer one, what the customer's consents say?"""
    said = [state.consents.get((each.purpose, each.channel)) for each in asked.consents]
    return all(each is not None and each.at >= microseconds(at) for each in said)
