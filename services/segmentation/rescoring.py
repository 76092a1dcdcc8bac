"""Re-scores everyone in short slices: recency grows without any event, and quintiles move with everybody."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from services.segmentation import metrics
from services.segmentation.causes import Cause
from services.segmentation.domain.arrays import Integers
from services.segmentation.domain.events import DAY_MS
from services.segmentation.domain.market import Gathering
from services.segmentation.domain.need_labels import period_of
from services.segmentation.domain.scoring import margin_share_of
from services.segmentation.domain.summary import Tally
from services.segmentation.markets import Known
from services.segmentation.owned import EVERY_ROW, Owned
from services.segmentation.worker import Worker

SLICE_ROWS = 8192
"""About 20 ms of work."""
SLICE_NEEDS = 3072
"""Rows of a slice whose needs are looked at: about as much again."""
ENOUGH_SECONDS = 0.015
"""No further slice is begun in a tick that has taken this long."""

NEW_CHANGES_PER_SECOND = 2000
"""How fast others hear of memberships that a new model or a new rule moved."""

Owners = frozenset[tuple[int, int]]
"""Which partitions, as taken over when."""


@dataclass(frozen=True, slots=True)
class Slice:
    """Some rows of a partition."""

    owned: Owned
    rows: Integers


class Rescoring:
    """A timer: begins a round when enough time has passed, and then takes one slice a tick until everyone had a turn."""

    def __init__(self, worker: Worker, calm_seconds: float = 1.0) -> None:
        self._worker = worker
        self._calm_seconds = calm_seconds
        self._begun_ms = -(10**15)
        self._known: Owners = frozenset()
        self._known_since = 0.0
        self._done: Owners = frozenset()
        self._finished = 0.0
        self._slices: Iterator[Slice] | None = None
        self._period = 0
        self._waiting = 0
        self._gathered: dict[int, Gathering] = {}
        self._seen: dict[int, Known] = {}
        self._owes_a_round = False
        self._tallies: dict[int, Tally] = {}
        self._worked = 0.0
        self._resume_at = 0.0
        self.rounds = 0
        self.tallies: dict[int, Tally] = {}
        """Of the last whole round, by partition."""

    async def tick(self) -> None:
        """A slice, if there is one to do; several where they are small."""
        began = time.perf_counter()
        while time.monotonic() >= self._resume_at and time.perf_counter() - began < ENOUGH_SECONDS:
            if self._slices is None and not self._begin():
                return
            await self._next()

    async def _next(self) -> None:
        began = time.perf_counter()
        due = next(self._slices, None) if self._slices is not None else None
        if due is None:
            self._finish()
        else:
            await self._take(due)
        seconds = time.perf_counter() - began
        self._worked += seconds
        if due is None:
            metrics.RESCORING_SECONDS.observe(self._worked)
        else:
            metrics.SLICE_SECONDS.observe(seconds)

    def _begin(self) -> bool:
        """Begin a round when it is time, or partitions came or went; but not while they are still coming: much would be done twice."""
        now_ms, owners = self._worker.now_ms(), self._owners()
        if owners != self._known:
            self._known, self._known_since = owners, time.monotonic()
        if now_ms <= 0 or not owners or time.monotonic() - self._known_since < self._calm_seconds:
            return False
        if time.monotonic() - self._finished < self._calm_seconds:
            # In a replay days pass faster than anybody looks.
            return False
        due = self._worker.has_something_new() or (self._waits_for_market() and self._worker.markets.is_whole_with(self._worker.owned))
        if owners == self._done and not due and now_ms - self._begun_ms < self._pause_ms():
            return False
        self._worker.take_up_what_is_new()
        self._begun_ms, self._done, self._worked, self._tallies = now_ms, owners, 0.0, {}
        self._gathered, self._seen, self._period, self._waiting = {}, {}, period_of(now_ms // DAY_MS), 0
        self._slices = self._walk()
        return True

    def _waits_for_market(self) -> bool:
        """Rebuilt rows wait for two rounds, and all rows for one, with a whole market."""
        rebuilt = any(owned.silent_rounds and not owned.silent_customers_until for owned in self._worker.owned.values())
        return rebuilt or self._owes_a_round

    def _pause_ms(self) -> int:
        return DAY_MS if self._worker.clock.mode == "replay" else int(self._worker.settings.rescore_seconds * 1000)

    def _owners(self) -> Owners:
        return frozenset((number, owned.generation) for number, owned in self._worker.owned.items())

    def _walk(self) -> Iterator[Slice]:
        """Every row of every partition that is ours by then; rows that join later had a turn when they joined."""
        for number in sorted(self._worker.owned):
            start, owned = 0, self._worker.owned.get(number)
            while owned is not None and self._worker.owned.get(number) is owned and start < owned.state.count:
                due = self._slice(owned, start)
                yield due
                start += len(due.rows)
            # Who lost the partition meanwhile, even if it is back, has not seen all of its rows.
            if owned is not None and self._worker.owned.get(number) is owned:
                owned.had_turns(self._worker.judged_by)
                # Here and not at the end of the round: sorting a million amounts at once would take longer than a slice.
                self._seen[number] = Known(self._gathered.pop(number, Gathering()).sample(), owned.generation)

    def _slice(self, owned: Owned, start: int) -> Slice:
        """The next rows: fewer where the needs of many have to be looked at."""
        end = min(start + SLICE_ROWS, owned.state.count)
        if self._worker.needs is not None:
            owned.look_at_needs(self._worker.needs, self._period)
            due = np.flatnonzero(owned.state.need_due[start:end])
            end = start + int(due[SLICE_NEEDS]) if len(due) > SLICE_NEEDS else end
        return Slice(owned, np.arange(start, end, dtype=np.int64))

    async def _take(self, due: Slice) -> None:
        worker, owned = self._worker, due.owned
        if owned.applying:
            return
        await worker.write(owned)
        number = owned.change_number
        needs_before = owned.assign_needs(due.rows, worker.judgement(), worker.judged_before())
        if owned.silent_rounds:
            scores = owned.settle_silently(due.rows, worker.judgement())
        else:
            now_ms = np.full(len(due.rows), worker.now_ms(), dtype=np.int64)
            trigger = replace(worker.trigger(now_ms, Cause.TIME), needs_before=needs_before)
            scores = owned.settle(due.rows, trigger, worker.judgement())
        gathered, tally = self._gathered.setdefault(owned.number, Gathering()), self._tallies.setdefault(owned.number, Tally())
        for each in scores:
            gathered.add(each)
            tally.add(each)
        merged = owned.state.merged
        self._waiting += len(due.rows) - sum(len(each.rows) for each in scores) - int(merged.absorbed(due.rows).sum())
        if owned.turned != EVERY_ROW:
            self._resume_at = time.monotonic() + (owned.change_number - number) / NEW_CHANGES_PER_SECOND
            owned.turned = int(due.rows[-1]) + 1
            owned.mark_moved(due.rows)
        await worker.write(owned)

    def _finish(self) -> None:
        """From now on the market of this round is judged by; half a market is none, and leaves the last whole one."""
        ours = {number: seen for number, seen in self._seen.items() if (number, seen.generation) in self._owners()}
        market = self._worker.markets.merged(ours)
        # Judged by no market at all, customers have not been judged: not by a worker that has just begun, nor by one that waits for others.
        self._owes_a_round = market is None or bool(market.buyers and not self._worker.market.buyers)
        if market is not None:
            if market.buyers:
                self._worker.market = market
            self._count_silent_rounds()
        self._worker.margin_share = margin_share_of(owned.state for owned in self._worker.owned.values())
        self._worker.all_had_turns()
        metrics.MEMBERS_WAITING.set(self._waiting)
        self.tallies = self._tallies
        self._slices, self._seen = None, {}
        self.rounds += 1
        self._finished = time.monotonic()

    def _count_silent_rounds(self) -> None:
        for number, _ in self._done:
            owned = self._worker.owned.get(number)
            if owned is not None and not owned.silent_customers_until:
                # The first round after a rebuild finds the market, the second judges by it.
                owned.silent_rounds = max(owned.silent_rounds - 1, 0)
