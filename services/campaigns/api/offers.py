"""Offers: who was offered what, who was left alone, and what became of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel

from services.campaigns.domain.offers import OfferStatus, SkipReason
from services.campaigns.store import customers, offers
from shared.access.gate import needs
from shared.access.scopes import Scope
from shared.contracts.envelope import ProfileId
from shared.mongo import in_store

Limit = Annotated[int, Query(ge=1, le=1000)]


class OfferCounts(BaseModel):
    """`total` = `held_out` + `sent` + `failed` + `unknown` + `pending` + all of `suppressed`. Who was skipped got no offer."""

    total: int = 0
    held_out: int = 0
    sent: int = 0
    failed: int = 0
    unknown: int = 0
    pending: int = 0
    suppressed: dict[str, int] = {}
    skipped: dict[SkipReason, int] = {}


class OffersReport(OfferCounts):
    """Of all programs and of each."""

    programs: dict[str, OfferCounts]


class OfferView(BaseModel):
    """One offer, with the scores known when it was decided."""

    id: str
    program: str
    program_version: int
    customer_id: str
    cause_id: str
    status: OfferStatus
    reason: str | None
    template: str
    purpose: str
    content: dict[str, Any]
    decided_at: datetime
    expires_at: datetime
    channel: str | None = None
    settled_at: datetime | None = None
    score: dict[str, Any] | None


class Offers(BaseModel):
    """A page of a customer's offers; `after` of the next page is the last one's id."""

    offers: list[OfferView]


def create_router() -> APIRouter:
    """The endpoints about offers."""
    router = APIRouter(tags=["offers"])

    @router.get("/reports/offers", dependencies=[needs(Scope.REPORTS_READ)])
    async def report() -> OffersReport:
        """How many offers there are and where they stand, counted now."""
        return await in_store(_report)

    @router.get("/customers/{customer_id}/offers", dependencies=[needs(Scope.PROFILES_READ)])
    async def offers_of(customer_id: ProfileId, after: str | None = None, limit: Limit = 50) -> Offers:
        """A customer's offers, by id; also those that were decided for its members before they were one."""
        members = (await in_store(customers.members, [customer_id]))[customer_id]
        found = await in_store(offers.page, members, after, limit)
        return Offers(offers=[OfferView.model_validate(each) for each in found])

    return router


def _report() -> OffersReport:
    counts, skips = offers.counts(), offers.skip_counts()
    names = sorted({program for program, *_ in counts} | {program for program, *_ in skips})
    everything = _count([row[1:] for row in counts], [row[1:] for row in skips])
    programs = {name: _count([row[1:] for row in counts if row[0] == name], [row[1:] for row in skips if row[0] == name]) for name in names}
    return OffersReport(**everything.model_dump(), programs=programs)


def _count(counts: Iterable[tuple[str, str | None, int]], skips: Iterable[tuple[str, int]]) -> OfferCounts:
    by_status: Counter[str] = Counter()
    suppressed: Counter[str] = Counter()
    skipped: Counter[SkipReason] = Counter()
    for status, reason, count in counts:
        by_status[status] += count
        if status == OfferStatus.SUPPRESSED:
            suppressed[reason or "unspecified"] += count
    for reason, count in skips:
        skipped[SkipReason(reason)] += count
    stands = {status.value: by_status[status] for status in OfferStatus if status is not OfferStatus.SUPPRESSED}
    return OfferCounts(total=by_status.total(), suppressed=dict(suppressed), skipped=dict(skipped), **stands)
