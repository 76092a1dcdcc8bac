"""The map: who says what to whom. `dear topics apply` makes brokers agree with it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from shared.contracts.customers import ConsentChanged, CustomerIdentified, CustomerPublished, MergeRequested, SplitRequested
from shared.contracts.dead_letters import EventParked
from shared.contracts.deliveries import DeliveryRecorded
from shared.contracts.envelope import EventData
from shared.contracts.interactions import InteractionRecorded
from shared.contracts.offers import OfferDecided, PointsPosted
from shared.contracts.privacy import PrivacyAnswered, PrivacyRequested
from shared.contracts.products import ProductPublished
from shared.contracts.purchases import PurchaseRecorded, PurchaseRefunded
from shared.contracts.scores import MarketSampled, NeedModelPublished, ScoresComputed, ScoringModelPublished, SegmentEntered, SegmentLeft

PARTITION_COUNT = 8
"""For life: another count would move keys, and needs a new version of the topic."""

WEEK = timedelta(days=7)

MAX_MESSAGE_BYTES = 1_000_000
"""With key and headers; a little below the brokers' own default."""


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic: what it carries, keyed by what, who writes it, who reads it, and what is kept."""

    name: str
    carries: tuple[type[EventData], ...]
    key: str
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    kept_for: timedelta | None = None
    compacted: bool = False
    compaction_lag: timedelta | None = None
    partitions: int = PARTITION_COUNT
    max_message_bytes: int = MAX_MESSAGE_BYTES

    def settings(self) -> dict[str, str]:
        """The broker settings that this topic needs."""
        policies = [name for name, wanted in (("compact", self.compacted), ("delete", self.kept_for)) if wanted]
        settings = {"cleanup.policy": ",".join(policies)}
        if self.kept_for:
            settings["retention.ms"] = str(int(self.kept_for.total_seconds() * 1000))
        if self.max_message_bytes != MAX_MESSAGE_BYTES:
            settings["max.message.bytes"] = str(self.max_message_bytes)
        if self.compaction_lag:
            settings["min.compaction.lag.ms"] = str(int(self.compaction_lag.total_seconds() * 1000))
        return settings


PURCHASES = Topic(
    "purchases-v1", (PurchaseRecorded, PurchaseRefunded), key="customer reference",
    producers=("tills", "web shops", "identity"), consumers=("identity",), kept_for=WEEK,
)  # fmt: skip
INTERACTIONS = Topic(
    "interactions-v1", (InteractionRecorded,), key="customer reference",
    producers=("web shops", "call centre", "identity", "notifications"), consumers=("identity",), kept_for=WEEK,
)  # fmt: skip
CUSTOMER_UPDATES = Topic(
    "customer-updates-v1", (CustomerIdentified, ConsentChanged, MergeRequested, SplitRequested), key="customer reference",
    producers=("web shops", "call centre", "identity", "notifications"), consumers=("identity",), kept_for=WEEK,
)  # fmt: skip
PRODUCTS = Topic(
    "products-v1", (ProductPublished,), key="sku",
    producers=("web shops",), consumers=("campaigns",), compacted=True,
)  # fmt: skip
CUSTOMER_EVENTS = Topic(
    "customer-events-v1", (PurchaseRecorded, PurchaseRefunded, InteractionRecorded), key="profile id",
    producers=("identity",), consumers=("segmentation", "campaigns"), kept_for=WEEK,
)  # fmt: skip
CUSTOMERS = Topic(
    "customers-v1", (CustomerPublished,), key="customer id",
    producers=("identity",), consumers=("segmentation", "campaigns", "notifications"), compacted=True,
)  # fmt: skip
PROFILE_ROWS = Topic(
    "profile-rows-v1", (), key="profile id, in the partition of its customer's",
    producers=("segmentation",), consumers=("segmentation",), compacted=True, compaction_lag=timedelta(hours=1),
)  # fmt: skip
SEGMENTATION_STATE = Topic(
    "segmentation-state-v1", (), key="profile id",
    producers=("segmentation",), consumers=(), compacted=True, compaction_lag=timedelta(hours=1),
)  # fmt: skip
SCORING_MODELS = Topic(
    "scoring-models-v1", (ScoringModelPublished, NeedModelPublished, MarketSampled), key="model or sample name",
    producers=("segmentation",), consumers=(), compacted=True,
)  # fmt: skip
SCORES = Topic(
    "scores-v1", (ScoresComputed,), key="customer id",
    producers=("segmentation",), consumers=("campaigns",), compacted=True,
)  # fmt: skip
SEGMENT_CHANGES = Topic(
    "segment-changes-v1", (SegmentEntered, SegmentLeft), key="customer id",
    producers=("segmentation",), consumers=("campaigns",), kept_for=WEEK,
)  # fmt: skip
OFFERS = Topic(
    "offers-v1", (OfferDecided,), key="customer id",
    producers=("campaigns",), consumers=("notifications", "segmentation"), kept_for=WEEK,
)  # fmt: skip
LOYALTY = Topic(
    "loyalty-v1", (PointsPosted,), key="customer id",
    producers=("campaigns",), consumers=(), kept_for=WEEK,
)  # fmt: skip
DELIVERIES = Topic(
    "deliveries-v1", (DeliveryRecorded,), key="customer id",
    producers=("notifications",), consumers=("campaigns",), kept_for=WEEK,
)  # fmt: skip
PRIVACY = Topic(
    "privacy-v1", (PrivacyRequested, PrivacyAnswered), key="profile id",
    producers=("identity", "segmentation", "campaigns", "notifications"),
    consumers=("identity", "segmentation", "campaigns", "notifications"), kept_for=WEEK,
)  # fmt: skip
DEAD_LETTERS = Topic(
    "dead-letters-v1", (EventParked,), key="group/topic id/partition/offset",
    producers=("identity", "segmentation", "campaigns", "notifications"), consumers=(),
    compacted=True, kept_for=timedelta(days=30), max_message_bytes=3_000_000,
)  # fmt: skip

TOPICS: tuple[Topic, ...] = (
    PURCHASES, INTERACTIONS, CUSTOMER_UPDATES, PRODUCTS, CUSTOMER_EVENTS, CUSTOMERS, PROFILE_ROWS, SEGMENTATION_STATE,
    SCORING_MODELS, SCORES, SEGMENT_CHANGES, OFFERS, LOYALTY, DELIVERIES, PRIVACY, DEAD_LETTERS,
)  # fmt: skip


def topics_read_by(service: str) -> tuple[Topic, ...]:
    """The topics that a service's consumer group reads, as the map says."""
    return tuple(topic for topic in TOPICS if service in topic.consumers)
