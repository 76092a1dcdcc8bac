"""One partition that this worker owns: its rows, how far they are, and what still has to be written or said."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import IntEnum

import numpy as np

from services.segmentation.changelog import MarketMeta, PartitionMeta, market_meta, meta_message, names_message, row_messages
from services.segmentation.domain.arrays import Bits, Bytes, Integers
from services.segmentation.domain.models.scoring_model import Market
from services.segmentation.domain.need_labels import NeedLabels
from services.segmentation.domain.rules import View
from services.segmentation.domain.scoring import ScoreBatch, score, told_signature
from services.segmentation.domain.segments import Judgement, memberships
from services.segmentation.domain.state import FORMAT, CustomerState, LastChange, Written, pack
from services.segmentation.domain.state.rows import WAITING
from services.segmentation.positions import NOTHING, Positions
from shared.clock import BEGINNING
from shared.streaming.records import Message

NEVER_SEEN = (-1, -1, BEGINNING)
EVERY_ROW = 2**62


class Cause(IntEnum):
    """Why rows are settled; the names in lower case are among those of `shared.contracts.scores.Cause`."""

    EVENT = 0
    TIME = 1


@dataclass(frozen=True, slots=True)
class Change:
    """A row's memberships changed and nobody was told yet."""

    previous: int
    caused_ms: int
    cause: Cause = Cause.EVENT
    by_model: int = 0
    """The bits that only a new model moved: nobody did anything, and no time passed that would have."""
    by_rule: int = 0
    """The bits that only a new rule moved."""

    def cause_of(self, bit: int) -> str:
        """Why this segment was entered or left."""
        if self.by_model >> bit & 1:
            return "model"
        return "rule" if self.by_rule >> bit & 1 else self.cause.name.lower()


