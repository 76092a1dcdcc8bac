"""Writes the read model behind the stream: bounded portions, one write at a time, never waited for by a handler."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from services.segmentation import metrics
from services.segmentation.domain.arrays import Integers, hex_from_ids
from services.segmentation.domain.scoring import as_contract, score
from services.segmentation.domain.state.rows import BEING_STORED, STORED, WAITING
from services.segmentation.domain.summary import totals_of
from services.segmentation.owned import NEVER_SEEN, Owned
from services.segmentation.rescoring import Rescoring
from services.segmentation.store import scores as store
from services.segmentation.worker import Worker
from shared.mongo import in_store
from shared.streaming.errors import Unavailable

log = logging.getLogger(__name__)

PORTION = 2000
"""Customers a write, of which there is at most one every 0.75 s."""
RESTS = 2
"""After a write the database has this many times as long for others: who moved often meanwhile is written once."""
LONGEST_SECONDS = 10.0
"""From its beginning, a write is waited for no longer than this when a partition is let go."""
WHILE_MOVING = timedelta(seconds=1)
AT_REST = timedelta(seconds=10)
"""How old the summary of a partition that did not move may become: while others of this worker move, and when none does."""


class ReadModel:
    """A timer that hands the next portion to a task, unless the last one is still being written."""

    def __init__(self, worker: Worker, rescoring: Rescoring) -> None:
        self._worker = worker
        self._rescoring = rescoring
        self._writing: asyncio.Task[None] | None = None
        self._curve_round = -1
        self._rests_until = 0.0
        self._waited_for_until = 0.0
        self._taken: list[tuple[Owned, Integers]] = []

    async def tick(self) -> None:
        """Begin the next write, if there is something to write and nothing under way. Returns at once."""
        if self._writing is not None:
            if not self._writing.done():
                return
            done, self._writing = self._writing, None
            done.result()
        if time.monotonic() < self._rests_until:
            return
        documents, summaries, curve = self._portion(), self._summaries(), self._curve()
        if documents or summaries or curve:
            self._waited_for_until = time.monotonic() + LONGEST_SECONDS
            self._writing = asyncio.create_task(self._write(documents, summaries, curve))

    async def finish(self) -> None:
        """Wait for the write under way, so that it cannot land after one of the partition's next owner; but no longer than bearable.

        What still waits is marked in the rows' snapshot, and in any case told again by the next owner. A failure is the next tick's.
        """
        if self._writing is not None:
            await asyncio.wait({self._writing}, timeout=max(self._waited_for_until - time.monotonic(), 0))

    async def _write(self, documents: list[dict[str, Any]], summaries: list[dict[str, Any]], curve: dict[str, Any] | None) -> None:
        mark, began = WAITING, time.monotonic()
        try:
            with metrics.STORE_SECONDS.time():
                await self._store(documents, summaries, curve)
            mark = STORED
        except Unavailable as away:
            log.warning("the read model waits: %s", away)
        finally:
            self._rests_until = time.monotonic() + RESTS * (time.monotonic() - began)
            self._put_down(mark)
            if mark == WAITING:
                self._see_all_again()

    async def _store(self, documents: list[dict[str, Any]], summaries: list[dict[str, Any]], curve: dict[str, Any] | None) -> None:
        """Customers first, so that a summary never counts what cannot be found."""
        if documents:
            await in_store(store.write_scores, documents)
        for summary in summaries:
            await in_store(store.write_summary, summary)
        if curve is not None:
            await in_store(store.write_curve, curve)

    def _see_all_again(self) -> None:
        self._curve_round = -1
        for owned in self._worker.owned.values():
            owned.seen = NEVER_SEEN

    def _waiting(self) -> int:
        return sum(int(np.count_nonzero(owned.state.unstored[: owned.state.count])) for owned in self._worker.owned.values())

    def _put_down(self, mark: int) -> None:
        """The write is over: rows that did not change meanwhile get this mark."""
        for owned, rows in self._taken:
            state = owned.state
            state.unstored[rows[state.unstored[rows] == BEING_STORED]] = mark
        self._taken = []

    def _portion(self) -> list[dict[str, Any]]:
        self._taken = []
        documents: list[dict[str, Any]] = []
        now = self._worker.now()
        for owned in self._worker.owned.values():
            rows = np.flatnonzero(owned.state.unstored[: owned.state.count] == WAITING)[: PORTION - len(documents)]
            if len(rows):
                documents += self._documents(owned, rows, now)
                owned.state.unstored[rows] = BEING_STORED
                self._taken.append((owned, rows))
        metrics.STORE_WAITING.set(self._waiting())
        return documents

    def _documents(self, owned: Owned, rows: Integers, now: datetime) -> list[dict[str, Any]]:
        state, worker = owned.state, self._worker
        scores = as_contract(score(state, rows, worker.ask()), worker.model.name)
        columns = (state.membership, state.purchase_count, state.bought_minor, state.refunded_minor)
        plain = zip(hex_from_ids(state.ids[rows]), scores, *(column[rows].tolist() for column in columns), strict=True)
        return [
            {
                "_id": customer,
                "partition": owned.number,
                "as_of": now,
                "segments": list(worker.segments.names_of(membership)),
                **values,
                "purchases": purchases,
                "bought_minor": bought,
                "refunded_minor": refunded,
            }
            for customer, values, membership, purchases, bought, refunded in plain
        ]

    def _summaries(self) -> list[dict[str, Any]]:
        """Of the partitions that moved since they were last written, and of those whose `as_of` grows old."""
        now, rounds = self._worker.now(), self._rescoring.rounds
        moved = {number for number, owned in self._worker.owned.items() if owned.seen[:2] != (owned.revision, rounds)}
        bearable = WHILE_MOVING if moved else AT_REST
        due = [owned for number, owned in self._worker.owned.items() if number in moved or now - owned.seen[2] >= bearable]
        for owned in due:
            owned.seen = (owned.revision, rounds, now)
        return [self._summary(owned, now) for owned in due]

    def _summary(self, owned: Owned, now: datetime) -> dict[str, Any]:
        positions, tally = owned.positions, self._rescoring.tallies.get(owned.number)
        return {
            "_id": owned.number,
            "generation": owned.generation,
            "as_of": now,
            "totals": totals_of(owned.state),
            "segments": self._worker.segments.count_members(owned.state.membership[: owned.state.count]),
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
        """The consumers' curve, under the lowest partition that this worker owns, once a round."""
        worker = self._worker
        if self._curve_round == self._rescoring.rounds or not worker.owned:
            return None
        self._curve_round = self._rescoring.rounds
        curve = worker.market.consumers.curve
        if not curve.customer_share:
            return None
        return {
            "_id": min(worker.owned),
            "as_of": worker.now(),
            "buyers": worker.market.consumers.buyers,
            "class_a_minor": curve.class_a_minor,
            "class_b_minor": curve.class_b_minor,
            "customer_share": list(curve.customer_share),
            "spend_share": list(curve.spend_share),
        }
