"""A timer that lets go of what was kept for long enough, by kind, in portions that hold nobody up."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime, timedelta

from services.identity import metrics
from services.identity.domain.privacy import Retained
from services.identity.store import retention
from shared.clock import Clock
from shared.contracts.topics import INTERACTIONS
from shared.mongo import in_store
from shared.streaming.errors import Unavailable

log = logging.getLogger(__name__)

PORTION = 200


class Retention:
    """Runs beside the handlers' batches; each turn looks at one portion of each kind that has a rule."""

    def __init__(self, days: Mapping[Retained, int], clock: Clock, wall: Clock) -> None:
        self._days, self._clock, self._wall = days, clock, wall

    async def tick(self) -> None:
        """Let the next portions go."""
        try:
            for kind, days in self._days.items():
                # What happened is as old as the service's clock says, what was noted by the wall's as old as that one's.
                clock = self._wall if kind is Retained.PRIVACY_REQUESTS else self._clock
                count = await in_store(_let_go, kind, clock.now() - timedelta(days=days))
                metrics.RETIRED.labels(kind.value).inc(count)
        except Unavailable as away:
            log.warning("retention waits: %s", away)


def _let_go(kind: Retained, before: datetime) -> int:
    match kind:
        case Retained.INTERACTIONS:
            return retention.empty_events(kind.value, INTERACTIONS.name, before, PORTION)
        case Retained.OUTCOMES:
            return retention.empty_outcomes(before, PORTION)
        case Retained.PRIVACY_REQUESTS:
            return retention.delete_requests(before, PORTION)
