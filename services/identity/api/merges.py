"""Merging and splitting customers by hand, and the evidence of every merge and split."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from services.identity.api.customers import APPENDED, EFFECT_SECONDS, POLL_SECONDS, UNKNOWN, by_id, shown_to
from services.identity.api.edge import Edge
from services.identity.api.stating import Statement, append, stated
from services.identity.domain.customers import CustomerState
from services.identity.domain.events import SEPARATOR
from services.identity.domain.merging import Action, Decision
from services.identity.domain.trust import Verdict
from services.identity.merging import homes_of
from services.identity.store import merges
from shared.access.audit import about_all
from shared.access.gate import needs
from shared.access.scopes import Scope
from shared.clock import Clock
from shared.contracts.customers import MergeRequested, SplitRequested
from shared.contracts.envelope import Name, ProfileId
from shared.mongo import in_store
from shared.problems import Problem

_WHY = {
    Verdict.UNKNOWN_PROFILE: "There is no customer or profile of one of these ids.",
    Verdict.NOT_ITS_PROFILES: "Name some profiles of the customer, and not all of them.",
    Verdict.ERASED: "One of them was erased, or is being: nothing is left to merge or split. Send it without that id.",
    Verdict.LIMIT_PROFILES: "Together they would have more profiles than DEAR_PROFILE_LIMIT allows.",
}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    **APPENDED,
    **UNKNOWN,
    409: {"description": "Refused; the rule is in the answer."},
}


class MergeWanted(BaseModel):
    """Another customer who is the same person or firm."""

    other_id: ProfileId
    by: Name
    evidence: Name


class SplitWanted(BaseModel):
    """Profiles of a customer that are somebody else."""

    profiles: Annotated[list[ProfileId], Field(min_length=1, max_length=64)]
    by: Name
    evidence: Name


class Evidence(BaseModel):
    """One decision: who is one customer since then, by which rule, and what it was decided on."""

    action: Action
    rule: Verdict
    profiles: list[str]
    """Who was asked about."""
    groups: list[list[str]]
    """Of a refusal none: nothing changed."""
    kinds: list[str]
    """Of the references by which an event named both."""
    source: str
    event: str
    by: str
    evidence: str
    decided_at: str


def create_router(edge: Edge, clock: Clock) -> APIRouter:
    """`/customers/{customer_id}/merge`, `split` and `merges`."""
    router = APIRouter(prefix="/customers/{customer_id}", tags=["customers"])
    changing = [needs(Scope.PROFILES_WRITE)]

    @router.post("/merge", dependencies=changing, responses=_ANSWERS)
    async def merge(
        customer_id: ProfileId, wanted: MergeWanted, request: Request, idempotency_key: Annotated[str | None, Header()] = None
    ) -> Response:
        """Make two customers one, whatever limits and earlier splits say. 200 with the customer once it is so, or where it was before."""
        if wanted.other_id == customer_id:
            raise Problem(422, "Not two customers", "other_id: it is the customer itself; name another one.")
        data = MergeRequested(customer_id=customer_id, **wanted.model_dump())
        already = await in_store(_one_already, customer_id, wanted.other_id)
        if already is not None:
            about_all((already.customer_id,))
            return JSONResponse({"customers": [shown_to(request, already)]})
        return await _ask(stated(data, idempotency_key, clock), data, edge, request)

    @router.post("/split", dependencies=changing, responses=_ANSWERS)
    async def split(
        customer_id: ProfileId, wanted: SplitWanted, request: Request, idempotency_key: Annotated[str | None, Header()] = None
    ) -> Response:
        """Make some profiles of a customer another one. No event merges the two again; only a person does."""
        data = SplitRequested(customer_id=customer_id, profiles=tuple(wanted.profiles), by=wanted.by, evidence=wanted.evidence)
        return await _ask(stated(data, idempotency_key, clock), data, edge, request)

    @router.get("/merges", dependencies=[needs(Scope.PROFILES_READ)], responses=UNKNOWN)
    async def evidence(customer_id: ProfileId) -> dict[str, list[Evidence]]:
        """Every decision about one of the customer's profiles, in order, refusals too."""
        members = (await in_store(by_id, customer_id)).members
        return {"merges": [_evidence(each) for each in await in_store(merges.about, members)]}

    return router


def _one_already(one: str, other: str) -> CustomerState | None:
    """The customer whom both belong to. Nothing is left to decide then."""
    homes = homes_of((one, other))
    home = homes.get(one)
    return home if home is not None and other in homes and homes[other].customer_id == home.customer_id else None


async def _ask(statement: Statement, data: MergeRequested | SplitRequested, edge: Edge, request: Request) -> Response:
    """Append to customer-updates-v1, as every other source does, and wait for the decision and for what follows from it."""
    await in_store(_check_alive, data)
    await in_store(by_id, data.customer_id)
    event = await append(statement, edge, own=True)
    gives_up_at = time.monotonic() + EFFECT_SECONDS
    while time.monotonic() < gives_up_at:
        decision = next(iter((await in_store(merges.answers_to, (event.key,))).values()), None)
        if decision is not None:
            return await in_store(_answer, decision, data, request)
        await in_store(_check_alive, data)
        await asyncio.sleep(POLL_SECONDS)
    headers = {"Location": f"/v1/customers/{data.customer_id}/merges"}
    return JSONResponse({"source": statement.source, "id": statement.id, "status": "accepted"}, 202, headers)


def _check_alive(data: MergeRequested | SplitRequested) -> None:
    """Raise 409 where somebody who is named is erased: the event is then set aside, and no decision comes."""
    others = data.profiles if isinstance(data, SplitRequested) else (data.other_id,)
    if merges.erased_among((data.customer_id, *others)):
        raise _refused(Verdict.ERASED)


def _refused(rule: Verdict) -> Problem:
    return Problem(409, "Refused", _WHY.get(rule, rule.value), rule=rule.value)


def _answer(decision: Decision, data: MergeRequested | SplitRequested, request: Request) -> Response:
    if decision.action is Action.REFUSED:
        raise _refused(decision.rule)
    ids = (data.customer_id, *(data.profiles[:1] if isinstance(data, SplitRequested) else ()))
    found = [by_id(each) for each in ids]
    about_all(state.customer_id for state in found)
    return JSONResponse({"customers": [shown_to(request, state) for state in found]})


def _evidence(kept: dict[str, Any]) -> Evidence:
    source, _, event = kept["event"].partition(SEPARATOR)
    shown = {name: kept[name] for name in ("action", "rule", "groups", "kinds", "by", "evidence")}
    shown["profiles"] = [*kept["profiles"], *kept["apart"]]
    return Evidence(**shown, source=source, event=event, decided_at=kept["decided_at"].isoformat())
