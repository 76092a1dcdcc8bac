"""Requests about the data on somebody: made, followed, and their archives and proofs fetched."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.identity.api.customers import by_id, by_reference
from services.identity.domain.customers import CustomerState, after_all_said
from services.identity.domain.privacy import Kind, Request, State
from services.identity.domain.references import NamesNobody, Naming
from services.identity.store import privacy
from shared.access.audit import about, about_all
from shared.access.gate import needs
from shared.access.scopes import Scope
from shared.clock import Clock
from shared.contracts.customers import Channel, CustomerType
from shared.contracts.envelope import Name, ProfileId, Reference, derived_id
from shared.contracts.interactions import Properties
from shared.mongo import in_store
from shared.problems import Problem

CHANGES_BYTES_MAX = 16_000
"""They travel as one event, which has a limit, too."""
_NO_KEY = "Set DEAR_MASTER_KEY, the same for every process: without it nothing could stop what arrives late from being taken in again."


REFUSALS: dict[int | str, dict[str, Any]] = {
    404: {"description": "Nobody is known by that."},
    409: {"description": "The Idempotency-Key stands for another request."},
    503: {"description": "There is no master key, and so nobody can be erased."},
}


class Corrections(BaseModel):
    """What is right: it is said as of now, and the newest word counts. A trait that is null is removed."""

    model_config = ConfigDict(extra="forbid")

    traits: Properties = Field(default_factory=dict)
    references: Annotated[list[Reference], Field(max_length=15)] = []
    preferred_channel: Channel | None = None
    language: Name | None = None
    time_zone: Name | None = None
    customer_type: CustomerType | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Corrections:
        if not self.model_fields_set:
            raise ValueError("name at least one trait, reference or wish")
        if any(isinstance(each, int) and not -(2**63) <= each < 2**63 for each in self.traits.values()):
            raise ValueError("a number does not fit into 64 bits")
        if len(self.model_dump_json()) > CHANGES_BYTES_MAX:
            raise ValueError(f"at most {CHANGES_BYTES_MAX} bytes are taken; send it in several requests")
        return self


class PrivacyRequest(BaseModel):
    """What is asked, and of whom: by a reference or by the customer's id."""

    model_config = ConfigDict(extra="forbid")

    kind: Kind
    reference: Reference | None = None
    customer_id: ProfileId | None = None
    changes: Corrections | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> PrivacyRequest:
        if (self.reference is None) == (self.customer_id is None):
            raise ValueError("name exactly one of reference and customer_id")
        if (self.kind is Kind.RECTIFICATION) != (self.changes is not None):
            raise ValueError("a rectification has changes, and nothing else has")
        return self


def create_router(naming: Naming, clock: Clock, wall: Clock, can_erase: bool) -> APIRouter:
    """Privacy requests."""
    router = APIRouter(prefix="/privacy/requests", tags=["privacy"], dependencies=[needs(Scope.PRIVACY)])

    @router.post("", status_code=202, responses=REFUSALS)
    async def create(asked: PrivacyRequest, idempotency_key: Annotated[str | None, Header()] = None) -> Response:
        """Ask for access, objection, rectification or erasure. With the same Idempotency-Key it is the same request."""
        if asked.kind is Kind.ERASURE and not can_erase:
            raise Problem(503, "Cannot erase", _NO_KEY)
        _check_references(asked.changes, naming)
        state = await in_store(_whom, asked, naming)
        about(state.customer_id)
        request_id = derived_id("privacy-request", idempotency_key or uuid.uuid4().hex)
        changes = asked.changes.model_dump_json(exclude_unset=True) if asked.changes else None
        at = after_all_said(state, clock.now()) if asked.kind in (Kind.OBJECTION, Kind.RECTIFICATION) else clock.now()
        members = tuple(sorted(state.members))
        request = Request(request_id, asked.kind, State.RECEIVED, 0, state.customer_id, members, at, wall.now())
        kept = await in_store(privacy.create, request, changes)
        if (kept["kind"], kept["customer_id"]) != (asked.kind, state.customer_id):
            raise Problem(409, "Another request", "This Idempotency-Key stands for another request; give each its own.")
        return JSONResponse(_shown(kept), 202, {"Location": f"/v1/privacy/requests/{request_id}"})

    @router.get("")
    async def list_requests(after: str = "", limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> dict[str, Any]:
        """All requests in the order of their ids."""
        found = await in_store(privacy.page, after, limit)
        about_all(each["customer_id"] for each in found)
        return {"requests": [_shown(each) for each in found], "next": found[-1]["_id"] if len(found) == limit else None}

    @router.get("/{request_id}", responses={404: {"description": "There is no such request."}})
    async def one(request_id: str) -> dict[str, Any]:
        """How far a request has come, and its proof once it is done."""
        found = await _found(request_id)
        about(found["customer_id"])
        return _shown(found)

    @router.get("/{request_id}/proof", responses={404: {"description": "There is none yet."}})
    async def report(request_id: str) -> dict[str, Any]:
        """What was done where, and, of an erasure, from which day on nothing is left."""
        found = await _found(request_id)
        about(found["customer_id"])
        if not found.get("proof"):
            raise Problem(404, "Not done yet", f"The request is {found['state']}; ask again when it is done.")
        return dict(found["proof"])

    @router.get("/{request_id}/archive", responses={200: {"content": {"application/zip": {}}}, 404: {"description": "There is none."}})
    async def download(request_id: str) -> Response:
        """The archive of an access request."""
        found = await _found(request_id)
        about(found["customer_id"])
        pieces = privacy.archive(request_id)
        first = await in_store(next, pieces, None)
        if first is None:
            raise Problem(404, "No archive", "Only an access request that is done has one, and only for some days.")
        headers = {"Content-Disposition": f'attachment; filename="{request_id}.zip"'}
        return StreamingResponse(_chain(first, pieces), media_type="application/zip", headers=headers)

    return router


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


async def _found(request_id: str) -> dict[str, Any]:
    found = await in_store(privacy.find, request_id)
    if found is None:
        raise Problem(404, "No such request", f"There is no request {request_id!r}; GET /v1/privacy/requests lists them.")
    return found


def _check_references(changes: Corrections | None, naming: Naming) -> None:
    """Raise 422 for one that names nobody: as an event it would be dropped."""
    for index, each in enumerate(changes.references if changes else ()):
        read = naming.read(each)
        if isinstance(read, NamesNobody):
            raise Problem(
                422, "Not a reference", f"changes/references/{index}: names nobody ({read.value}); leave it out, or say it in full"
            )


def _whom(asked: PrivacyRequest, naming: Naming) -> CustomerState:
    """The customer. Raises 404."""
    state = by_id(asked.customer_id) if asked.customer_id else by_reference(asked.reference or "", naming)
    if state is None:
        raise Problem(404, "No such customer", "No customer has this reference: nothing is known of it.")
    return state


def _shown(kept: Mapping[str, Any]) -> dict[str, Any]:
    moments = {name: at.isoformat() if (at := kept.get(name)) else None for name in ("received_at", "settled_from", "done_at")}
    return {
        "request_id": kept["_id"],
        "kind": kept["kind"],
        "state": kept["state"],
        "customer_id": kept["customer_id"],
        "members": list(kept["members"]),
        **moments,
        "proof": kept.get("proof") or None,
    }
