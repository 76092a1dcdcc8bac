"""Fits a need model to rows, and says whether it tells enough about them that the one in use does not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from services.segmentation.domain.affinities import affinities, commonest
from services.segmentation.domain.need_labels import NeedLabels, period_of
from services.segmentation.domain.needs import NO_NEED, NeedModel, assign, fit_needs
from services.segmentation.domain.state.rows import CustomerState

SEED = 1
NOTICEABLE = 0.02
"""Share of customers that a new model must put elsewhere to be worth it: segments that hold still are worth more than a little fit."""


@dataclass(frozen=True, slots=True)
class NeedCandidate:
    """A fit, and what became of it."""

    model: NeedModel
    customers: int
    """With any purchase of its categories."""
    moved: float | None
    """Share of them that it puts elsewhere than the model in use; None where none is in use."""

    @property
    def accepted(self) -> bool:
        """Is it worth taking up?"""
        return self.moved is None or self.moved >= NOTICEABLE

    @property
    def why(self) -> str:
        """Why it is, or is not."""
        if self.moved is None:
            return "the first need model"
        return f"{self.moved:.1%} of customers belong elsewhere" + ("" if self.accepted else ", too few to take it up")


def need_candidate(
    state: CustomerState, today: int, most_categories: int, in_use: NeedLabels | None, kept: NeedModel | None
) -> NeedCandidate:
    """Fit to all rows. Numbers and names are carried over from the model in use, or else from the one that was kept last.

    Raises ValueError where too few customers have bought too few categories to tell needs apart."""
    rows, period, codes = state.every_row(), period_of(today), commonest(state, most_categories)
    held = affinities(state, rows, codes, period)
    before = in_use.model if in_use is not None else kept
    model = fit_needs(held, [state.names[code] for code in codes.tolist()], SEED, before)
    labels = assign(held, model) - NO_NEED
    known = np.flatnonzero(labels)
    moved = float((in_use.of(state, rows[known], period) != labels[known]).mean()) if in_use is not None else None
    return NeedCandidate(model, len(known), moved)
