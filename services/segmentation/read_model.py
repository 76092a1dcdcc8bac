"""Writes the read model behind the stream: bounded portions, one write at a time, never waited for by a handler."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from services.segmentation import metrics
from services.segmentation.customers import Seen
from services.segmentation.domain.arrays import Bits, Integers, hex_from_ids
from services.segmentation.domain.events import DAY_MS
from services.segmentation.domain.models.scoring_model import Crowd, Market
from services.segmentation.domain.scoring import told_signature
from services.segmentation.domain.state.rows import BEING_STORED, STORED, WAITING
from services.segmentation.domain.summary import totals_of
from services.segmentation.domain.told import told
from services.segmentation.owned import NEVER_SEEN, Owned
from services.segmentation.read_marks import Marks, Moment
from services.segmentation.rescoring import Rescoring
from services.segmentation.store import history
from services.segmentation.store import scores as store
from services.segmentation.worker import Worker
from shared.clock import BEGINNING
from shared.mongo import in_store
from shared.streaming.errors import Unavailable

log = logging.getLogger(__name__)

PORTION = 2000
"""Customers a write, of which there is at most one every 0.75 s."""
RESTS = 2
"""After a write the database has this many times as long for others: who moved often meanwhile is written once."""
LONGEST_SECONDS = 10.0
"""From its beginning, a write is waited for no longer than this when a partition is let go."""
RENEWED_AFTER = timedelta(seconds=1)
"""How old `as_of` may become where nothing moved."""


@dataclass(slots=True)
class Portion:
    """What one write takes to the database."""

    documents: list[dict[str, Any]] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    """Profiles that are part of other customers."""
    points: list[dict[str, Any]] = field(default_factory=list)
    summaries: list[dict[str, Any]] = field(default_factory=list)
    sizes: list[dict[str, Any]] = field(default_factory=list)
    curve: dict[str, Any] | None = None
    taken: list[Taken] = field(default_factory=list)
    complete: list[tuple[Marks, Moment]] = field(default_factory=list)
    """With this write the read model has every change of a partition up to a moment."""

    def __bool__(self) -> bool:
        return bool(self.documents or self.gone or self.summaries or self.curve)


@dataclass(frozen=True, slots=True)
class Taken:
    """Rows of a portion, and the signatures of the points that were made of them."""

    marks: Marks
    rows: Integers
    pointed: Integers
    signatures: Bits


class ReadModel:
    """A timer that hands the next portion to a task, unless the last one is still being written.

    Portions go in turns: a turn is over when all that waited at its beginning is stored, so that whoever moves often holds nobody back,
    and the read model then has every change up to that beginning.
    """

    def __init__(self, worker: Worker, rescoring: Rescoring) -> None:
        self._worker = worker
        self._rescoring = rescoring
        self._writing: asyncio.Task[None] | None = None
        self._curve_round = -1
        self._rests_until = 0.0
        self._waited_for_until = 0.0
        self._marks: dict[int, Marks] = {}
        self._turn: list[tuple[Marks, Integers]] = []

    async def tick(self) -> None:
        """Begin the next write, if there is something to write and nothing under way. Returns at once."""
        self._know_partitions()
        if self._writing is not None:
            if not self._writing.done():
                return
            done, self._writing = self._writing, None
            done.result()
        if time.monotonic() < self._rests_until:
            return
        portion = self._portion()
        if portion:
            self._waited_for_until = time.monotonic() + LONGEST_SECONDS
            self._writing = asyncio.create_task(self._write(portion))
        else:
            self._note(portion)

    async def finish(self) -> None:
        """Wait for the write under way, so that it cannot land after one of the partition's next owner; but no longer than bearable.

        What still waits is marked in the rows' snapshot, and in any case told again by the next owner. A failure is the next tick's.
        """
        if self._writing is not None:
            await asyncio.wait({self._writing}, timeout=max(self._waited_for_until - time.monotonic(), 0))

    def begin_anew(self, partition: int) -> None:
        """Its rows have other numbers now: forget what was remembered of them by number."""
        self._marks.pop(partition, None)

    async def _write(self, portion: Portion) -> None:
        mark, began = WAITING, time.monotonic()
        try:
            with metrics.STORE_SECONDS.time():
                await self._store(portion)
            mark = STORED
        except Unavailable as away:
            log.warning("the read model waits: %s", away)
        finally:
            self._rests_until = time.monotonic() + RESTS * (time.monotonic() - began)
            for taken in portion.taken:
                state = taken.marks.owned.state
                # Rows that changed meanwhile wait again already.
                state.unstored[taken.rows[state.unstored[taken.rows] == BEING_STORED]] = mark
            if mark == STORED:
                self._note(portion)
            else:
                self._see_all_again()

    async def _store(self, portion: Portion) -> None:
        """Summaries last, so that they never promise what cannot be found."""
        if portion.documents:
            await in_store(store.write_scores, portion.documents)
        if portion.gone:
            await in_store(store.forget_all, portion.gone)
        if portion.points:
            await in_store(history.write_score_points, portion.points)
        if portion.sizes:
            await in_store(history.write_size_points, portion.sizes)
        if portion.curve is not None:
            await in_store(store.write_curve, portion.curve)
        await in_store(store.write_summaries, portion.summaries)

    def _note(self, portion: Portion) -> None:
        for taken in portion.taken:
            taken.marks.pointed[taken.pointed] = taken.signatures
        for marks, until in portion.complete:
            marks.complete = until
        metrics.HISTORY_POINTS.inc(len(portion.points))

    def _see_all_again(self) -> None:
        self._curve_round = -1
        self._turn = []
        for marks in self._marks.values():
            marks.sizes = None
            marks.owned.seen = NEVER_SEEN

    def _know_partitions(self) -> None:
        """Partitions come and go; what is known of one that is back is of no use."""
        now = time.monotonic()
        held = {number: self._marks.get(number) for number in self._worker.owned}
        self._marks = {
            number: marks if marks is not None and marks.owned is self._worker.owned[number] else Marks(self._worker.owned[number], now)
            for number, marks in held.items()
        }
        metrics.STORE_BEHIND_SECONDS.set(max((marks.behind_seconds(now) for marks in self._marks.values()), default=0.0))

    def _portion(self) -> Portion:
        portion, now = Portion(), Moment(self._worker.now(), time.monotonic())
        self._turn = [(marks, rows) for marks, rows in self._turn if self._marks.get(marks.owned.number) is marks]
        if not self._turn:
            self._begin_turn(now)
        while self._turn and (room := PORTION - len(portion.documents)) > 0:
            marks, rows = self._turn.pop(0)
            if len(rows) > room:
                self._turn.insert(0, (marks, rows[room:]))
            self._take(portion, marks, rows[:room], now.at)
        self._complete(portion, now)
        self._summarise(portion, now.at)
        portion.curve = self._curve()
        return portion

    def _begin_turn(self, now: Moment) -> None:
        for marks in self._marks.values():
            rows = marks.waiting()
            marks.turn_began = now
            if len(rows):
                self._turn.append((marks, rows))

    def _complete(self, portion: Portion, now: Moment) -> None:
        """A partition of which nothing waits is complete up to now, one whose turn is over up to the turn's beginning."""
        still = {marks.owned.number for marks, _ in self._turn}
        waiting = 0
        for number, marks in self._marks.items():
            count = len(marks.waiting())
            waiting += count
            if not count:
                portion.complete.append((marks, now))
            elif number not in still and marks.turn_began is not None and marks.turn_is_news():
                portion.complete.append((marks, marks.turn_began))
        metrics.STORE_WAITING.set(waiting)

    def _take(self, portion: Portion, marks: Marks, rows: Integers, now: datetime) -> None:
        owned = marks.owned
        for seen in owned.customers(rows):
            self._take_customers(portion, marks, seen, now)
        # Who waits for rows of other profiles waits here for nothing: he is taken when they have come.
        portion.taken.append(Taken(marks, rows, rows[:0], np.zeros(0, dtype=np.uint64)))
        portion.gone += hex_from_ids(owned.state.ids[rows[owned.state.merged.absorbed(rows)]])
        owned.state.unstored[rows] = BEING_STORED

    def _take_customers(self, portion: Portion, marks: Marks, seen: Seen, now: datetime) -> None:
        worker = self._worker
        scores = seen.view(worker.ask()).scores
        documents = told(seen.state, scores, worker.model.name)
        customers = hex_from_ids(seen.state.ids[seen.at])
        portion.documents += self._documents(marks.owned, seen, customers, documents, now)
        signatures = told_signature(scores)
        pointed = np.flatnonzero(scores.bought & (signatures != marks.pointed_at(seen.rows)))
        today = worker.now_ms() // DAY_MS
        portion.points += [history.score_point(customers[place], today, now, documents[place]) for place in pointed.tolist()]
        portion.taken.append(Taken(marks, seen.rows, seen.rows[pointed], signatures[pointed]))

    def _documents(
        self, owned: Owned, seen: Seen, customers: list[str], scores: list[dict[str, Any]], now: datetime
    ) -> list[dict[str, Any]]:
        state, segments = seen.state, self._worker.segments
        columns = [getattr(state, name)[seen.at].tolist() for name in ("purchase_count", "bought_minor", "refunded_minor")]
        others = [owned.state.merged.others(row) for row in seen.rows.tolist()] if owned.state.merged else [()] * len(seen.rows)
        plain = zip(customers, scores, owned.state.membership[seen.rows].tolist(), *columns, others, strict=True)
        return [
            {
                "_id": customer,
                "partition": owned.number,
                "as_of": now,
                "segments": list(segments.names_of(membership)),
                **values,
                "purchases": purchases,
                "bought_minor": bought,
                "refunded_minor": refunded,
                **({"others": list(other)} if other else {}),
            }
            for customer, values, membership, purchases, bought, refunded, other in plain
        ]

    def _summarise(self, portion: Portion, now: datetime) -> None:
        """Summaries of the partitions that moved; `as_of` of all others too as soon as one moved, or when it grows old."""
        rounds, today = self._rescoring.rounds, self._worker.now_ms() // DAY_MS
        complete = {number: marks.complete for number, marks in self._marks.items()}
        complete |= {marks.owned.number: until for marks, until in portion.complete}
        moved = {number for number, marks in self._marks.items() if marks.owned.seen[:2] != (marks.owned.revision, rounds)}
        for number, marks in self._marks.items():
            owned, until = marks.owned, (known.at if (known := complete[number]) is not None else None)
            stamp = {"_id": number, "generation": owned.generation, **({"as_of": until} if until is not None else {})}
            if number in moved:
                sizes = self._worker.segments.count_members(owned.state.membership[: owned.state.count])
                portion.summaries.append(stamp | self._summary(owned, sizes))
                if marks.sizes != (today, sizes):
                    marks.sizes = (today, sizes)
                    portion.sizes.append(history.size_point(number, owned.generation, today, now, sizes))
            elif until is not None and until > owned.seen[2] and (moved or until - owned.seen[2] >= RENEWED_AFTER):
                portion.summaries.append(stamp)
            else:
                continue
            owned.seen = (owned.revision, rounds, until or BEGINNING)

    def _summary(self, owned: Owned, sizes: dict[str, int]) -> dict[str, Any]:
        positions, tally = owned.positions, self._rescoring.tallies.get(owned.number)
        return {
            "totals": totals_of(owned.state),
            "segments": sizes,
            "applied": {
                "topic_id": positions.events_topic_id,
                "offset": positions.applied,
                "customers_offset": positions.customers_applied,
                "origins": {log.decode(): offset for log, offset in positions.vector.items()},
            },
            "cells": tally.cells() if tally else {},
            "bands": tally.bands() if tally else {},
            "classes": tally.classes() if tally else {},
        }

    def _curve(self) -> dict[str, Any] | None:
        """The kinds' curves, under the lowest partition that this worker owns, once a round."""
        worker = self._worker
        if self._curve_round == self._rescoring.rounds or not worker.owned:
            return None
        self._curve_round = self._rescoring.rounds
        market = worker.market
        consumers = _curve_of(market.consumers, market)
        if consumers is None:
            return None
        traders = _curve_of(market.traders, market) if market.traders is not market.consumers else None
        return {"_id": min(worker.owned), "as_of": worker.now(), "basis": worker.ask().ranked_by, **consumers, "traders": traders}


def _curve_of(crowd: Crowd, market: Market) -> dict[str, Any] | None:
    """None before a round of re-scoring has found it."""
    curve = crowd.curve
    if not curve.customer_share:
        return None
    return {
        "buyers": crowd.buyers,
        "of_all_buyers": crowd.buyers == market.buyers,
        "class_a_minor": curve.class_a_minor,
        "class_b_minor": curve.class_b_minor,
        "customer_share": list(curve.customer_share),
        "spend_share": list(curve.spend_share),
    }
