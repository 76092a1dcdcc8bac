"""Whether a cause leads to an offer: to whom, until when, or why not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from services.campaigns.domain.holdout import holdout
from services.campaigns.domain.programs import Program
from shared.contracts.customers import Purpose
from shared.contracts.envelope import derived_id


class OfferStatus(StrEnum):
    """Where an offer stands. Only a pending one can still change."""

    PENDING = "pending"
    HELD_OUT = "held_out"
    SENT = "sent"
    SUPPRESSED = "suppressed"
    FAILED = "failed"
    UNKNOWN = "unknown"


class SkipReason(StrEnum):
    """Why a cause led to no offer at all."""

    OUTSIDE_WINDOW = "outside_window"
    COOLING_DOWN = "cooling_down"


@dataclass(frozen=True, slots=True)
class Cause:
    """What may start a program: an event, and when it happened."""

    id: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Candidate:
    """A customer who may be offered something, and when each program last did so."""

    customer_id: str
    last_offered: Mapping[str, datetime] = field(default_factory=dict)
    named: str | None = None
    """How the cause calls the customer, where that is one of its profiles: a cause has one offer, whoever is merged or split meanwhile."""


@dataclass(frozen=True, slots=True)
class Offer:
    """One program's proposal to one customer. `score` is what was known then: the covariate for measuring what it earned."""

    id: str
    program: str
    program_version: int
    customer_id: str
    cause_id: str
    status: OfferStatus
    reason: str | None
    template: str
    purpose: Purpose
    decided_at: datetime
    expires_at: datetime
    content: Mapping[str, Any]
    score: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Skipped:
    """A cause that led to no offer, and why. `id` is the one that the offer would have had."""

    id: str
    program: str
    program_version: int
    customer_id: str
    cause_id: str
    reason: SkipReason
    decided_at: datetime


def offer_id(program: Program, customer_id: str, cause: Cause) -> str:
    """The id that this cause's offer has however often it is decided, and by whichever version: a cause must not be answered twice."""
    return derived_id("offer", program.name, customer_id, cause.id)


def decide_offer(program: Program, customer: Candidate, cause: Cause, score: Mapping[str, Any] | None, now: datetime) -> Offer | Skipped:
    """Offer, hold out or skip. Who is held out passes the same guards first, so that both groups are alike.

    Raises ValueError for a program that proposes nothing.
    """
    if program.proposal is None:
        raise ValueError(f"{program.name} proposes nothing")
    id = offer_id(program, customer.named or customer.customer_id, cause)
    named = (id, program.name, program.version, customer.customer_id, cause.id)
    if now - cause.at > timedelta(days=program.proposal.window_days):
        return Skipped(*named, SkipReason.OUTSIDE_WINDOW, now)
    last = customer.last_offered.get(program.name)
    if last is not None and now - last < timedelta(days=program.proposal.cooldown_days):
        return Skipped(*named, SkipReason.COOLING_DOWN, now)
    held_out_by = holdout(program.name, program.holdout_share, customer.customer_id)
    return Offer(
        *named,
        status=OfferStatus.HELD_OUT if held_out_by else OfferStatus.PENDING,
        reason=held_out_by,
        template=program.proposal.template,
        purpose=program.proposal.purpose,
        decided_at=now,
        expires_at=now + timedelta(days=program.proposal.valid_days),
        content=program.proposal.content,
        score=score,
    )
