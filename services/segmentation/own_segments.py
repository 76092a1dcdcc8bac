"""The segments in use: those that ship, and those that the deployment's own people have written."""

from __future__ import annotations

import asyncio
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
        self._looking: asyncio.Task[Segments] | None = None

    async def start(self) -> None:
        """Begin with the segments as they are. Raises Unavailable."""
        self._worker.segments = await in_store(read_segments)

    async def tick(self) -> None:
        """Take what was seen, and look again beside the stream: a database that is away holds nobody up. Returns at once."""
        if self._looking is not None:
            if not self._looking.done():
                return
            looked, self._looking = self._looking, None
            try:
                self._take(looked.result())
            except Unavailable as away:
                log.warning("changed segments are not heard of: %s", away)
        self._looking = asyncio.create_task(in_store(read_segments))

    async def finish(self) -> None:
        """Let the look under way end."""
        if self._looking is not None:
            await asyncio.gather(self._looking, return_exceptions=True)

    def _take(self, seen: Segments) -> None:
        worker = self._worker
        if seen != (worker.new_segments or worker.segments):
            worker.new_segments = seen
