"""What one worker has in its hands: the partitions it owns, the model it scores with, the market it knows, and the way out."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime

from services.segmentation import metrics
from services.segmentation.causes import Cause, Trigger
from services.segmentation.copies import tombstones
from services.segmentation.decoding import Reading
from services.segmentation.domain.arrays import Integers
from services.segmentation.domain.events import DAY_MS
from services.segmentation.domain.market import market_of, sample_of
from services.segmentation.domain.models.scoring_model import Market, ScoringModel
from services.segmentation.domain.need_labels import NeedLabels
from services.segmentation.domain.scoring import Question
from services.segmentation.domain.segments import FIRST_OWN_BIT, SHIPPED, Judgement, Segments
from services.segmentation.markets import Markets
from services.segmentation.models_in_use import Models
from services.segmentation.news import change_messages
from services.segmentation.owned import Owned
from services.segmentation.settings import SegmentationSettings
from shared.clock import BEGINNING, Clock
from shared.contracts.topics import PROFILE_ROWS, SEGMENT_CHANGES, SEGMENTATION_STATE
from shared.service import Publisher
from shared.streaming.errors import Stuck
from shared.streaming.records import Message

OWN_BITS = (1 << 64) - (1 << FIRST_OWN_BIT)

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Worker:
    """Shared by handlers, timers and recovery; only one of the first two runs at a time."""

    publisher: Publisher
    clock: Clock
    settings: SegmentationSettings
    models: Models
    market: Market = field(default_factory=Market)
    markets: Markets = field(default_factory=Markets)
    """What is known of all partitions' buyers, also of those that other workers own."""
    owned: dict[int, Owned] = field(default_factory=dict)
    segments: Segments = SHIPPED
    """In use."""
    new_segments: Segments | None = None
    """As they were changed; in use from the next round of re-scoring on."""
    model: ScoringModel = field(init=False)
    """In use."""
    reading: Reading = field(init=False)
    asked_traits: frozenset[str] = frozenset()
    """Named by a question that is being answered."""
    needs: NeedLabels | None = None
    """In use."""
    margin_share: float | None = None
    """Of all revenue whose cost is known."""
    _before: tuple[ScoringModel, Segments, NeedLabels | None] | None = None
    """In use until now, as long as rows wait for their turn."""

    def __post_init__(self) -> None:
        self.reading = Reading(self.settings.reporting_currency, self.settings.needs_by == "category")
        self.model = self.models.best_for(self.market)

    def ask(self) -> Question:
        """What is asked of scores now."""
        return self._ask(self.model)

    def judgement(self) -> Judgement:
        """What customers are judged by now."""
        return Judgement(self.ask(), self.segments, self.needs)

    @property
    def judged_by(self) -> str:
        """The name of that."""
        return f"{self.model.name}/{self.segments.version}/{self.needs.version if self.needs is not None else 0}"

    def trigger(self, at_ms: Integers, cause: Cause) -> Trigger:
        """Why rows are settled now."""
        if self._before is None:
            # After a start in the middle of a take-up nobody knows any more which rules were new.
            return Trigger(at_ms, cause, changed_bits=OWN_BITS)
        before = self.judged_before()
        return Trigger(at_ms, cause, before, self.segments.changed_since(before.segments) if before is not None else 0)

    def judged_before(self) -> Judgement | None:
        """What customers were judged by until now, as long as rows wait for their turn; None where it is the same, or nobody knows."""
        if self._before is None:
            return None
        model, segments, needs = self._before
        return Judgement(self._ask(model), segments, needs)

    def judge_by(self, market: Market) -> None:
        """At a start: from here on everyone is judged by this market, and by the models that fit it."""
        if not self.owned:
            self.needs = self.models.needs
        self.market = market
        self.model = self.models.best_for(market)

    def has_something_new(self) -> bool:
        """Is there another model, or are there other rules, than those in use?"""
        return (
            self.models.best_for(self.market) != self.model
            or self._newest_segments() is not self.segments
            or self.models.needs is not self.needs
        )

    def wanted_traits(self) -> frozenset[str]:
        """The traits that rules in use, and those waiting for their turn, name; and those that somebody asks about."""
        waiting = self.new_segments.traits() if self.new_segments is not None else frozenset()
        return self.segments.traits() | waiting | self.asked_traits

    def has_traits(self, names: Collection[str]) -> bool:
        """Are these columns whole in every partition?"""
        return all(name in owned.state.traits and owned.state.traits[name].is_whole for owned in self.owned.values() for name in names)

    def _newest_segments(self) -> Segments:
        """New rules wait for the traits that they name."""
        new = self.new_segments
        return new if new is not None and self.has_traits(new.traits()) else self.segments

    def take_up_what_is_new(self) -> None:
        """Between two rounds of re-scoring: begin to judge by the best model and the newest rules there are by now."""
        if not self.has_something_new():
            return
        self._before = (self.model, self.segments, self.needs)
        self.model, self.segments = self.models.best_for(self.market), self._newest_segments()
        self.needs, self.new_segments = self.models.needs, None if self.segments is self.new_segments else self.new_segments
        log.info("customers are judged by %s now", self.judged_by)
        for owned in self.owned.values():
            owned.take_up(self.judged_by)

    def all_had_turns(self) -> None:
        """A round of re-scoring is over."""
        self._before = None

    def _ask(self, model: ScoringModel) -> Question:
        settings = self.settings
        return Question(
            self.now_ms() // DAY_MS,
            model,
            self.market,
            settings.defection_horizon_days,
            settings.discount_per_year,
            self.margin_share,
            settings.value_by == "profit",
        )

    def now(self) -> datetime:
        """The present."""
        return self.clock.now()

    def now_ms(self) -> int:
        """The present in milliseconds since the epoch."""
        return int((self.clock.now() - BEGINNING).total_seconds() * 1000)

    def partition(self, number: int) -> Owned:
        """The rows of a partition that is open. Raises Stuck where they are missing or torn: only a new start helps."""
        owned = self.owned.get(number)
        if owned is None:
            raise Stuck(f"partition {number} is not open")
        if owned.applying:
            raise Stuck(f"partition {number}: a batch was applied half; its rows have to be recovered")
        return owned

    async def write(self, owned: Owned) -> None:
        """Make durable what changed, then tell the news. Safe to repeat: after a failure it goes on where it stopped."""
        if owned.unwritten:
            if owned.gone:
                await self.publisher.publish(PROFILE_ROWS, tombstones(sorted(owned.gone), owned.generation))
            messages = owned.messages(self.market)
            await self.publisher.publish(SEGMENTATION_STATE, messages)
            metrics.ROWS_WRITTEN.inc(len(messages) - 1)
            if copies := owned.copy_messages():
                await self.publisher.publish(PROFILE_ROWS, copies)
            owned.written()
        if owned.news:
            await self.publisher.publish(SEGMENT_CHANGES, self._news(owned))
            _count(owned, self.segments)
            owned.told()

    async def tell_market(self) -> None:
        """Let other workers know how our buyers are spread, where that has changed. Raises Unavailable."""
        await self.markets.tell({number: owned.generation for number, owned in self.owned.items()}, self.publisher, self.now())

    def look_at_market(self, *besides: Owned) -> Market:
        """The market of all rows at hand and of what is known of others; for a start, when there are no scores yet to take it from."""
        ask, at_hand = self.ask(), {owned.number: owned for owned in (*self.owned.values(), *besides)}
        others = [known.sample for number, known in self.markets.known.items() if number not in at_hand]
        ours = [seen.view(ask).scores for owned in at_hand.values() for seen in owned.customers(owned.state.every_row())]
        return market_of([*others, *map(sample_of, ours)])

    def _news(self, owned: Owned) -> list[Message]:
        return change_messages(owned, self.judgement())


def _count(owned: Owned, segments: Segments) -> None:
    entries: Counter[str] = Counter()
    exits: Counter[str] = Counter()
    now = owned.state.membership[list(owned.news)].tolist()
    for change, is_in in zip(owned.news.values(), now, strict=True):
        entries.update(segments.names_of(is_in & ~change.previous))
        exits.update(segments.names_of(change.previous & ~is_in))
    for metric, counted in ((metrics.ENTRIES, entries), (metrics.EXITS, exits)):
        for name, count in counted.items():
            metric.labels(name).inc(count)
