"""How the buyers of every partition are spread: our own exactly, those of other workers as they publish it in scoring-models-v1."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from itertools import count

import numpy as np
from pydantic import ValidationError

from services.segmentation.domain.arrays import Integers
from services.segmentation.domain.market import Buyers, Sample, market_of
from services.segmentation.domain.models.scoring_model import Market
from services.segmentation.domain.models.spread import Spread
from services.segmentation.models_in_use import FITTED
from services.segmentation.news import SOURCE
from shared.contracts.envelope import Event, derived_id, envelope
from shared.contracts.scores import BuyersSpread, MarketSampled, ValuesSpread
from shared.contracts.topics import PARTITION_COUNT, SCORING_MODELS
from shared.service import Publisher
from shared.streaming.partitions import partition_for
from shared.streaming.records import Message, Record

log = logging.getLogger(__name__)

KEY_PREFIX = b"market/"
PAUSE_SECONDS = 30.0
"""Of the wall's clock, between two publications of one partition."""
NOTICEABLE = 0.0025
"""Share of a partition's buyers that must lie otherwise: more than thin bins alone can make it seem (1/512). With half of that again, a
merged quantile is at most .35 percentiles off."""
NOTICEABLE_SPEND = 0.01
"""The same of what a purchase day brings on average."""


@lru_cache(maxsize=64)
def market_key(partition: int) -> bytes:
    """The key of a partition's sample: the first of its kind that falls where the fitted models are, so that one reader hears of both."""
    where = partition_for(FITTED.encode())
    return next(key for key in (KEY_PREFIX + f"{partition}-{n}".encode() for n in count()) if partition_for(key) == where)


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a partition's buyers."""

    sample: Sample
    generation: int
    """Of the owner who said so."""


@dataclass(slots=True)
class Markets:
    """By partition: the newest sample, thin. Whoever loses a partition still knows it, until its next owner says more."""

    known: dict[int, Known] = field(default_factory=dict)
    _told: dict[int, Known] = field(default_factory=dict)
    """What we have published."""
    _on_top: dict[int, int] = field(default_factory=dict)
    """The generation whose record is the last of its key, as far as we have heard."""
    _told_at: dict[int, float] = field(default_factory=dict)

    def merged(self, ours: Mapping[int, Known]) -> Market | None:
        """The market of all partitions, ours as they were just seen; None where one is unknown: half a market is none."""
        for number, seen in ours.items():
            self.known[number] = Known(seen.sample.thinned(), seen.generation)
        if len(self.known) < PARTITION_COUNT:
            return None
        return market_of(ours[number].sample if number in ours else self.known[number].sample for number in range(PARTITION_COUNT))

    def is_whole_with(self, ours: Iterable[int]) -> bool:
        """Would the market be whole if we looked at these partitions now?"""
        return len(self.known.keys() | set(ours)) == PARTITION_COUNT

    def hear(self, records: Sequence[Record]) -> None:
        """Take in what these records of scoring-models-v1 say; what an earlier owner still says changes nothing."""
        for record in records:
            if record.value is None or not (record.key or b"").startswith(KEY_PREFIX):
                continue
            try:
                said = Event[MarketSampled].model_validate_json(record.value).data
            except ValidationError as error:
                log.error("a published sample of buyers cannot be read, and is not used: %s", error)
                continue
            self._take(said)

    def _take(self, said: MarketSampled) -> None:
        number, generation = said.partition, said.generation
        self._on_top[number] = generation
        known = self.known.get(number)
        newest = known.generation if known is not None else -1
        is_ours = number in self._told and self._told[number].generation == generation
        if generation >= newest and not is_ours:
            self.known[number] = Known(sample_from(said), generation)

    async def tell(self, owned: Mapping[int, int], publisher: Publisher, now: datetime) -> None:
        """Publish what lies noticeably otherwise than was last said of our partitions (number -> generation). Raises Unavailable."""
        for number, generation in owned.items():
            known = self.known.get(number)
            if known is None or known.generation != generation or not self._is_worth_telling(number, known):
                continue
            self._told_at[number] = time.monotonic()
            await publisher.append(SCORING_MODELS, message_of(number, known, now))
            self._told[number], self._on_top[number] = known, generation

    def _is_worth_telling(self, number: int, known: Known) -> bool:
        if number in self._told_at and time.monotonic() - self._told_at[number] < PAUSE_SECONDS:
            return False
        told = self._told.get(number)
        if told is None or told.generation != known.generation or self._on_top[number] != known.generation:
            # Never said, or an earlier owner wrote over it: compaction would keep the wrong one.
            return True
        return has_moved(told.sample, known.sample)


