"""What segmentation has of somebody: a row with its copies on disk and in topics, scores, and their history."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np

from services.segmentation.copies import erasures
from services.segmentation.domain.arrays import ids_from_hex
from services.segmentation.owned import Owned
from services.segmentation.partitions import SegmentationPartitions
from services.segmentation.read_model import ReadModel
from services.segmentation.store import history
from services.segmentation.store import scores as store
from services.segmentation.worker import Worker
from shared.contracts.topics import PROFILE_ROWS, SCORES, SEGMENTATION_STATE
from shared.mongo import in_store
from shared.privacy import Counts
from shared.streaming.partitions import partition_for
from shared.streaming.records import Message


class SegmentationHolder:
    """Implements shared.privacy.Holder. Profiles lie in the partition of privacy-v1 that has the number of their rows' partition."""

    def __init__(self, worker: Worker, partitions: SegmentationPartitions, read_model: ReadModel) -> None:
        self._worker, self._partitions, self._read_model = worker, partitions, read_model

    async def show(self, profile: str) -> list[dict[str, Any]]:
        """Scores and segments as they are, and as they were."""
        return await in_store(_show, profile)

    async def object(self, profile: str, at: datetime) -> Counts:
        """A segment sends nothing; what follows from it is notifications' to hold back."""
        return {}

    async def erase(self, profile: str, references: Sequence[str]) -> Counts:
        """Tombstones first: who dies after them recovers without the row, who dies before them is asked again."""
        owned = self._worker.partition(partition_for(profile.encode()))
        await self._worker.write(owned)
        # A write under way would put the scores back.
        await self._read_model.finish()
        rows = owned.state.find(ids_from_hex(profile.encode()))
        tombstone = [Message(profile.encode(), None)]
        await self._worker.publisher.publish(SEGMENTATION_STATE, tombstone)
        await self._worker.publisher.publish(SCORES, tombstone)
        # Wherever a copy ever was: whose customer the profile was before a rebuild, nobody knows any more.
        await self._worker.publisher.publish(PROFILE_ROWS, erasures(profile))
        was_there = bool((rows >= 0).any())
        if was_there:
            self._remove(owned, int(rows[0]))
        await self._partitions.keep_snapshot(owned)
        found = await in_store(_erase, profile)
        return {"rows": int(was_there), **found}

    def _remove(self, owned: Owned, row: int) -> None:
        """Rows behind it move up; nothing is waiting to be written or told that names one by its number."""
        owned.remove(np.array([row], dtype=np.int64))
        self._read_model.begin_anew(owned.number)


def _show(profile: str) -> list[dict[str, Any]]:
    scores = store.read_scores(profile)
    told = [{"kind": "scores", **_named(scores)}] if scores else []
    return told + [{"kind": "score_history", **_named(point)} for point in history.read_score_points(profile)]


def _named(document: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in ("_id", "partition")}


def _erase(profile: str) -> Counts:
    points = len(history.read_score_points(profile))
    history.forget(profile)
    return {"scores": store.forget(profile), "score_history": points}
