"""The segments in use: those that ship, and those that the deployment's own people have written."""

from __future__ import annotations

import logging

from pydantic import ValidationError

from services.segmentation.domain.segments import FIRST_OWN_BIT, MOST_SEGMENTS, SHIPPED, Segment, Segments
from services.segmentation.store import segments as store
from services.segmentation.worker import Worker
from shared.mongo import in_store
from shared.streaming.errors import Unavailable

log = logging.getLogger(__name__)

OWN_BITS = range(FIRST_OWN_BIT, MOST_SEGMENTS)


def read_segments() -> Segments:
    """All of them, as they are now."""
    version = store.version()
    own: dict[int, Segment] = {}
    for each in store.read_all():
        try:
            own[each["bit"]] = Segment.model_validate({**each["definition"], "name": each["name"], "retired": each["retired"]})
        except ValidationError as error:
            log.error("segment %s cannot be read, and nobody is in it: %s", each["name"], error)
    return Segments({**SHIPPED.by_bit, **own}, version)


class Watching:
    """A timer that hears of changed segments."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    async def start(self) -> None:
        """Begin with the segments as they are. Raises Unavailable."""
        self._worker.segments = await in_store(read_segments)

    async def tick(self) -> None:
        """Look whether they changed; while the database is away they did not."""
        worker = self._worker
        known = (worker.new_segments or worker.segments).version
        try:
            if await in_store(store.version) != known:
                worker.new_segments = await in_store(read_segments)
        except Unavailable as away:
            log.warning("changed segments are not heard of: %s", away)
