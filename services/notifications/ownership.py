"""The partitions of `offers-v1` that this worker has: it alone works on their customers, so that caps are exact."""

from __future__ import annotations

from shared.contracts.topics import OFFERS
from shared.service import OpenedPartition


class OwnedPartitions:
    """Implements `shared.service.Partitions`; there is no state to recover, everything is in the database."""

    def __init__(self) -> None:
        self.numbers: set[int] = set()

    async def open(self, opened: OpenedPartition) -> int | None:
        """Timers work on it from now on; the group's committed offset is where to read."""
        if opened.topic == OFFERS.name:
            self.numbers.add(opened.partition)
        return None

    async def close(self, topic: str, partition: int) -> None:
        """Somebody else works on it."""
        if topic == OFFERS.name:
            self.numbers.discard(partition)
