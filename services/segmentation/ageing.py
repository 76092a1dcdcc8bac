"""Shows how much is held and how old the model is."""

from __future__ import annotations

from datetime import UTC, datetime, time

from services.segmentation import metrics
from services.segmentation.worker import Worker


class Ageing:
    """A timer that sets gauges."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    async def tick(self) -> None:
        """Look and tell."""
        partitions = list(self._worker.owned.values())
        metrics.ROWS.set(sum(owned.state.count for owned in partitions))
        metrics.ROW_BYTES.set(sum(owned.state.size_bytes for owned in partitions))
        metrics.OPTIONAL_BYTES.set(sum(owned.state.optional_bytes for owned in partitions))
        metrics.TRAIT_BYTES.set(sum(owned.state.trait_bytes for owned in partitions))
        until = datetime.combine(self._worker.models.data_until, time(), UTC)
        metrics.MODEL_AGE_SECONDS.set(max((self._worker.now() - until).total_seconds(), 0.0))