def has_moved(then: Sample, now: Sample) -> bool:
    """Do more buyers lie otherwise than may go unnoticed?"""
    return any(_moved(getattr(then, kind), getattr(now, kind)) for kind in ("consumers", "traders"))


def _moved(then: Buyers, now: Buyers) -> bool:
    if then.count == 0 or now.count == 0:
        return then.count != now.count
    if abs(now.count - then.count) > NOTICEABLE * then.count:
        return True
    if abs(now.day_spend_minor - then.day_spend_minor) > NOTICEABLE_SPEND * then.day_spend_minor:
        return True
    pairs = ((getattr(then, name), getattr(now, name)) for name in ("recency_days", "purchase_days", "year_spend"))
    return any(_distance(*pair) > NOTICEABLE for pair in pairs)


def _distance(then: Spread, now: Spread) -> float:
    """The greatest distance of both shares of customers up to any value (Kolmogorov and Smirnov's), as far as bins show it."""
    at = np.union1d(then.upto, now.upto)
    shares = [np.r_[0, np.cumsum(of.count)][np.searchsorted(of.upto, at, side="right")] / of.size for of in (then, now)]
    return float(np.abs(shares[0] - shares[1]).max())


def message_of(number: int, known: Known, now: datetime) -> Message:
    """A partition's sample as it is published."""
    said = MarketSampled(
        partition=number,
        generation=known.generation,
        as_of=now,
        consumers=_as_contract(known.sample.consumers),
        traders=_as_contract(known.sample.traders),
    )
    event = envelope(said, id=derived_id("market", number, known.generation, now.isoformat()), source=SOURCE, time=now)
    return Message(market_key(number), event.model_dump_json().encode())


def sample_from(said: MarketSampled) -> Sample:
    """A sample read back."""
    return Sample(_from_contract(said.consumers), _from_contract(said.traders))


def _as_contract(buyers: Buyers) -> BuyersSpread:
    return BuyersSpread(
        recency_days=_values_spread(buyers.recency_days),
        purchase_days=_values_spread(buyers.purchase_days),
        year_spend_minor=_values_spread(buyers.year_spend),
        day_spend_minor=buyers.day_spend_minor,
        longest_days=buyers.longest_days,
    )


def _values_spread(spread: Spread) -> ValuesSpread:
    upto, counts, totals = (tuple(column.tolist()) for column in (spread.upto, spread.count, spread.total_minor))
    return ValuesSpread(
        upto=upto, count=counts, total_minor=totals if any(totals) else (),
        hidden_count=spread.hidden_count, hidden_total_minor=spread.hidden_total,
    )  # fmt: skip


def _from_contract(said: BuyersSpread) -> Buyers:
    return Buyers(
        _spread_from(said.recency_days),
        _spread_from(said.purchase_days),
        _spread_from(said.year_spend_minor),
        said.day_spend_minor,
        said.longest_days,
    )


def _spread_from(said: ValuesSpread) -> Spread:
    upto, counts = (np.array(values, dtype=np.int64) for values in (said.upto, said.count))
    totals: Integers = np.array(said.total_minor or [0] * len(upto), dtype=np.int64)
    return Spread(upto, counts, totals, said.hidden_count, said.hidden_total_minor)
