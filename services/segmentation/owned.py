"""One partition that this worker owns: its rows, how far they are, and what still has to be written or said."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum

import numpy as np

from services.segmentation.changelog import MarketMeta, PartitionMeta, market_meta, meta_message, row_messages
from services.segmentation.domain.arrays import Bits, Integers
from services.segmentation.domain.models.scoring_model import Market
from services.segmentation.domain.scoring import Question, ScoreBatch, score, told_signature
from services.segmentation.domain.segments import View, memberships
from services.segmentation.domain.state import FORMAT, CustomerState, LastChange, Written, pack
from services.segmentation.domain.state.rows import WAITING
from services.segmentation.positions import NOTHING, Positions
from shared.clock import BEGINNING
from shared.streaming.records import Message

NEVER_SEEN = (-1, -1, BEGINNING)
EVERY_ROW = 2**62


class Cause(IntEnum):
    """Why memberships changed; the names in lower case are those of `shared.contracts.scores.Cause`."""

    EVENT = 0
    TIME = 1
    MODEL = 2
    RULE = 3


@dataclass(frozen=True, slots=True)
class Change:
    """A row's memberships changed and nobody was told yet."""

    previous: int
    caused_ms: int
    cause: Cause = Cause.EVENT


@dataclass(frozen=True, slots=True)
class Trigger:
    """What makes rows be settled: by row when, and why."""

    at_ms: Integers
    cause: Cause
    judged_before: Question | None = None
    """What was asked before the model in use was taken up, as long as rows wait for their turn with it."""


