"""Campaigns on the memory bus; the tests play identity, segmentation and notifications."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from services.campaigns.app import build
from services.campaigns.partitions import ReadTimeline
from services.campaigns.settings import CampaignsSettings
from shared.clock import ReplayClock
from shared.contracts.customers import CustomerPublished
from shared.contracts.deliveries import DeliveryRecorded
from shared.contracts.envelope import EventData, derived_id, envelope
from shared.contracts.purchases import PurchaseLine, PurchaseRecorded, PurchaseRefunded
from shared.contracts.scores import Cause, Scores, ScoresComputed, SegmentEntered, SegmentLeft
from shared.contracts.topics import CUSTOMER_EVENTS, CUSTOMERS, DELIVERIES, LOYALTY, OFFERS, SCORES, SEGMENT_CHANGES, Topic
from shared.service import Service
from shared.streaming.memory import MemoryBus
from shared.streaming.partitions import partition_for
from shared.streaming.records import Message, Position, Record, StoredRecord, origin_header

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SOME_SCORES = Scores(
    recency_days=90, frequency=4, monetary_minor=2500, rfm_cell="at_risk", value_class="A", buys_again=0.2, risk=0.8,
    risk_band="leaving", expected_value_minor=9000, value_at_risk_minor=7200, reasons=("overdue",), model="shipped",
)  # fmt: skip


def profile(number: int) -> str:
    """The id of a customer of the tests."""
    return derived_id("profile", f"loyalty_card:{number}")


class Identity:
    """What identity would have stored and published: events with their origins, in order."""

    def __init__(self, bus: MemoryBus) -> None:
        self._bus = bus
        self.stored: dict[int, list[StoredRecord]] = {partition: [] for partition in range(CUSTOMER_EVENTS.partitions)}
        self.reads: list[int] = []
        self._next_offset = 0

    async def tell(self, number: int, *told: tuple[str, EventData, datetime], store: bool = True) -> list[Message]:
        """Store and publish events of one profile."""
        messages = [self._message(number, *each) for each in told]
        partition = partition_for(messages[0].key)
        if store:
            self.stored[partition] += [StoredRecord(-1, 0, each.key, each.value, each.headers) for each in messages]
        await self._bus.publish(CUSTOMER_EVENTS, messages)
        return messages

    def _message(self, number: int, id: str, data: EventData, at: datetime) -> Message:
        value = envelope(data, id=id, source="till-1", time=at).model_dump_json().encode()
        self._next_offset += 1
        return Message(profile(number).encode(), value, (origin_header(Position("purchases-id", 0, self._next_offset), 0),))

    async def read(self, partition: int, after: Sequence[Position]) -> Timeline:
        """As its API answers."""
        covered = {(position.topic_id, position.partition): position.offset for position in after}
        records = [each for each in self.stored[partition] if _origin(each).offset > covered.get(("purchases-id", 0), -1)]
        self.reads.append(len(records))
        return Timeline(records, [Position("purchases-id", 0, self._next_offset)])


def _origin(record: Record) -> Position:
    topic_id, partition, offset, _ = record.headers[0][1].decode().rsplit("/", 3)
    return Position(topic_id, int(partition), int(offset))


class Timeline:
    """A timeline in hand."""

    def __init__(self, records: Sequence[Record], committed: list[Position]) -> None:
        self._records, self.committed = records, committed

    async def __aiter__(self) -> AsyncIterator[Sequence[Record]]:
        for start in range(0, len(self._records), 100):
            yield self._records[start : start + 100]


def bought(id: str, amount_minor: int, at: datetime = NOON) -> tuple[str, EventData, datetime]:
    line = PurchaseLine(sku="apple", quantity=1, amount_minor=amount_minor)
    return id, PurchaseRecorded(reference="loyalty_card:1", store="s", currency="USD", lines=(line,)), at


def refunded(id: str, amount_minor: int, at: datetime = NOON, of: str | None = None) -> tuple[str, EventData, datetime]:
    return id, PurchaseRefunded(reference="loyalty_card:1", store="s", currency="USD", amount_minor=amount_minor, purchase_id=of), at


class World:
    """Campaigns, and what the tests tell it and ask of it."""

    def __init__(self, settings: CampaignsSettings, clock: ReplayClock, bus: MemoryBus, database: Any) -> None:
        self.settings, self.clock, self.bus, self.database = settings, clock, bus, database
        self.identity = Identity(bus)
        self.service = self.build(self.identity.read)
        bus.add(self.service)

    def build(self, read_timeline: ReadTimeline) -> Service:
        """Campaigns with a timeline of the test's own."""
        return build(self.bus, self.settings, self.clock, read_timeline, partial(self.bus.first_of_partition, CUSTOMER_EVENTS))

    async def know(
        self, number: int, version: int = 1, members: Sequence[int] = (), first_seen_at: datetime = NOON, into: int | None = None
    ) -> None:
        """Identity publishes a customer, or into whom it was merged."""
        data = CustomerPublished(
            customer_id=profile(number), version=version, members=(profile(number), *map(profile, members)),
            references=(f"loyalty_card:{number}",), first_seen_at=first_seen_at, merged_into=None if into is None else profile(into),
        )  # fmt: skip
        await self._say(CUSTOMERS, number, f"customer-{number}-{version}", data, first_seen_at)

    async def enter(self, number: int, segment: str, change_number: int, at: datetime = NOON, cause: Cause = "event") -> None:
        """Segmentation publishes an entry."""
        data = SegmentEntered(
            customer_id=profile(number), segment=segment, change_number=change_number, caused_at=at, cause=cause, scores=SOME_SCORES
        )  # fmt: skip
        await self._say(SEGMENT_CHANGES, number, f"{number}-{segment}-{change_number}", data, at)

    async def score(self, number: int) -> None:
        """Segmentation publishes a customer's scores."""
        await self._say(
            SCORES, number, f"scores-{number}", ScoresComputed(customer_id=profile(number), as_of=NOON, scores=SOME_SCORES), NOON
        )

    async def leave(self, number: int, segment: str, change_number: int, at: datetime = NOON) -> None:
        """Segmentation publishes that a customer left."""
        data = SegmentLeft(customer_id=profile(number), segment=segment, change_number=change_number, caused_at=at, scores=SOME_SCORES)
        await self._say(SEGMENT_CHANGES, number, f"{number}-{segment}-{change_number}", data, at)

    async def deliver(self, offer_id: str, number: int, outcome: str, reason: str | None = None, program: str = "win_back") -> None:
        """Notifications publishes an outcome."""
        data = DeliveryRecorded(
            offer_id=offer_id, program=program, customer_id=profile(number), channel="email",
            outcome=outcome, reason=reason, decided_at=NOON,
        )  # fmt: skip
        await self._say(DELIVERIES, number, f"delivery-{offer_id}-{outcome}", data, NOON)

    async def _say(self, topic: Topic, number: int, id: str, data: EventData, at: datetime) -> None:
        value = envelope(data, id=id, source="test", time=at).model_dump_json().encode()
        await self.bus.publish(topic, [Message(profile(number).encode(), value)])

    def offers(self, **wanted: Any) -> list[dict[str, Any]]:
        """Offers as stored."""
        return list(self.database["offers"].find(wanted))

    def published(self) -> list[dict[str, Any]]:
        """The data of the offers published."""
        return [event["data"] for event in self.bus.events(OFFERS)]

    def entries(self, **wanted: Any) -> list[dict[str, Any]]:
        """Ledger entries as stored."""
        return list(self.database["ledger"].find(wanted))

    def posted(self) -> list[dict[str, Any]]:
        """The data of the points posted."""
        return [event["data"] for event in self.bus.events(LOYALTY)]
