"""The 80/20 curve: how few customers bring how much of a year's spend."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from services.segmentation.domain.arrays import Floats, Integers

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
    def of(spend_minor: Integers) -> ValueCurve:
        """The curve of these buyers' trailing-year net spend; returned money can make it negative, which counts as nothing."""
        spend = np.sort(np.maximum(spend_minor, 0))[::-1]
        total = int(spend.sum())
        if not total:
            return NO_CURVE
        running = np.cumsum(spend) / total
        class_a, class_b = (int(spend[_place(running, share)]) for share in (_CLASS_A_SHARE, _CLASS_B_SHARE))
        counts = np.unique(np.ceil(np.linspace(0, 1, _POINTS + 1)[1:] * len(spend)).astype(np.int64))
        return ValueCurve(class_a, class_b, tuple((counts / len(spend)).tolist()), tuple(running[counts - 1].tolist()))

    def classes(self, spend_minor: Integers) -> Integers:
        """The class number of each buyer."""
        low = np.where(spend_minor >= self.class_b_minor, CLASS_B, CLASS_C)
        return np.where((spend_minor >= self.class_a_minor) & (spend_minor > 0), CLASS_A, low)


NO_CURVE = ValueCurve(2**62, 2**62)


def _place(running: Floats, share: float) -> int:
    return min(int(np.searchsorted(running, share)), len(running) - 1)
