"""A batch of events as columns: what is left of them once only numbers matter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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
class Categories:
    """What was bought: by line its event's place in the batch and the code of its category; lines without one are left out."""

    event: Integers
    name: Integers

    def part(self, chosen: Integers, length: int) -> Categories:
        """Those of the chosen events, which are renumbered."""
        place = np.full(length, -1, dtype=np.int64)
        place[chosen] = np.arange(len(chosen))
        kept = place[self.event] >= 0
        return Categories(place[self.event][kept], self.name[kept])


@dataclass(frozen=True, slots=True)
class EventBatch:
    """Events in their order, one place in every column. Times in milliseconds since the epoch, amounts in minor units."""

    ids: Ids
    kind: Integers
    at_ms: Integers
    amount_minor: Integers
    lines: Integers
    name: Integers | None = None
    """Codes of what is counted by name (an interaction's kind, a stated need, a refund); 0 where nothing is. None: nowhere."""
    bonds: Integers | None = None
    """Bits of `domain.bonds`."""
    costs: Integers | None = None
    """Shape (n, 4), as in the column of that name. None: no cost is known."""
    categories: Categories | None = None
    texts: Mapping[int, str] = field(default_factory=dict)
    """What the codes stand for."""

    def __len__(self) -> int:
        return len(self.kind)

    @property
    def day(self) -> Integers:
        """Days since the epoch, UTC."""
        return self.at_ms // DAY_MS

    def part(self, chosen: slice | Integers | np.ndarray[tuple[int], np.dtype[np.bool_]]) -> EventBatch:
        """The chosen events."""
        places = np.arange(len(self))[chosen]
        return EventBatch(
            self.ids[places],
            self.kind[places],
            self.at_ms[places],
            self.amount_minor[places],
            self.lines[places],
            name=None if self.name is None else self.name[places],
            bonds=None if self.bonds is None else self.bonds[places],
            costs=None if self.costs is None else self.costs[places],
            categories=None if self.categories is None else self.categories.part(places, len(self)),
            texts=self.texts,
        )


def event_batch(rows: list[tuple[bytes, int, int, int, int]]) -> EventBatch:
    """A batch from (16-byte id, kind, time in ms, amount, lines) tuples."""
    ids = np.frombuffer(b"".join(row[0] for row in rows), dtype=">u8").astype(np.uint64).reshape(-1, 2)
    numbers = np.array([row[1:] for row in rows], dtype=np.int64).reshape(-1, 4)
    kind, at_ms, amount_minor, lines = (np.ascontiguousarray(numbers[:, column]) for column in range(4))
    return EventBatch(ids, kind, at_ms, amount_minor, lines)
