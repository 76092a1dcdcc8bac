"""Answers what only the holder of rows can: who a rule would hold, and why somebody is in a segment or not."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from services.segmentation.domain.arrays import Integers, hex_from_ids, ids_from_hex
from services.segmentation.domain.rules import explain, traits_of
from services.segmentation.domain.segments import Segment
from services.segmentation.owned import Owned
from services.segmentation.rescoring import ENOUGH_SECONDS, SLICE_ROWS
from services.segmentation.store import segments as store
from services.segmentation.worker import Worker
from shared.mongo import in_store
from shared.streaming.errors import Unavailable

log = logging.getLogger(__name__)

WAITED_FOR = timedelta(seconds=30)
SAMPLE = 10
WHAT_IF, EXPLAIN = "what_if", "explain"


class Answering:
    """A timer: looks for questions, and answers them slice by slice, so that the stream never waits for long."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._done: dict[tuple[str, int], float] = {}
        self._work: Iterator[tuple[str, int, dict[str, Any] | None]] | None = None
        self._looking: asyncio.Task[list[dict[str, Any]]] | None = None
        self._telling: set[asyncio.Task[None]] = set()

    async def tick(self) -> None:
        """Some slices of the question in hand, or a look for the next. Returns at once."""
        began = time.perf_counter()
        while self._work is not None and time.perf_counter() - began < ENOUGH_SECONDS:
            step = next(self._work, None)
            if step is None:
                self._work = None
            elif step[2] is not None:
                self._tell(*step)
        if self._work is None:
            self._look()

    async def finish(self) -> None:
        """Let what is under way end."""
        tasks = [*self._telling, *([self._looking] if self._looking is not None else [])]
        await asyncio.gather(*tasks, return_exceptions=True)

    def _look(self) -> None:
        if self._looking is None:
            self._looking = asyncio.create_task(in_store(store.open_questions, datetime.now(UTC) - WAITED_FOR))
        elif self._looking.done():
            looked, self._looking = self._looking, None
            failure = looked.exception()
            if failure is None:
                self._begin(looked.result())
            elif not isinstance(failure, Unavailable):
                raise failure

    def _begin(self, questions: list[dict[str, Any]]) -> None:
        oldest = time.monotonic() - WAITED_FOR.total_seconds()
        self._done = {known: at for known, at in self._done.items() if at > oldest}
        due = [
            (question, number)
            for question in questions
            for number in question["partitions"]
            if number in self._worker.owned and (question["_id"], number) not in self._done and str(number) not in question["answers"]
        ]
        asked = [question["about"]["segment"] for question, _ in due if question["kind"] == WHAT_IF]
        self._worker.asked_traits = frozenset(name for each in asked for name in traits_of(Segment.model_validate(each).enters))
        # Who asks about a trait that no rule names yet waits until it was read; he asks again all the while.
        if due and self._worker.has_traits(self._worker.asked_traits):
            self._work = self._answers(due)

    def _answers(self, due: list[tuple[dict[str, Any], int]]) -> Iterator[tuple[str, int, dict[str, Any] | None]]:
        for question, number in due:
            owned = self._worker.owned.get(number)
            if owned is None or owned.applying:
                continue
            self._done[question["_id"], number] = time.monotonic()
            found: dict[str, Any] = {}
            for so_far in (self._what_if if question["kind"] == WHAT_IF else self._explain)(owned, question["about"]):
                found = so_far
                yield question["_id"], number, None
            yield question["_id"], number, found

    def _what_if(self, owned: Owned, about: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """How many of these rows would be in, what they are worth, and which segments they are in."""
        segment, judge, state = Segment.model_validate(about["segment"]), self._worker.judgement(), owned.state
        found: dict[str, Any] = {"customers": 0, "expected_value_minor": 0, "value_at_risk_minor": 0, "sample": [], "segments": {}}
        for start in range(0, state.count, SLICE_ROWS):
            rows: Integers = np.arange(start, min(start + SLICE_ROWS, state.count), dtype=np.int64)
            for seen in owned.customers(rows):
                view = seen.view(judge.ask)
                chosen, scores = segment.enters.holds(view), view.scores
                found["customers"] += int(chosen.sum())
                found["expected_value_minor"] += int(scores.expected_value_minor[chosen].sum())
                found["value_at_risk_minor"] += int(scores.value_at_risk_minor[chosen].sum())
                found["sample"] += hex_from_ids(state.ids[seen.rows[chosen][: SAMPLE - len(found["sample"])]])
                for name, count in judge.segments.count_members(state.membership[seen.rows[chosen]]).items():
                    found["segments"][name] = found["segments"].get(name, 0) + count
            yield found
        yield found

    def _explain(self, owned: Owned, about: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Why this customer is in a segment or not; nothing where there is no such row, or the segment is not in use yet.

        Of who is part of another customer: which, because that one's rows may lie elsewhere."""
        judge = self._worker.judgement()
        rows, bit = owned.state.find(ids_from_hex(about["customer_id"].encode())), judge.segments.names().get(about["segment"])
        if rows[0] < 0 or bit is None:
            yield {}
            return
        home = owned.state.merged.home(int(rows[0]))
        if home is not None:
            yield {"part_of": home}
            return
        (view,) = [seen.view(judge.ask) for seen in owned.everyone(rows) if len(seen.rows)]
        segment = judge.segments.by_bit[bit]
        inside = bool(int(owned.state.membership[rows[0]]) >> bit & 1)
        found = {"inside": inside, "enters": explain(segment.enters, view), "as_of": self._worker.now()}
        yield found | ({"stays": explain(segment.stays, view)} if segment.stays is not None else {})

    def _tell(self, question: str, number: int, found: dict[str, Any] | None) -> None:
        task = asyncio.create_task(self._store(question, number, found or {}))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _store(self, question: str, number: int, found: dict[str, Any]) -> None:
        try:
            await in_store(store.answer, question, number, found)
        except Unavailable as away:
            log.warning("an answer could not be given: %s", away)
