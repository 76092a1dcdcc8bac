"""Requests about the data on somebody: made, followed, and their archives and proofs fetched."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from services.identity.api.customers import by_id, spelt
from services.identity.domain.customers import CustomerState
from services.identity.domain.events import read_event
from services.identity.domain.privacy import Kind, Reason, Request, State
from services.identity.domain.references import NamesNobody, Naming
from services.identity.domain.rejects import Refusal
from services.identity.merging import homes_of
from services.identity.store import merges, privacy, references
from shared.access.audit import about, about_all
from shared.access.gate import needs
from shared.access.scopes import Scope
from shared.clock import Clock
from shared.contracts.customers import Asset, Channel, CustomerIdentified, CustomerType, DecisionMaker, LeadSource
from shared.contracts.envelope import Name, ProfileId, Reference, derived_id, envelope
from shared.contracts.interactions import Properties
from shared.mongo import in_store
from shared.problems import Problem

CHANGES_BYTES_MAX = 16_000
"""They travel as one event, which has a limit, too."""
DUE = timedelta(days=30)
"""How long the law gives: one month (GDPR, article 12), counted as its shortest usual length."""
_NO_KEY = "Set DEAR_MASTER_KEY, the same for every process: without it nothing could stop what arrives late from being taken in again."


REFUSALS: dict[int | str, dict[str, Any]] = {
    404: {"description": "Nobody is known by that."},
    409: {"description": "The Idempotency-Key stands for another request, or the customer is being erased."},
    503: {"description": "There is no master key, and so nobody can be erased."},
}


class Corrections(BaseModel):
    """What is right: it is said as of now, and the newest word counts. A trait that is null is removed."""

    model_config = ConfigDict(extra="forbid")

    traits: Properties = Field(default_factory=dict)
    references: Annotated[list[Reference], Field(max_length=15)] = []
    retire_references: Annotated[list[Reference], Field(max_length=15)] = []
    """Theirs no more, such as a mistyped address: never written to, until a form names it again."""
    preferred_channel: Channel | None = None
    language: Name | None = None
    time_zone: Name | None = None
    customer_type: CustomerType | None = None
    lead_source: LeadSource | None = None
    decision_makers: Annotated[list[DecisionMaker], Field(max_length=32)] = []
    assets: Annotated[list[Asset], Field(max_length=32)] = []
    """Of an odometer that was misread: `odometer_km` with the day of that reading as `read_on`."""

    @model_validator(mode="after")
    def _says_something(self) -> Corrections:
        if not self.model_fields_set:
            raise ValueError("name at least one trait, reference, wish, asset or decision maker")
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
        profile, state = await in_store(_whom, asked, naming)
        changes = _spelt(asked.changes, state, naming)
        about(state.customer_id)
        gone = await in_store(merges.erased_among, (profile,))
        if gone and asked.kind is not Kind.ERASURE:
            raise Problem(
                409, "Being erased", "The customer is being erased, and nothing else can be asked of them. Wait until it is done."
            )
        _check_changes(asked.changes, min(state.references, default="user:somebody"), clock.now(), naming)
        request_id = derived_id("privacy-request", idempotency_key or uuid.uuid4().hex)
        members = tuple(sorted(state.members))
        request = Request(request_id, asked.kind, State.RECEIVED, 0, state.customer_id, members, clock.now(), wall.now(), profile=profile)
        kept = await in_store(privacy.create, request, changes.model_dump_json(exclude_unset=True) if changes else None)
        if kept["kind"] != asked.kind or privacy.request_of(kept).profile not in state.members:
            raise Problem(409, "Another request", "This Idempotency-Key stands for another request; give each its own.")
        return JSONResponse(_shown(kept), 202, {"Location": f"/v1/privacy/requests/{request_id}"})

    @router.get("")
    async def list_requests(
        state: State | None = None,
        kind: Kind | None = None,
        customer_id: ProfileId | None = None,
        after: str | None = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> dict[str, Any]:
        """Requests, newest first; those in one state, of one kind, or about the customer with this profile."""
        wanted = {"state": state, "kind": kind, "members": customer_id}
        found = await in_store(privacy.page, {name: value for name, value in wanted.items() if value}, _read_cursor(after), limit)
        about_all(each["customer_id"] for each in found)
        return {"requests": [_shown(each) for each in found], "next": _cursor(found[-1]) if len(found) == limit else None}

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

    @router.get(
        "/{request_id}/archive",
        responses={
            200: {"content": {"application/zip": {}}},
            404: {"description": "There is none."},
            409: {"description": "The customer was split since."},
        },
    )
    async def download(request_id: str) -> Response:
        """The archive of an access request."""
        found = await _found(request_id)
        about(found["customer_id"])
        await in_store(_check_still_one, found)
        pieces = privacy.archive(request_id)
        first = await in_store(next, pieces, None)
        if first is None:
            raise Problem(404, "No archive", "Only an access request that is done has one, and only for some days.")
        headers = {"Content-Disposition": f'attachment; filename="{request_id}.zip"'}
        return StreamingResponse(_chain(first, pieces), media_type="application/zip", headers=headers)

    return router


def _cursor(last: Mapping[str, Any]) -> str:
    return f"{last['received_at'].isoformat()}/{last['_id']}"


def _read_cursor(after: str | None) -> tuple[datetime, str] | None:
    if not after:
        return None
    at, _, request_id = after.partition("/")
    try:
        received_at = datetime.fromisoformat(at)
    except ValueError as error:
        raise Problem(422, "Not a cursor", "after: give what `next` of the page before said") from error
    return (received_at if received_at.tzinfo else received_at.replace(tzinfo=UTC)), request_id


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


async def _found(request_id: str) -> dict[str, Any]:
    found = await in_store(privacy.find, request_id)
    if found is None:
        raise Problem(404, "No such request", f"There is no request {request_id!r}; GET /v1/privacy/requests lists them.")
    return found


def _check_still_one(kept: Mapping[str, Any]) -> None:
    """Raise 409 where somebody turned out to be another person since: the archive has data of both."""
    profile = privacy.request_of(kept).profile
    customer = homes_of((profile,)).get(profile)
    if customer is not None and not customer.members >= set(kept["members"]):
        raise Problem(409, "Split since", "The archive holds profiles that are another customer's now. Make a new access request.")


def _check_changes(changes: Corrections | None, reference: str, at: datetime, naming: Naming) -> None:
    """Raise 422 for what would be refused when it comes as an event."""
    if changes is None:
        return
    said = {"references": [reference], **changes.model_dump(mode="json", exclude={"references", "retire_references"}, exclude_unset=True)}
    try:
        data = CustomerIdentified.model_validate_json(json.dumps(said))
    except ValidationError as error:
        raise Problem(422, "Not a correction", f"changes: {error.errors()[0]['msg']}") from error
    read = read_event(envelope(data, id="check", source="check", time=at).model_dump_json().encode(), "", naming=naming)
    if isinstance(read, Refusal):
        raise Problem(422, "Not a correction", f"changes/{read.detail.removeprefix('data/')}", reason=read.reason.value)


def _check_references(changes: Corrections | None, naming: Naming) -> None:
    """Raise 422 for one that names nobody: as an event it would be dropped."""
    for index, each in enumerate(changes.references if changes else ()):
        read = naming.read(each)
        if isinstance(read, NamesNobody):
            raise Problem(
                422, "Not a reference", f"changes/references/{index}: names nobody ({read.value}); leave it out, or say it in full"
            )


def _spelt(changes: Corrections | None, state: CustomerState, naming: Naming) -> Corrections | None:
    """With what is to be retired as it is known. Raises 422 for what is not theirs: it would be retired of nobody."""
    if changes is None or not changes.retire_references:
        return changes
    spelt = [naming.spell(each) for each in changes.retire_references]
    added = {naming.read(each) for each in changes.references}
    for index, each in enumerate(spelt):
        if each not in state.references:
            raise Problem(422, "Not a reference of theirs", f"changes/retire_references/{index}: the customer has no such reference")
        if each in added:
            raise Problem(422, "Both", f"changes/retire_references/{index}: is among changes/references, too; say one of both")
    return changes.model_copy(update={"retire_references": list(dict.fromkeys(spelt))})


def _whom(asked: PrivacyRequest, naming: Naming) -> tuple[str, CustomerState]:
    """The profile by which they ask, and the customer that it is part of. Raises 404."""
    profile = asked.customer_id
    if asked.reference is not None:
        reference = spelt(asked.reference, naming)
        profile = references.profiles_of((reference,)).get(reference)
    if profile is None:
        raise Problem(404, "No such customer", "No customer has this reference: nothing is known of it.")
    return profile, by_id(profile)


def _shown(kept: Mapping[str, Any]) -> dict[str, Any]:
    moments = {name: at.isoformat() if (at := kept.get(name)) else None for name in ("received_at", "settled_from", "done_at")}
    return {
        "request_id": kept["_id"],
        "kind": kept["kind"],
        "reason": kept.get("reason") or Reason.ASKED,
        "state": kept["state"],
        "customer_id": kept["customer_id"],
        "members": list(kept["members"]),
        **moments,
        "due_at": (kept["received_at"] + DUE).isoformat(),
        "proof": kept.get("proof") or None,
    }
