"""One partition that this worker owns: its rows, how far they are, and what still has to be written or said."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

import numpy as np

from services.segmentation.causes import Cause, Change, Trigger
from services.segmentation.changelog import MarketMeta, PartitionMeta, market_meta, meta_message, names_message, row_messages
from services.segmentation.copies import Copies, Said, copy_message
from services.segmentation.customers import Seen, look_at
from services.segmentation.domain.arrays import Bits, Bytes, Integers, hex_from_ids
from services.segmentation.domain.events import DAY_MS
from services.segmentation.domain.models.scoring_model import Market
from services.segmentation.domain.need_labels import NeedLabels
from services.segmentation.domain.scoring import Question, ScoreBatch, told_signature
from services.segmentation.domain.segments import Judgement, memberships
from services.segmentation.domain.state import FORMAT, CustomerState, LastChange, Written, pack
from services.segmentation.domain.state.rows import WAITING
from services.segmentation.positions import NOTHING, Positions
from shared.clock import BEGINNING
from shared.streaming.partitions import partition_for
from shared.streaming.records import Message

NEVER_SEEN = (-1, -1, BEGINNING)
EVERY_ROW = 2**62


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
    told_by: Question | None = None
    """What was asked of the scores that were last told."""
    named: int = 0
    """How many of the state's names are in the changelog."""
    copies: Copies = field(default_factory=Copies)
    """Rows of profiles that are part of customers of this partition."""
    gone: set[tuple[str, int]] = field(default_factory=set)
    """Profiles whose copies have to be taken out of partitions: before rows are written, so that who dies in between does it again."""
    _dirty: list[Integers] = field(default_factory=list)
    _owed: list[Integers] = field(default_factory=list)
    """Rows whose copies have to be published though they did not change."""
    _caused_ms: dict[int, int] = field(default_factory=dict)
    """By row whose copy is to be published: when what changed it happened."""

    def touch(self, rows: Integers) -> None:
        """These rows have to be written."""
        if len(rows):
            self._dirty.append(rows)
        self.unwritten = True

    def customers(self, rows: Integers) -> list[Seen]:
        """Those of these rows that are customers, in one part or two.

        Left out is who is part of another customer, and whose other profiles' rows are not all here yet: he stays as he was.
        """
        return look_at(self.state, self.copies, rows, only_customers=True)

    def everyone(self, rows: Integers) -> list[Seen]:
        """All of these rows; who is no customer that is whole is seen by its own row."""
        return look_at(self.state, self.copies, rows, only_customers=False)

    def settle(self, rows: Integers, trigger: Trigger, judge: Judgement) -> list[ScoreBatch]:
        """Score the customers among rows and settle their memberships. Changes get their numbers."""
        if self.state.merged:
            self._leave_everything(rows, trigger)
        return [self._settle(seen, trigger.part(seen.places), judge) for seen in self.customers(rows)]

    def _settle(self, seen: Seen, trigger: Trigger, judge: Judgement) -> ScoreBatch:
        view = seen.view(judge.ask)
        was = self.state.membership[seen.rows]
        now = memberships(view, was, judge.segments)
        moved = np.flatnonzero(now != was)
        if len(moved):
            part = trigger.part(moved)
            self._move(seen.rows[moved], now[moved], part, *self._moved_by_what_is_new(seen.part(moved), was[moved], now[moved], part))
        self.mark_untold(seen.rows[told_signature(view.scores) != self.state.told[seen.rows]])
        return view.scores

    def _leave_everything(self, rows: Integers, trigger: Trigger) -> None:
        """Who is part of another customer is in no segment; his row's change is told to that customer's owner."""
        absorbed = np.flatnonzero(self.state.merged.absorbed(rows))
        if trigger.cause is Cause.EVENT:
            for row, at_ms in zip(rows[absorbed].tolist(), trigger.at_ms[absorbed].tolist(), strict=True):
                self._caused_ms[row] = max(at_ms, self._caused_ms.get(row, at_ms))
        leaving = absorbed[self.state.membership[rows[absorbed]] != 0]
        if len(leaving):
            self._move(rows[leaving], np.zeros(len(leaving), dtype=np.uint64), trigger.part(leaving))

    def settle_silently(self, rows: Integers, judge: Judgement) -> list[ScoreBatch]:
        """Set the memberships of rebuilt rows: history is nobody's news."""
        found = []
        now = self.state.membership[rows]
        now[self.state.merged.absorbed(rows)] = 0
        for seen in self.customers(rows):
            view = seen.view(judge.ask)
            now[seen.places] = memberships(view, self.state.membership[seen.rows], judge.segments)
            found.append(view.scores)
        self.touch(rows[now != self.state.membership[rows]])
        self.state.membership[rows] = now
        self.mark_untold(rows)
        return found

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
        for seen in self.customers(rows[due]):
            at = due[seen.places]
            was[at] = self._assign_needs(seen, was[at], judge.needs, judge.needs if before is None else before.needs)
        state.need_due[rows[due]] = False
        return was

    def _assign_needs(self, seen: Seen, was: Bytes, needs: NeedLabels, before: NeedLabels | None) -> Bytes:
        _, period = self.needs_by or (0, 0)
        now = needs.of(seen.state, seen.at, period)
        moved = np.flatnonzero(now != was)
        if len(moved):
            changed = seen.rows[moved]
            self.state.need[changed] = now[moved]
            self.touch(changed)
            self.mark_untold(changed)
            if before is needs:
                was[moved] = now[moved]
            elif before is not None:
                was[moved] = before.of(seen.state, seen.at[moved], period)
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

    def belongs(self, row: int, profile: str, home: str | None, others: tuple[str, ...]) -> None:
        """As identity says: a profile is part of another customer, or one itself, maybe with others."""
        merged = self.state.merged
        before, known = merged.home(row), merged.others(row)
        if (before, known) == (home, others):
            return
        merged.put(row, home, others)
        self.state.need_due[row] = True
        if before is not None:
            self.gone.add((profile, partition_for(before.encode())))
        if home is not None:
            # There it is written over.
            self.gone.discard((profile, partition_for(home.encode())))

    def owe_copies(self) -> None:
        """Every copy of this partition's rows has to be published: as a new owner, whose word counts more than any before."""
        absorbed = self.state.merged.absorbed_rows()
        if len(absorbed):
            self._owed.append(absorbed)
            self.unwritten = True

    def copy_messages(self) -> list[Message]:
        """The copies of rows that changed, or are owed."""
        merged = self.state.merged
        if not merged:
            return []
        rows = np.unique(np.concatenate([*self._owed, self.dirty_rows()]))
        rows = rows[merged.absorbed(rows)]
        profiles, packed = hex_from_ids(self.state.ids[rows]), self._packed(rows)
        is_rebuilt = bool(self.silent_rounds or self.silent_customers_until)
        return [
            copy_message(
                profile,
                Said(
                    customer=merged.home(row) or profile,
                    caused_ms=self._cause_of(row),
                    is_history=is_rebuilt and row not in self._caused_ms,
                    names=named,
                    row=value,
                ),
            )
            for profile, row, named, value in zip(profiles, rows.tolist(), self._names_of(rows), packed, strict=True)
        ]

    def _cause_of(self, row: int) -> int:
        """Where nothing happened that we know of, the newest purchase: what starts by its time does not start late."""
        return self._caused_ms.get(row, max(int(self.state.last_day[row]), 0) * DAY_MS)

    def _names_of(self, rows: Integers) -> list[dict[int, str]]:
        """By row: what the names in its tallies stand for."""
        state, named = self.state, [dict[int, str]() for _ in rows]
        for tally in (state.bought, state.done):
            entries, places = tally.of_rows(rows)
            for place, code in zip(places.tolist(), tally.keys[entries, 1].tolist(), strict=True):
                if code in state.names:
                    named[place][code] = state.names[code]
        return named

    def mark_moved(self, rows: Integers) -> None:
        """Customers among these rows have to be stored, whether what is told of them changed or not."""
        merged = self.state.merged
        self.mark_unstored(rows[~merged.absorbed(rows)] if merged else rows)

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
        return row_messages(self.state.ids[rows], self._packed(rows))

    def _packed(self, rows: Integers) -> list[bytes]:
        newest = LastChange(self.state.membership[rows].copy(), *np.zeros((2, len(rows)), np.int64), *np.zeros((2, len(rows)), np.uint64))
        if self.news:
            for place, row in enumerate(rows.tolist()):
                if (change := self.news.get(row)) is not None:
                    newest.previous[place], newest.caused_ms[place], newest.cause[place] = change.previous, change.caused_ms, change.cause
                    newest.by_model[place], newest.by_rule[place] = change.by_model, change.by_rule
        return pack(self.state, rows, Written(self.generation, self._held_up_to(rows)), newest)

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
            offers_topic_id=positions.offers_topic_id,
            offers_applied=positions.offers_applied,
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
        self._owed.clear()
        self._caused_ms.clear()
        self.gone.clear()
        self.unwritten = False
        self.named = len(self.state.names)

    def told(self) -> None:
        """All news are acknowledged."""
        self.news.clear()
        self.published = self.change_number

    def remove(self, rows: Integers) -> None:
        """Take rows out. Only when nothing is waiting to be written or told: those behind them get other numbers.

        A round of re-scoring under way passes over as many rows as moved up; the next one has them.
        """
        kept = np.setdiff1d(self.state.every_row(), rows)
        self.state = self.state.keep_only(kept)
        numbers = {row: number for number, row in enumerate(kept.tolist()) if row in self.ahead}
        self.ahead = {numbers[row]: offset for row, offset in self.ahead.items() if row in numbers}
        if self.turned != EVERY_ROW:
            self.turned -= int((rows < self.turned).sum())

    def skips(self, row: int, offset: int) -> bool:
        """Does a row recovered from beyond our position hold this event already?"""
        return offset <= self.ahead.get(row, NOTHING)

    def _moved_by_what_is_new(self, seen: Seen, was: Bits, now: Bits, trigger: Trigger) -> tuple[Bits, Bits] | tuple[()]:
        """The bits that the new model moved, and those that a new rule did, in rows that had not had their turn; nothing where all had.

        That is what differs now, and would not have differed by what customers were judged by before.
        """
        if self.turned == EVERY_ROW:
            return ()
        by_new = np.where(seen.rows >= self.turned, now ^ was, np.uint64(0))
        before = trigger.judged_before
        if before is not None and by_new.any():
            by_new &= ~(memberships(seen.view(before.ask, trigger.needs_before), was, before.segments) ^ was)
        ruled = np.uint64(trigger.changed_bits)
        return by_new & ~ruled, by_new & ruled

    def _move(self, rows: Integers, now: Bits, trigger: Trigger, *by_new: Bits) -> None:
        """Memberships become these, and the changes get their numbers; `by_new`: the bits that a new model moved, and a new rule."""
        numbers = np.arange(self.change_number + 1, self.change_number + 1 + len(rows), dtype=np.uint64)
        self.change_number += len(rows)
        self.state.change_number[rows] = numbers
        columns = (rows, self.state.membership[rows], trigger.at_ms, *by_new)
        for row, before, at, *moved_by in zip(*(column.tolist() for column in columns), strict=True):
            self.news[row] = Change(before, at, trigger.cause, *moved_by)
        self.state.membership[rows] = now
        self.touch(rows)
        self.mark_untold(rows)
