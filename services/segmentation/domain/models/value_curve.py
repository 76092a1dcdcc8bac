"""The 80/20 curve: how few customers bring how much of a year's spend."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from services.segmentation.domain.arrays import Integers
from services.segmentation.domain.models.spread import Spread

CLASSES = ("none", "A", "B", "C")
"""By class number: never bought; those who together bring 80 % of a year's spend; the next 15 %; the rest."""
NONE, CLASS_A, CLASS_B, CLASS_C = range(4)

_CLASS_A_SHARE = 0.80
_CLASS_B_SHARE = 0.95
_POINTS = 20


@dataclass(frozen=True, slots=True)
class ValueCurve:
    """What it takes to be in class A and B, and how the spend is spread."""

    class_a_minor: int
    class_b_minor: int
    customer_share: tuple[float, ...] = ()
    """Shares of the buyers, best first."""
    spend_share: tuple[float, ...] = ()
    """What those bring together."""

    @staticmethod
    def of(spend: Spread) -> ValueCurve:
        """The curve of buyers' trailing-year net spend; returned money can make it negative, which counts as nothing."""
        if not spend.total_minor.any():
            return NO_CURVE
        class_a, class_b = spend.bringing(_CLASS_A_SHARE), spend.bringing(_CLASS_B_SHARE)
        counts = np.unique(np.ceil(np.linspace(0, 1, _POINTS + 1)[1:] * spend.size).astype(np.int64))
        return ValueCurve(class_a, class_b, tuple((counts / spend.size).tolist()), tuple(spend.shares_brought(counts).tolist()))

    def classes(self, spend_minor: Integers) -> Integers:
        """The class number of each buyer."""
        low = np.where(spend_minor >= self.class_b_minor, CLASS_B, CLASS_C)
        return np.where((spend_minor >= self.class_a_minor) & (spend_minor > 0), CLASS_A, low)


NO_CURVE = ValueCurve(2**62, 2**62)
