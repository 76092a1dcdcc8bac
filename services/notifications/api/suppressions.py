"""Suppressions: who is not to be written to, made and lifted by people, with a history of both."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.notifications.domain.contacts import Suppression, address_subject
from services.notifications.store import suppressions
from services.notifications.store.suppressions import Entry
from shared.access.audit import about, about_all
from shared.access.gate import needs
from shared.access.scopes import Scope
from shared.clock import Clock
from shared.contracts.customers import Channel, Purpose
from shared.contracts.envelope import Name, ProfileId
from shared.mongo import in_store
from shared.problems import Problem

Domain = Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]{1,253}$")]
EmailAddress = Annotated[str, Field(pattern=r"^[^@\s]{1,64}@[A-Za-z0-9.-]{1,253}$")]


class NewSuppression(BaseModel):
    """Whom not to write to (exactly one of the three), where and for what (absent: everywhere, everything), and why."""

    model_config = ConfigDict(extra="forbid")

    customer_id: ProfileId | None = None
    email: EmailAddress | None = None
    domain: Domain | None = None
    channel: Channel | None = None
    purpose: Purpose | None = None
    reason: Name

    @model_validator(mode="after")
    def _names_one(self) -> NewSuppression:
        if sum(value is not None for value in (self.customer_id, self.email, self.domain)) != 1:
            raise ValueError("name exactly one of customer_id, email and domain")
        return self

    def suppression(self) -> Suppression:
        """The suppression that it asks for."""
        if self.customer_id:
            subject = f"customer:{self.customer_id}"
        elif self.email:
            subject = address_subject("email", self.email)
        else:
            subject = f"domain:{(self.domain or '').lower()}"
        return Suppression(subject, self.channel, self.purpose)


def create_suppressions_router(clock: Clock) -> APIRouter:
    """The suppression list."""
    router = APIRouter(prefix="/suppressions", tags=["suppressions"])

    @router.get("", dependencies=[needs(Scope.PROFILES_READ)])
    async def list_suppressions(after: str = "", limit: Annotated[int, Query(ge=1, le=1000)] = 100, active: bool = True) -> dict[str, Any]:
        """Suppressions in order of id; `active=false` shows the lifted ones too."""
        found = await in_store(suppressions.page, after, limit, active)
        about_all(_subject(entry) for entry in found)
        return {"suppressions": [_shown(entry) for entry in found], "after": found[-1].suppression_id if len(found) == limit else None}

    @router.post("", dependencies=[needs(Scope.PROFILES_WRITE)], status_code=201)
    async def add(new: NewSuppression) -> dict[str, Any]:
        """Suppress from now on. Making one that is active already changes nothing."""
        entry = await in_store(suppressions.add, new.suppression(), new.reason, clock.now())
        about(_subject(entry))
        return _shown(entry)

    @router.delete("/{suppression_id}", dependencies=[needs(Scope.PROFILES_WRITE)])
    async def lift(suppression_id: str, reason: Name) -> dict[str, Any]:
        """Lift it; it stays in the list's history with the reason."""
        entry = await in_store(suppressions.lift, suppression_id, reason, clock.now())
        if entry is None:
            raise Problem(404, "No such suppression", f"There is no suppression {suppression_id!r}; GET /v1/suppressions lists them.")
        about(_subject(entry))
        return _shown(entry)

    return router


def _subject(entry: Entry) -> str:
    """Whose data it is, for the audit log: a customer by his id, an address only by that of its suppression."""
    kind, _, value = entry.suppression.subject.partition(":")
    return value if kind == "customer" else entry.suppression_id


def _shown(entry: Entry) -> dict[str, Any]:
    suppression = entry.suppression
    return {
        "suppression_id": entry.suppression_id,
        "subject": suppression.subject,
        "channel": suppression.channel,
        "purpose": suppression.purpose,
        "active": entry.active,
        "ends_with_consent_after": suppression.until_consent_after,
        "history": entry.history,
    }