@dataclass(slots=True)
class Owned:
    """Rows change first, then `messages` are published, then `written` is called; news of changes come after that."""

    number: int
    state: CustomerState
    positions: Positions
    generation: int
    floor: int = 0
    revision: int = 0
    change_number: int = 0
    published: int = 0
    news: dict[int, Change] = field(default_factory=dict)
    """By row: published when the row itself is."""
    ahead: dict[int, int] = field(default_factory=dict)
    """Rows recovered from beyond the partition's position, and the offset they hold already."""
    applying: bool = False
    """Stays true where applying a batch failed half way: the rows are then of no use."""
    silent_rounds: int = 0
    """Rounds of re-scoring whose changes are nobody's news: after a rebuild the market is not what it was."""
    silent_customers_until: int = 0
    """Where customers-v1 ended when the rows were rebuilt: who is in it up to there is nobody's news. 0 once that was read."""
    model: str = ""
    """What all rows were last judged by."""
    turned: int = EVERY_ROW
    """Rows below it have been judged by the model in use; all, unless a new one is being taken up."""
    unwritten: bool = False
    """The partition's own record is behind."""
    seen: tuple[int, int, datetime] = NEVER_SEEN
    """What the read model was last told about: revision, round of re-scoring, and when."""
    _dirty: list[Integers] = field(default_factory=list)

    def touch(self, rows: Integers) -> None:
        """These rows have to be written."""
        if len(rows):
            self._dirty.append(rows)
        self.unwritten = True

    def settle(self, rows: Integers, trigger: Trigger, ask: Question) -> ScoreBatch:
        """Score rows and settle their memberships. Changes get their numbers."""
        state = self.state
        scores = score(state, rows, ask)
        was = state.membership[rows]
        now = memberships(View(state, scores, ask), was)
        moved = np.flatnonzero(now != was)
        if len(moved):
            self._note_changes(
                rows[moved], was[moved].tolist(), trigger.at_ms[moved].tolist(), self._causes(rows[moved], was[moved], trigger)
            )
            state.membership[rows] = now
            self.touch(rows[moved])
            self.mark_untold(rows[moved])
        self.mark_untold(rows[told_signature(scores) != state.told[rows]])
        return scores

    def settle_silently(self, rows: Integers, ask: Question) -> ScoreBatch:
        """Set the memberships of rebuilt rows: history is nobody's news."""
        scores = score(self.state, rows, ask)
        was = self.state.membership[rows]
        now = memberships(View(self.state, scores, ask), was)
        self.state.membership[rows] = now
        self.touch(rows[now != was])
        self.mark_untold(rows)
        return scores

    def take_up(self, model: str) -> None:
        """From now on rows are judged by this model; those that were judged by another have their turns before them."""
        if self.model and self.model != model:
            self.turned = 0
        else:
            self.model, self.turned = model, EVERY_ROW

    def had_turns(self, model: str) -> None:
        """Every row was judged by this model."""
        if self.turned != EVERY_ROW:
            self.model, self.turned, self.unwritten = model, EVERY_ROW, True

    def mark_untold(self, rows: Integers) -> None:
        """Scores of these rows have to be published and stored."""
        self.state.unpublished[rows] = True
        self.mark_unstored(rows)

    def mark_unstored(self, rows: Integers) -> None:
        """These rows have to be stored; `settle` knows which of them changed enough to be published too."""
        self.state.unstored[rows] = WAITING

    def has_unsaid(self) -> bool:
        """Is anything not yet in the changelog or in the news?"""
        return bool(self.unwritten or self.news)

    def messages(self, market: Market) -> list[Message]:
        """What has to be written: the changed rows, then the partition's own record, in this order."""
        rows = self.dirty_rows()
        return [*self.row_messages(rows), meta_message(self.number, self.meta(market))]

    def dirty_rows(self) -> Integers:
        """The rows that have to be written, each once."""
        if len(self._dirty) == 1:
            return self._dirty[0]
        return np.unique(np.concatenate(self._dirty)) if self._dirty else np.zeros(0, dtype=np.int64)

    def row_messages(self, rows: Integers) -> list[Message]:
        """The records of rows as they are now."""
        newest = LastChange(self.state.membership[rows].copy(), *np.zeros((2, len(rows)), dtype=np.int64))
        if self.news:
            for place, row in enumerate(rows.tolist()):
                if (change := self.news.get(row)) is not None:
                    newest.previous[place], newest.caused_ms[place], newest.cause[place] = change.previous, change.caused_ms, change.cause
        written = Written(self.generation, self._held_up_to(rows))
        return row_messages(self.state.ids[rows], pack(self.state, rows, written, newest))

    def _held_up_to(self, rows: Integers) -> Integers:
        """By row: the offset of the newest event it holds. A row that is ahead stays ahead, whoever writes it and why."""
        applied = self.positions.applied
        if not self.ahead:
            return np.full(len(rows), applied, dtype=np.int64)
        return np.array([max(applied, self.ahead.get(row, NOTHING)) for row in rows.tolist()], dtype=np.int64)

    def meta(self, market: Market, catching_up: bool = False) -> PartitionMeta:
        """The partition's own record; each has a higher revision."""
        self.revision += 1
        positions = self.positions
        return PartitionMeta(
            format=FORMAT,
            generation=self.generation,
            revision=self.revision,
            floor=self.floor,
            catching_up=catching_up,
            events_topic_id=positions.events_topic_id,
            applied=positions.applied,
            resume=positions.resume,
            customers_topic_id=positions.customers_topic_id,
            customers_applied=positions.customers_applied,
            vector={log.decode(): offset for log, offset in positions.vector.items()},
            parked=[(log.decode(), offset) for log, offset in sorted(positions.parked)],
            doubtful=sorted(positions.doubtful.items()),
            change_number=self.change_number,
            published=self.published,
            silent_rounds=self.silent_rounds,
            model=self.model,
            silent_customers_until=self.silent_customers_until,
            market=market_meta(market) if market.buyers else MarketMeta(),
        )

    def written(self) -> None:
        """What `messages` gave is acknowledged."""
        self._dirty.clear()
        self.unwritten = False

    def told(self) -> None:
        """All news are acknowledged."""
        self.news.clear()
        self.published = self.change_number

    def skips(self, row: int, offset: int) -> bool:
        """Does a row recovered from beyond our position hold this event already?"""
        return offset <= self.ahead.get(row, NOTHING)

    def _causes(self, rows: Integers, was: Bits, trigger: Trigger) -> list[Cause]:
        """A row that has not had its turn with a new model was moved by the model, unless the old one would have moved it as well."""
        by_model = rows >= self.turned
        before = trigger.judged_before
        if before is not None and by_model.any():
            by_model &= memberships(View(self.state, score(self.state, rows, before), before), was) == was
        return [Cause.MODEL if by else trigger.cause for by in by_model.tolist()]

    def _note_changes(self, rows: Integers, previous: list[int], caused_ms: list[int], causes: list[Cause]) -> None:
        numbers = np.arange(self.change_number + 1, self.change_number + 1 + len(rows), dtype=np.uint64)
        self.change_number += len(rows)
        self.state.change_number[rows] = numbers
        for row, was, at_ms, cause in zip(rows.tolist(), previous, caused_ms, causes, strict=True):
            self.news[row] = Change(was, at_ms, cause)
