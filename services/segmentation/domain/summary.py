"""What all customers of a partition add up to."""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType

import numpy as np

from services.segmentation.domain.arrays import Integers
from services.segmentation.domain.models.rfm import CELLS
from services.segmentation.domain.models.value_curve import CLASSES
from services.segmentation.domain.scoring import BANDS, ScoreBatch
from services.segmentation.domain.state import CustomerState

_COLUMNS = MappingProxyType({
    "purchases": "purchase_count",
    "lines": "line_count",
    "refunds": "refund_count",
    "bought_minor": "bought_minor",
    "refunded_minor": "refunded_minor",
    "interactions": "interaction_count",
    "coupon_redemptions": "redemption_count",
    "late_days": "late_count",
})  # fmt: skip
TOTALS = ("customers", *_COLUMNS)


def totals_of(state: CustomerState) -> dict[str, int]:
    """Exact sums over all rows, which merging does not change; customers are fewer than rows where profiles are merged."""
    sums = {name: int(getattr(state, column)[: state.count].sum(dtype=np.int64)) for name, column in _COLUMNS.items()}
    return {"customers": state.count - len(state.merged.absorbed_rows()), **sums}


class Tally:
    """Customers and money by RFM cell, risk band and value class, added up slice by slice. Each of the three parts all customers."""

    def __init__(self) -> None:
        self._cells = np.zeros((len(CELLS), 3), dtype=np.int64)
        self._bands = np.zeros((len(BANDS), 3), dtype=np.int64)
        self._classes = np.zeros((len(CLASSES), 3), dtype=np.int64)

    def add(self, scores: ScoreBatch) -> None:
        """Count these rows."""
        at_risk, worth, spent = scores.value_at_risk_minor, scores.expected_value_minor, scores.year_spend_minor
        for table, column, money in (
            (self._cells, scores.cell, (worth, spent)),
            (self._bands, scores.band, (worth, at_risk)),
            (self._classes, scores.value_class, (worth, spent)),
        ):
            np.add.at(table[:, 0], column, 1)
            for place, amount in enumerate(money, start=1):
                np.add.at(table[:, place], column, amount)

    def cells(self) -> dict[str, dict[str, int]]:
        """By RFM cell."""
        return _named(CELLS, self._cells, ("customers", "expected_value_minor", "year_spend_minor"))

    def bands(self) -> dict[str, dict[str, int]]:
        """By risk band."""
        return _named(BANDS, self._bands, ("customers", "expected_value_minor", "value_at_risk_minor"))

    def classes(self) -> dict[str, dict[str, int]]:
        """By value class."""
        return _named(CLASSES, self._classes, ("customers", "expected_value_minor", "year_spend_minor"))


def _named(names: Iterable[str], table: Integers, columns: tuple[str, ...]) -> dict[str, dict[str, int]]:
    return {name: dict(zip(columns, row, strict=True)) for name, row in zip(names, table.tolist(), strict=True)}
