"""Publishes scores to scores-v1, once per customer however often they moved in between, and in small portions."""

from __future__ import annotations

import numpy as np

from services.segmentation import metrics
from services.segmentation.domain.scoring import score, told_signature
from services.segmentation.news import score_messages
from services.segmentation.owned import Owned
from services.segmentation.worker import Worker
from shared.contracts.topics import SCORES

PORTION = 3000
"""Customers a tick of one second; a stream that is faster is coalesced."""


class ScoreTelling:
    """A timer. What it has not told yet is marked in the rows, and told again after a recovery."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    async def tick(self) -> None:
        """Publish what is waiting, up to a portion."""
        room, waiting = PORTION, 0
        for owned in list(self._worker.owned.values()):
            rows = np.flatnonzero(owned.state.unpublished[: owned.state.count])
            waiting += len(rows)
            if room > 0 and len(rows):
                await self._tell(owned, rows[:room])
                room -= len(rows)
        metrics.SCORES_WAITING.set(max(waiting - PORTION, 0))

    async def _tell(self, owned: Owned, rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> None:
        worker = self._worker
        scores = score(owned.state, rows, worker.ask())
        await worker.publisher.publish(SCORES, score_messages(owned, scores, worker.model.name, worker.now()))
        owned.state.told[rows] = told_signature(scores)
        owned.state.unpublished[rows] = False
