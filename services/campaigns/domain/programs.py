"""Relationship programs: what each is for, what starts it, what it proposes or earns. Versions are kept, never changed."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from shared.contracts.customers import Purpose
from shared.contracts.envelope import Minor, Name, Time
from shared.contracts.interactions import Properties

Kind = Literal["welcome", "win_back", "loyalty"]
Objective = Literal["create", "keep", "tighten"]
Bond = Literal["financial", "social", "customization", "structural"]
ProgramName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
Days = Annotated[int, Field(ge=0, le=36_500)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


class Definition(BaseModel):
    """Part of a program: frozen, and closed to what it does not know, so that a misspelt field is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class CustomerFirstSeen(Definition):
    """Starts a program when somebody becomes known."""

    on: Literal["customer_first_seen"]


class SegmentEntered(Definition):
    """Starts a program when a customer enters one of these segments."""

    on: Literal["segment_entered"]
    segments: Annotated[tuple[Name, ...], Field(min_length=1)]


class PurchaseMade(Definition):
    """Starts a program on every purchase and every refund."""

    on: Literal["purchase_made"]


Trigger = Annotated[CustomerFirstSeen | SegmentEntered | PurchaseMade, Field(discriminator="on")]


class Proposal(Definition):
    """What is offered, how it is said, and how often."""

    template: Name
    purpose: Purpose = "marketing"
    window_days: Annotated[int, Field(ge=1, le=3_650)]
    """Causes older than this start nothing, so imported and rebuilt history stays silent."""
    cooldown_days: Days
    """One customer is not offered the same program again for so long."""
    valid_days: Annotated[int, Field(ge=1, le=3_650)]
    content: Properties = Field(default_factory=dict)


class EarnRule(Definition):
    """How many points a purchase earns: one per whole `minor_per_point` of its amount."""

    minor_per_point: Annotated[int, Field(ge=1)] = 100


class Program(Definition):
    """One version of a relationship activity. An offers program has a `proposal`, a loyalty program an `earning`."""

    name: ProgramName
    version: Annotated[int, Field(ge=1)]
    kind: Kind
    objective: Objective
    bond: Bond
    customization_level: Annotated[int, Field(ge=1, le=3)]
    """1 a message, 2 with a service, 3 with a product."""
    active: bool = True
    starts_at: Time | None = None
    """From when this version is in force; null means always."""
    trigger: Trigger
    holdout_share: Share = 0.0
    cost_per_contact_minor: Minor = 0
    proposal: Proposal | None = None
    earning: EarnRule | None = None

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Program:
        earns = self.kind == "loyalty"
        if earns != isinstance(self.trigger, PurchaseMade):
            raise ValueError("a loyalty program, and no other, has the trigger purchase_made")
        if earns != (self.earning is not None) or earns == (self.proposal is not None):
            raise ValueError("a loyalty program has an `earning` and no `proposal`; every other has a `proposal` and no `earning`")
        if earns and self.holdout_share:
            raise ValueError("points are everybody's: a loyalty program has no holdout_share")
        return self


def in_force(versions: Iterable[Program], at: datetime) -> list[Program]:
    """Of each program the newest version that had started at that time, where it is active."""
    newest: dict[str, Program] = {}
    for program in sorted(versions, key=lambda program: program.version):
        if program.starts_at is None or program.starts_at <= at:
            newest[program.name] = program
    return [program for program in newest.values() if program.active]


def started_by_first_sight(programs: Iterable[Program]) -> list[Program]:
    """The programs that begin when a customer becomes known."""
    return [program for program in programs if isinstance(program.trigger, CustomerFirstSeen)]


def started_by_entering(programs: Iterable[Program], segment: str) -> list[Program]:
    """The programs that begin when a customer enters the segment."""
    return [program for program in programs if isinstance(program.trigger, SegmentEntered) and segment in program.trigger.segments]
