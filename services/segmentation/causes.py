"""Why memberships change: what made rows be settled, and what is told of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum

from services.segmentation.domain.arrays import Bytes, Integers
from services.segmentation.domain.segments import Judgement


class Cause(IntEnum):
    """Why rows are settled; the names in lower case are among those of `shared.contracts.scores.Cause`."""

    EVENT = 0
    TIME = 1


@dataclass(frozen=True, slots=True)
class Change:
    """A row's memberships changed and nobody was told yet."""

    previous: int
    caused_ms: int
    cause: Cause = Cause.EVENT
    by_model: int = 0
    """The bits that only a new model moved: nobody did anything, and no time passed that would have."""
    by_rule: int = 0
    """The bits that only a new rule moved."""

    def cause_of(self, bit: int) -> str:
        """Why this segment was entered or left."""
        if self.by_model >> bit & 1:
            return "model"
        return "rule" if self.by_rule >> bit & 1 else self.cause.name.lower()


@dataclass(frozen=True, slots=True)
class Trigger:
    """What makes rows be settled: by row when, and why."""

    at_ms: Integers
    cause: Cause
    judged_before: Judgement | None = None
    """What was judged by before, as long as rows wait for their turn with a new model or new rules."""
    changed_bits: int = 0
    """The segments whose rules are new."""
    needs_before: Bytes | None = None
    """By row: its need by what was judged by before, where needs were looked at again; None: what the row says."""

    def part(self, places: Integers | slice) -> Trigger:
        """The same of some rows."""
        needs = self.needs_before[places] if self.needs_before is not None else None
        return replace(self, at_ms=self.at_ms[places], needs_before=needs)
