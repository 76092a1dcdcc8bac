"""The kinds of data that segmentation keeps, and how each is let go of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

from services.segmentation.domain.arrays import Ids, hex_from_ids
from services.segmentation.domain.events import DAY_MS
from services.segmentation.store import history
from services.segmentation.worker import Worker
from shared.clock import BEGINNING
from shared.retained import Retained
from shared.retention import Rule

KEYS_AT_ONCE = 2000


def rules(worker: Worker) -> Mapping[Retained, Rule]:
    """All of them; which are used the settings say."""
    return {Retained.SCORE_HISTORY: Rule(OldPoints(worker).begin, worker.clock)}


class OldPoints:
    """Points are found by key alone, and customers are at hand: each round looks where points have grown old since the last."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._gone_before: dict[int, int] = {}
        """By partition: the day before which there are no points of its customers any more. Who has it back looks at most days twice."""

    def begin(self, before: datetime) -> Iterator[int]:
        """A round through the customers that this worker owns now; rows are copied, for steps run on another thread."""
        held = {number: owned.state.ids[: owned.state.count].copy() for number, owned in self._worker.owned.items()}
        return self._round(held, int((before - BEGINNING).total_seconds() * 1000) // DAY_MS)

    def _round(self, held: Mapping[int, Ids], before_day: int) -> Iterator[int]:
        for number, ids in held.items():
            places = history.places_of_days(self._gone_before.get(number), before_day)
            step = max(1, KEYS_AT_ONCE // max(1, len(places)))
            for at in range(0, len(ids) if places else 0, step):
                yield history.retire(hex_from_ids(ids[at : at + step]), places, before_day)
            self._gone_before[number] = before_day
