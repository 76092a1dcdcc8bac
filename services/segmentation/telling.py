"""Publishes scores to scores-v1, once per customer however often they moved in between, and in small portions."""

from __future__ import annotations

import numpy as np

from services.segmentation import metrics
from services.segmentation.domain.arrays import Integers, hex_from_ids
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
        portion: list[tuple[Owned, Integers]] = []
        for owned in self._worker.owned.values():
            rows = np.flatnonzero(owned.state.unpublished[: owned.state.count])
            waiting += len(rows)
            if room > 0 and len(rows):
                portion.append((owned, rows[:room]))
                room -= len(rows)
        await self._tell(portion)
        metrics.SCORES_WAITING.set(max(waiting - PORTION, 0))

    async def _tell(self, portion: list[tuple[Owned, Integers]]) -> None:
        """All partitions' together: a request to the broker costs more than what it carries."""
        worker, ask = self._worker, self._worker.ask()
        for owned, _ in portion:
            if not ask.is_as(owned.told_by):
                # The read model may have them by what was asked before, and re-scoring compares with what is told alone.
                owned.told_by = ask
                owned.mark_moved(np.flatnonzero(owned.state.unpublished[: owned.state.count]))
        customers = [(owned, seen, seen.view(ask).scores) for owned, rows in portion for seen in owned.customers(rows)]
        messages = [
            Message(each.encode(), None)
            for owned, rows in portion
            for each in hex_from_ids(owned.state.ids[rows[owned.state.merged.absorbed(rows)]])
        ]
        for _, seen, scores in customers:
            messages += score_messages(seen.state, scores, worker.model.name, worker.now())
        if messages:
            await worker.publisher.publish(SCORES, messages)
        for owned, seen, scores in customers:
            owned.state.told[seen.rows] = told_signature(scores)
        for owned, rows in portion:
            owned.state.unpublished[rows] = False
