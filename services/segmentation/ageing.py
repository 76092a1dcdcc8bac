"""Shows how much is held and how old the model is."""

from __future__ import annotations

from datetime import UTC, date, datetime

from services.segmentation import metrics
from services.segmentation.worker import Worker


class Ageing:
    """A timer that sets gauges."""

    def __init__(self, worker: Worker, data_until: date) -> None:
        self._worker = worker
        self._data_until = datetime(data_until.year, data_until.month, data_until.day, tzinfo=UTC)

    async def tick(self) -> None:
        """Look and tell."""
        partitions = list(self._worker.owned.values())
        metrics.ROWS.set(sum(owned.state.count for owned in partitions))
        metrics.ROW_BYTES.set(sum(owned.state.size_bytes for owned in partitions))
        metrics.MODEL_AGE_SECONDS.set(max((self._worker.now() - self._data_until).total_seconds(), 0.0))
