"""A batch of events as columns: what is left of them once only numbers matter."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import IntEnum

import numpy as np

from services.segmentation.domain.arrays import Ids, Integers

DAY_MS = 86_400_000


class Kind(IntEnum):
    """What happened, as far as rows tell it apart."""

    PURCHASE = 0
    REFUND = 1
    INTERACTION = 2
    COUPON_REDEMPTION = 3
    COMPLAINT = 4


@dataclass(frozen=True, slots=True)
class EventBatch:
    """Events in their order, one place in every column. Times in milliseconds since the epoch, amounts in minor units."""

    ids: Ids
    kind: Integers
    at_ms: Integers
    amount_minor: Integers
    lines: Integers

    def __len__(self) -> int:
        return len(self.kind)

    @property
    def day(self) -> Integers:
        """Days since the epoch, UTC."""
        return self.at_ms // DAY_MS

    def part(self, chosen: slice | Integers | np.ndarray[tuple[int], np.dtype[np.bool_]]) -> EventBatch:
        """The chosen events."""
        return EventBatch(*(getattr(self, column.name)[chosen] for column in fields(self)))


def event_batch(rows: list[tuple[bytes, int, int, int, int]]) -> EventBatch:
    """A batch from (16-byte id, kind, time in ms, amount, lines) tuples."""
    ids = np.frombuffer(b"".join(row[0] for row in rows), dtype=">u8").astype(np.uint64).reshape(-1, 2)
    numbers = np.array([row[1:] for row in rows], dtype=np.int64).reshape(-1, 4)
    return EventBatch(ids, *(np.ascontiguousarray(numbers[:, column]) for column in range(4)))
