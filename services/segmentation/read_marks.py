"""What the read model is known to have of a partition; where it is forgotten, everything is written again."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.segmentation.domain.arrays import Integers
from services.segmentation.domain.state.rows import WAITING
from services.segmentation.owned import Owned

UNKNOWN = 0xFFFF
"""No signature of scores is this."""


class Moment(NamedTuple):
    """A moment by the service's clock, and in seconds that never go back."""

    at: datetime
    seconds: float


@dataclass(slots=True, eq=False)
class Marks:
    """Of one partition, as long as this worker owns it."""

    owned: Owned
    since: float
    """Seconds that never go back."""
    complete: Moment | None = None
    """The read model has every change up to here."""
    turn_began: Moment | None = None
    """When what waited was last looked through as a whole."""
    sizes: tuple[int, dict[str, int]] | None = None
    """The newest point of the segments' sizes: its day, and what it says."""
    pointed: NDArray[np.uint16] = field(init=False)
    """By row: the signature of its newest point in the history."""

    def __post_init__(self) -> None:
        """What the rows' marks say of a snapshot's rows holds for their points, except where one of them still waits to be stored."""
        state = self.owned.state
        stored = state.unstored[: state.count] == 0
        self.pointed = np.where(stored, state.told[: state.count], UNKNOWN).astype(np.uint16)

    def waiting(self) -> Integers:
        """The rows that the read model does not have as they are."""
        state = self.owned.state
        return np.flatnonzero(state.unstored[: state.count] == WAITING)

    def pointed_at(self, rows: Integers) -> NDArray[np.uint16]:
        """The signatures of these rows' newest points."""
        missing = self.owned.state.count - len(self.pointed)
        if missing > 0:
            room = max(missing, len(self.pointed) // 2)
            self.pointed = np.concatenate([self.pointed, np.full(room, UNKNOWN, np.uint16)])
        return self.pointed[rows]

    def behind_seconds(self, now: float) -> float:
        """Since the newest moment up to which the read model has everything; at first since the partition is ours."""
        return now - (self.complete.seconds if self.complete is not None else self.since)

    def turn_is_news(self) -> bool:
        """Was the last turn begun after the moment up to which the read model is known to have everything?"""
        return self.turn_began is not None and (self.complete is None or self.turn_began.seconds > self.complete.seconds)