@dataclass(frozen=True, slots=True)
class Trigger:
    """What makes rows be settled: by row when, and why."""

    at_ms: Integers
    cause: Cause
    judged_before: Judgement | None = None
    """What was judged by before, as long as rows wait for their turn with a new model or new rules."""
    changed_bits: int = 0
    """The segments whose rules are new."""
    needs_before: Bytes | None = None
    """By row: its need by what was judged by before, where needs were looked at again; None: what the row says."""

    def part(self, places: Integers) -> Trigger:
        """The same of some rows."""
        needs = self.needs_before[places] if self.needs_before is not None else None
        return replace(self, at_ms=self.at_ms[places], needs_before=needs)


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
    judged_by: str = ""
    """Model and rules that all rows were last judged by."""
    turned: int = EVERY_ROW
    """Rows below it have been judged by what is in use; all, unless something new is being taken up."""
    needs_by: tuple[int, int] | None = None
    """Need model and 4-week period that rows which are not due have their needs by; None: not looked at since the rows are ours."""
    unwritten: bool = False
    """The partition's own record is behind."""
    seen: tuple[int, int, datetime] = NEVER_SEEN
    """What the read model was last told about: revision, round of re-scoring, and when."""
    named: int = 0
    """How many of the state's names are in the changelog."""
    _dirty: list[Integers] = field(default_factory=list)

    def touch(self, rows: Integers) -> None:
        """These rows have to be written."""
        if len(rows):
            self._dirty.append(rows)
        self.unwritten = True

    def settle(self, rows: Integers, trigger: Trigger, judge: Judgement) -> ScoreBatch:
        """Score rows and settle their memberships. Changes get their numbers."""
        state = self.state
        scores = score(state, rows, judge.ask)
        was = state.membership[rows]
        now = memberships(View(state, scores, judge.ask), was, judge.segments)
        moved = np.flatnonzero(now != was)
        if len(moved):
            self._note_changes(rows[moved], was[moved], now[moved], trigger.part(moved))
            state.membership[rows] = now
            self.touch(rows[moved])
            self.mark_untold(rows[moved])
        self.mark_untold(rows[told_signature(scores) != state.told[rows]])
        return scores

    def settle_silently(self, rows: Integers, judge: Judgement) -> ScoreBatch:
        """Set the memberships of rebuilt rows: history is nobody's news."""
        scores = score(self.state, rows, judge.ask)
        was = self.state.membership[rows]
        now = memberships(View(self.state, scores, judge.ask), was, judge.segments)
        self.state.membership[rows] = now
        self.touch(rows[now != was])
        self.mark_untold(rows)
        return scores

    def look_at_needs(self, needs: NeedLabels, period: int) -> None:
        """From now on needs are seen by this; where they were seen by something else, all rows are due."""
        if self.needs_by != (needs.version, period):
            self.needs_by = (needs.version, period)
            self.state.need_due[: self.state.count] = True

    def assign_needs(self, rows: Integers, judge: Judgement, before: Judgement | None) -> Bytes:
        """Set the needs of those who are due. The answer: by row, what its need would be by what was judged by before."""
        state = self.state
        was = state.need[rows]
        due = np.flatnonzero(state.need_due[rows])
        if judge.needs is None or self.needs_by is None or not len(due):
            return was
        _, period = self.needs_by
        now = judge.needs.of(state, rows[due], period)
        moved = now != was[due]
        changed, at = rows[due[moved]], due[moved]
        state.need[changed] = now[moved]
        state.need_due[rows[due]] = False
        if not len(changed):
            return was
        self.touch(changed)
        self.mark_untold(changed)
        if before is None or before.needs is judge.needs:
            was[at] = now[moved]
        elif before.needs is not None:
            was[at] = before.needs.of(state, changed, period)
        return was

    def take_up(self, judged_by: str) -> None:
        """From now on rows are judged by this; where they were judged by something else, their turns lie before them."""
        if self.judged_by and self.judged_by != judged_by:
            self.turned = 0
        else:
            self.judged_by, self.turned = judged_by, EVERY_ROW

    def had_turns(self, judged_by: str) -> None:
        """Every row was judged by this."""
        if self.turned != EVERY_ROW:
            self.judged_by, self.turned, self.unwritten = judged_by, EVERY_ROW, True

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
        """What has to be written: new names, the changed rows, then the partition's own record, in this order."""
        return [*self.name_messages(), *self.row_messages(self.dirty_rows()), meta_message(self.number, self.meta(market))]

    def name_messages(self) -> list[Message]:
        """All names, where some are new: rows that use them come after them."""
        return [names_message(self.number, self.state.names)] if len(self.state.names) > self.named else []

    def dirty_rows(self) -> Integers:
        """The rows that have to be written, each once."""
        if len(self._dirty) == 1:
            return self._dirty[0]
        return np.unique(np.concatenate(self._dirty)) if self._dirty else np.zeros(0, dtype=np.int64)

    def row_messages(self, rows: Integers) -> list[Message]:
        """The records of rows as they are now."""
        newest = LastChange(self.state.membership[rows].copy(), *np.zeros((2, len(rows)), np.int64), *np.zeros((2, len(rows)), np.uint64))
        if self.news:
            for place, row in enumerate(rows.tolist()):
                if (change := self.news.get(row)) is not None:
                    newest.previous[place], newest.caused_ms[place], newest.cause[place] = change.previous, change.caused_ms, change.cause
                    newest.by_model[place], newest.by_rule[place] = change.by_model, change.by_rule
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
            judged_by=self.judged_by,
            silent_customers_until=self.silent_customers_until,
            market=market_meta(market) if market.buyers else MarketMeta(),
        )

    def written(self) -> None:
        """What `messages` gave is acknowledged."""
        self._dirty.clear()
        self.unwritten = False
        self.named = len(self.state.names)

    def told(self) -> None:
        """All news are acknowledged."""
        self.news.clear()
        self.published = self.change_number

    def skips(self, row: int, offset: int) -> bool:
        """Does a row recovered from beyond our position hold this event already?"""
        return offset <= self.ahead.get(row, NOTHING)

    def _moved_by_what_is_new(self, rows: Integers, was: Bits, now: Bits, trigger: Trigger) -> tuple[Bits, Bits]:
        """The bits that the new model moved, and those that a new rule did, in rows that had not had their turn.

        That is what differs now, and would not have differed by what customers were judged by before.
        """
        by_new = np.where(rows >= self.turned, now ^ was, np.uint64(0))
        before = trigger.judged_before
        if before is not None and by_new.any():
            view = View(self.state, score(self.state, rows, before.ask), before.ask, trigger.needs_before)
            by_new &= ~(memberships(view, was, before.segments) ^ was)
        ruled = np.uint64(trigger.changed_bits)
        return by_new & ~ruled, by_new & ruled

    def _note_changes(self, rows: Integers, was: Bits, now: Bits, trigger: Trigger) -> None:
        numbers = np.arange(self.change_number + 1, self.change_number + 1 + len(rows), dtype=np.uint64)
        self.change_number += len(rows)
        self.state.change_number[rows] = numbers
        if self.turned == EVERY_ROW:
            for row, before, at in zip(rows.tolist(), was.tolist(), trigger.at_ms.tolist(), strict=True):
                self.news[row] = Change(before, at, trigger.cause)
            return
        moved = self._moved_by_what_is_new(rows, was, now, trigger)
        columns = (rows, was, trigger.at_ms, *moved)
        for row, before, at, by_model, by_rule in zip(*(column.tolist() for column in columns), strict=True):
            self.news[row] = Change(before, at, trigger.cause, by_model, by_rule)
