"""A timer that lets go of what was kept for long enough, by kind, a portion at a time and beside the stream."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from prometheus_client import Counter

from shared.access import store as audit
from shared.beside import BesideTheStream
from shared.clock import BEGINNING, Clock
from shared.mongo import in_store
from shared.retained import Retained
from shared.streaming.errors import Unavailable

log = logging.getLogger(__name__)

RETIRED = Counter("dear_retired_total", "What retention rules emptied, deleted or had erased, by kind of data.", ["kind"])
STEP_SECONDS = 1.0
"""How often each kind takes a step."""
RESTS = 4
"""After a step that took long the database has this many times as long for others."""
ROUND_RESTS, LONGEST_REST = timedelta(minutes=5), timedelta(days=1)
RESTS_AFTER_ROUND = 50
"""Rules are counted in days: a round that took long is not begun again before so many times as long have passed, or a day."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How one kind is let go of."""

    begin: Callable[[datetime], Iterator[int]]
    """Begin a round through everything of the kind: each step looks at a portion, lets go of what is older, and says how much that was.

    A step may be taken twice, by two workers or after a crash, and a round may be broken off anywhere.
    """
    clock: Clock
    """What happened is as old as the service's clock says, what was noted by the wall's as old as that one's."""


@dataclass(slots=True)
class _Kind:
    kind: Retained
    kept_for: timedelta
    rule: Rule
    round: Iterator[int] | None = None
    rests_until: datetime = BEGINNING
    worked: timedelta = timedelta(0)
    """In this round."""


class Retention:
    """Lets go of those of a service's kinds, its audit log among them, that have a rule."""

    def __init__(self, database: str, days: Mapping[Retained, int], rules: Mapping[Retained, Rule], wall: Clock) -> None:
        kept = {Retained.AUDIT: Rule(partial(audit.retire, database), wall), **rules}
        self._kinds = [_Kind(kind, timedelta(days=days[kind]), rule) for kind, rule in kept.items() if kind in days]
        self._wall = wall
        self._beside = BesideTheStream(self.work)

    async def start(self) -> None:
        """Take the next step with each kind, unless one is being taken."""
        if self._kinds:
            await self._beside.start()

    async def stop(self) -> None:
        """Let the step at hand end."""
        await self._beside.stop()

    async def work(self) -> None:
        """Take a step with each kind that does not rest."""
        try:
            for kind in self._kinds:
                if self._wall.now() >= kind.rests_until:
                    await self._step(kind)
        except Unavailable as away:
            log.warning("retention waits: %s", away)

    async def _step(self, kind: _Kind) -> None:
        began = self._wall.now()
        steps, kind.round = kind.round or kind.rule.begin(kind.rule.clock.now() - kind.kept_for), None
        # Where the database is away the round is over, and begins anew.
        count = await in_store(next, steps, None)
        now = self._wall.now()
        kind.worked += now - began
        if count is None:
            rest = max(ROUND_RESTS, min(RESTS_AFTER_ROUND * kind.worked, LONGEST_REST))
            kind.rests_until, kind.worked = now + rest, timedelta(0)
            return
        kind.round, kind.rests_until = steps, now + RESTS * (now - began)
        RETIRED.labels(kind.kind.value).inc(count)
