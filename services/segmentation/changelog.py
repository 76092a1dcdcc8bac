"""What segmentation-state-v1 holds: a record for each row, and one for each partition that says how far its rows are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import count

import msgspec
import numpy as np

from services.segmentation.domain.arrays import hex_from_ids
from services.segmentation.domain.models.rfm import NO_QUINTILES, Quintiles
from services.segmentation.domain.models.scoring_model import Crowd, Market
from services.segmentation.domain.models.value_curve import ValueCurve
from services.segmentation.positions import NOTHING, Positions
from shared.streaming.partitions import partition_for
from shared.streaming.records import Message

META_PREFIX = b"partition-"
NAMES_PREFIX = b"names-"


class CrowdMeta(msgspec.Struct, frozen=True):
    """One kind of customers in that market."""

    recency_days: list[int] = []
    frequency: list[int] = []
    spend_minor: list[int] = []
    class_a_minor: int = 0
    class_b_minor: int = 0
    mean_spend_minor: float = 0.0
    buyers: int = 0


class MarketMeta(msgspec.Struct, frozen=True):
    """The market that memberships were settled by, so that a restart does not judge by another."""

    consumers: CrowdMeta = CrowdMeta()
    traders: CrowdMeta | None = None
    """None where traders are judged among everybody with the consumers."""
    buyers: int = 0
    history_days: int = 0


class PartitionMeta(msgspec.Struct, frozen=True, kw_only=True):
    """The state of one partition besides its rows."""

    format: int = 1
    """Of the rows: where it is not this version's, the rows have to be rebuilt."""
    generation: int
    """Of the writer: grows whenever the partition is taken over, so a predecessor's late records lose."""
    revision: int
    """Counts this writer's records."""
    floor: int
    """Rows written by generations below it are void: a rebuild began there."""
    catching_up: bool
    events_topic_id: str
    applied: int
    resume: int
    customers_topic_id: str
    customers_applied: int
    offers_topic_id: str = ""
    offers_applied: int = NOTHING
    vector: dict[str, int]
    parked: list[tuple[str, int]]
    doubtful: list[tuple[int, int]]
    change_number: int
    """The highest that was given to a change of memberships."""
    published: int
    """Changes up to this number were published."""
    judged_by: str = ""
    """Model and rules that all rows were last judged by; where a worker judges by others, what moves is their doing."""
    silent_rounds: int = 0
    """Rounds of re-scoring after a rebuild that are still to be nobody's news."""
    silent_customers_until: int = 0
    """Customers before this offset of customers-v1 are not to be news either; 0 where all are."""
    market: MarketMeta = MarketMeta()

    def positions(self) -> Positions:
        """How far the rows are."""
        return Positions(
            events_topic_id=self.events_topic_id,
            applied=self.applied,
            customers_topic_id=self.customers_topic_id,
            customers_applied=self.customers_applied,
            offers_topic_id=self.offers_topic_id,
            offers_applied=self.offers_applied,
            vector={log.encode(): offset for log, offset in self.vector.items()},
            parked={(log.encode(), offset) for log, offset in self.parked},
            doubtful=dict(self.doubtful),
        )


_DECODER = msgspec.json.Decoder(PartitionMeta)


_NAMES = msgspec.json.Decoder(dict[int, str])


def meta_key(partition: int) -> bytes:
    """The key of a partition's own record."""
    return _own_key(META_PREFIX, partition)


@lru_cache(maxsize=64)
def _own_key(prefix: bytes, partition: int) -> bytes:
    """The first key of its kind that the partitioner puts there."""
    return next(key for key in (prefix + f"{partition}-{n}".encode() for n in count()) if partition_for(key) == partition)


def meta_message(partition: int, meta: PartitionMeta) -> Message:
    """The partition's own record."""
    return Message(meta_key(partition), msgspec.json.encode(meta))


def names_message(partition: int, names: Mapping[int, str]) -> Message:
    """What the names in a partition's tallies stand for."""
    return Message(_own_key(NAMES_PREFIX, partition), msgspec.json.encode(names))


def read_names(value: bytes) -> dict[int, str]:
    """Read it back. Raises ValueError."""
    return _NAMES.decode(value)


def read_meta(value: bytes) -> PartitionMeta:
    """Read it back. Raises ValueError."""
    return _DECODER.decode(value)


def row_messages(ids: np.ndarray[tuple[int, int], np.dtype[np.uint64]], packed: Sequence[bytes]) -> list[Message]:
    """The records of rows."""
    return [Message(key.encode(), value) for key, value in zip(hex_from_ids(ids), packed, strict=True)]


def market_meta(market: Market) -> MarketMeta:
    """A market as it is kept."""
    traders = None if market.traders is market.consumers else _crowd_meta(market.traders)
    return MarketMeta(_crowd_meta(market.consumers), traders, market.buyers, market.history_days)


def market_from(kept: MarketMeta) -> Market:
    """A market read back; its curves have lost their points, which only the API shows."""
    # Before kinds were kept apart there was no consumers' crowd; the first round of re-scoring finds one.
    if not kept.buyers or not kept.consumers.buyers:
        return Market()
    consumers = _crowd_from(kept.consumers)
    return Market(consumers, _crowd_from(kept.traders) if kept.traders else consumers, kept.buyers, kept.history_days)


def _crowd_meta(crowd: Crowd) -> CrowdMeta:
    quintiles, curve = crowd.quintiles, crowd.curve
    return CrowdMeta(
        quintiles.recency_days.tolist(),
        quintiles.frequency.tolist(),
        quintiles.spend_minor.tolist(),
        curve.class_a_minor,
        curve.class_b_minor,
        crowd.mean_spend_minor,
        crowd.buyers,
    )


def _crowd_from(kept: CrowdMeta) -> Crowd:
    cuts = [np.array(values, dtype=np.int64) for values in (kept.recency_days, kept.frequency, kept.spend_minor)]
    quintiles = Quintiles(*cuts) if kept.recency_days else NO_QUINTILES
    return Crowd(quintiles, ValueCurve(kept.class_a_minor, kept.class_b_minor), kept.mean_spend_minor, kept.buyers)
