"""Who has which need: what rows keep of a need model, as a small number each."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from services.segmentation.domain.affinities import affinities
from services.segmentation.domain.arrays import Bytes, Integers
from services.segmentation.domain.names import code_of
from services.segmentation.domain.needs import MOST_NUMBERS, NO_NEED, NeedModel, assign
from services.segmentation.domain.state.rows import BOUGHT, CustomerState

NEED_SEGMENTS = ("none", *(f"need_{number}" for number in range(1, MOST_NUMBERS + 1)))
"""By label, which is what the column `need` holds: a segment's number in the model + 1, and 0 for none (NO_NEED is -1)."""


@dataclass(frozen=True)
class NeedLabels:
    """A published need model. With the 4-week period it decides a row's label, which stays until one of the three is another."""

    model: NeedModel
    version: int

    @cached_property
    def _columns(self) -> Integers:
        """The place of each of the model's categories in the order of codes."""
        return np.argsort(self._codes, kind="stable")

    @cached_property
    def _codes(self) -> Integers:
        return np.array([code_of(category) for category in self.model.categories], dtype=np.int64)

    def of(self, state: CustomerState, rows: Integers, period: int) -> Bytes:
        """By row: its label; 0 where it has bought nothing of what the model knows."""
        held = affinities(state, rows, self._codes[self._columns], period)
        labels: Bytes = (assign(held, self._in_order) - NO_NEED).astype(np.uint8)
        return labels

    @cached_property
    def _in_order(self) -> NeedModel:
        """The same model with its categories in the order of their codes."""
        return self.model.with_columns(self._columns)


def period_of(day: int) -> int:
    """The 4-week period of a day."""
    return day // BOUGHT.period_days
