"""Points: what customers hold, and what the ledger owes."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from services.campaigns.store import customers, ledger
from services.campaigns.store.ledger import LedgerSummary
from shared.access.audit import about_all
from shared.access.gate import needs
from shared.access.scopes import Scope
from shared.contracts.envelope import ProfileId
from shared.contracts.offers import LedgerKind
from shared.mongo import in_store
from shared.problems import Problem

Limit = Annotated[int, Query(ge=1, le=1000)]


class LoyaltySummary(BaseModel):
    """The whole ledger. `ledger_sum` = `liability_points` - `debt_points`."""

    ledger_sum: int
    entries: int
    liability_points: int
    liability_minor: int
    debt_points: int


class LedgerReport(LoyaltySummary):
    """The same with the sums of each kind of entry."""

    by_kind: dict[LedgerKind, int]


class BalancesWanted(BaseModel):
    """Customers to look up. Many at once cost little more than one."""

    customers: Annotated[list[ProfileId], Field(max_length=10_000)]


class Balances(BaseModel):
    """Points by customer; customers without entries have 0."""

    balances: dict[str, int]


class Entry(BaseModel):
    """One movement of points."""

    id: str
    profile_id: str
    kind: LedgerKind
    points: int
    amount_minor: int
    program: str
    program_version: int
    cause_source: str
    cause_id: str
    occurred_at: datetime
    posted_at: datetime


class CustomerLoyalty(BaseModel):
    """A customer's balance and newest entries; `after` of the next page is the last entry's id."""

    customer_id: str
    balance: int
    value_minor: int
    entries: list[Entry]


def create_router(point_value_minor: int) -> APIRouter:
    """The endpoints about points."""
    router = APIRouter(tags=["loyalty"])

    @router.get("/loyalty/summary", dependencies=[needs(Scope.REPORTS_READ)])
    async def summarise() -> LoyaltySummary:
        """What the whole ledger holds and owes, counted now."""
        return LoyaltySummary(**(await _report(point_value_minor)).model_dump(exclude={"by_kind"}))

    @router.get("/reports/ledger", dependencies=[needs(Scope.REPORTS_READ)])
    async def report() -> LedgerReport:
        """The ledger by kind of entry, its liability and its debts."""
        return await _report(point_value_minor)

    @router.post("/loyalty/balances", dependencies=[needs(Scope.PROFILES_READ)])
    async def balances(wanted: BalancesWanted) -> Balances:
        """The balances of many customers."""
        about_all(wanted.customers)
        return Balances(balances=await in_store(_balances, wanted.customers))

    @router.get(
        "/customers/{customer_id}/loyalty",
        dependencies=[needs(Scope.PROFILES_READ)],
        responses={404: {"description": "Nobody is known by this id."}},
    )
    async def loyalty_of(customer_id: ProfileId, after: str | None = None, limit: Limit = 50) -> CustomerLoyalty:
        """A customer's balance and entries, newest first. A profile that is part of another customer has that customer's."""
        members = (await in_store(customers.members, [customer_id]))[customer_id]
        entries = [Entry.model_validate(entry) for entry in await in_store(ledger.page, members, after, limit)]
        if not entries and after is None and not await in_store(customers.known, [customer_id]):
            raise Problem(404, "Unknown customer", f"There is neither a customer nor a ledger entry with the id {customer_id}.")
        points = (await in_store(_balances, [customer_id]))[customer_id]
        home = (await in_store(customers.homes, [customer_id]))[customer_id]
        return CustomerLoyalty(customer_id=home, balance=points, value_minor=points * point_value_minor, entries=entries)

    return router


async def _report(point_value_minor: int) -> LedgerReport:
    summary: LedgerSummary = await in_store(lambda: ledger.summary(customers.all_owners()))
    return LedgerReport(
        ledger_sum=summary.ledger_sum,
        entries=summary.entries,
        liability_points=summary.liability_points,
        liability_minor=summary.liability_points * point_value_minor,
        debt_points=summary.debt_points,
        by_kind=summary.by_kind,
    )


def _balances(wanted: Collection[str]) -> dict[str, int]:
    members = customers.members(wanted)
    profiles = {profile for each in members.values() for profile in each}
    held = ledger.balances(profiles, customers.count())
    return {customer: sum(held.get(profile, 0) for profile in members[customer]) for customer in wanted}
