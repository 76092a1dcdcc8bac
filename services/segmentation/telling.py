"""Publishes scores to scores-v1, once per customer however often they moved in between, and in small portions."""

from __future__ import annotations

import numpy as np

from services.segmentation import metrics
from services.segmentation.domain.arrays import hex_from_ids
from services.segmentation.domain.scoring import told_signature
from services.segmentation.news import score_messages
from services.segmentation.owned import Owned
from services.segmentation.worker import Worker
from shared.contracts.topics import SCORES
from shared.streaming.records import Message

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
        worker, state, ask = self._worker, owned.state, self._worker.ask()
        if not ask.is_as(owned.told_by):
            # The read model may have them by what was asked before, and re-scoring compares with what is told alone.
            owned.told_by = ask
            owned.mark_moved(np.flatnonzero(state.unpublished[: state.count]))
        customers = [(seen, seen.view(ask).scores) for seen in owned.customers(rows)]
        messages = [Message(each.encode(), None) for each in hex_from_ids(state.ids[rows[state.merged.absorbed(rows)]])]
        for seen, scores in customers:
            messages += score_messages(seen.state, scores, worker.model.name, worker.now())
        await worker.publisher.publish(SCORES, messages)
        for seen, scores in customers:
            state.told[seen.rows] = told_signature(scores)
        state.unpublished[rows] = False
