"""A worker of segmentation on the bus in memory, beside an identity that keeps every event; crashes and lost logs on demand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from fastapi import APIRouter

from services.segmentation.domain.models.scoring_model import ScoringModel
from services.segmentation.domain.need_labels import NeedLabels
from services.segmentation.domain.summary import totals_of
from services.segmentation.handlers import on_customer_events, on_customers, on_offers, on_profile_rows
from services.segmentation.partitions import SegmentationPartitions, Sources
from services.segmentation.rescoring import Rescoring
from services.segmentation.settings import SegmentationSettings
from services.segmentation.shipped import load_shipped_models
from services.segmentation.snapshots import SnapshotFiles
from services.segmentation.telling import ScoreTelling
from services.segmentation.trait_columns import TraitColumns
from services.segmentation.worker import Worker
from shared.clock import ReplayClock
from shared.contracts.customers import CustomerPublished
from shared.contracts.envelope import EventData, derived_id, envelope
from shared.contracts.interactions import InteractionRecorded
from shared.contracts.offers import OfferDecided
from shared.contracts.purchases import PurchaseLine, PurchaseRecorded, PurchaseRefunded
from shared.contracts.topics import (
    CUSTOMER_EVENTS,
    CUSTOMERS,
    DEAD_LETTERS,
    OFFERS,
    PRODUCTS,
    PROFILE_ROWS,
    SCORING_MODELS,
    SEGMENT_CHANGES,
    SEGMENTATION_STATE,
    Topic,
)
from shared.service import Service, Timer
from shared.streaming.errors import Unavailable
from shared.streaming.memory import MemoryBus
from shared.streaming.partitions import partition_for
from shared.streaming.records import Message, Position, StoredRecord, origin_header
from tests.unit.segmentation.histories import rows_by_id

START = datetime(2025, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Kept:
    """An event in the timeline."""

    key: str
    value: bytes
    origin: Position


class History:
    """Iterates like shared.timeline.Timeline."""

    def __init__(self, kept: Sequence[Kept], committed: Sequence[Position]) -> None:
        self._kept = kept
        self.committed = committed
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[Sequence[StoredRecord]]:
        for start in range(0, len(self._kept), 7):
            yield [
                StoredRecord(-1, 0, each.key.encode(), each.value, (origin_header(each.origin, 0),))
                for each in self._kept[start : start + 7]
            ]

    async def close(self) -> None:
        self.closed = True


@dataclass
class Bed:
    """`say` an event as identity passes it on, `await settle()`, look at `totals` and `rows`."""

    directory: Path
    bus: MemoryBus = field(default_factory=lambda: MemoryBus(batch_records=5))
    clock: ReplayClock = field(default_factory=lambda: ReplayClock(START))
    timeline: list[Kept] = field(default_factory=list)
    origins: dict[int, Iterator[int]] = field(default_factory=lambda: {n: count() for n in range(8)})
    log_name: str = "purchases-id-1"
    generations: Iterator[int] = field(default_factory=lambda: count(1, 10))
    catch_ups: int = 0
    histories: list[History] = field(default_factory=list)
    identity_is_away: bool = False
    fitted: ScoringModel | None = None
    needs: NeedLabels | None = None
    ranks: bool = False
    """Score by ranks alone, as so few customers should be; otherwise by the shipped model however few they are."""
    events_begin: int = 0
    """The first offset that retention has left in each partition of customer-events-v1."""
    worker: Worker = field(init=False)
    partitions: SegmentationPartitions = field(init=False)
    rescoring: Rescoring = field(init=False)
    traits: TraitColumns = field(init=False)

    async def start(self) -> None:
        self._new_worker()
        await self.bus.start()

    async def settle(self) -> None:
        await self.bus.settle()

    async def crash(self) -> None:
        """Everything in memory is gone; another worker begins."""
        self._new_worker()
        await self.bus.start()

    async def lose(self, *topics: Topic) -> None:
        """The logs of these are made anew, and so their readers leave; another worker begins."""
        self.bus._logs.update({topic.name: self.bus._new_log(topic) for topic in topics})
        await self.crash()

    async def restart(self) -> None:
        """The worker closes its partitions and another opens them."""
        await self.bus.stop()
        await self.crash()

    def _new_worker(self) -> None:
        settings = SegmentationSettings(clock="replay", data_dir=self.directory)
        models = load_shipped_models("groceries")
        models.fitted, models.needs = self.fitted, self.needs
        if not self.ranks:
            models.risk_by_rank_sum = ()
        self.worker = Worker(self.bus, self.clock, settings, models)
        sources = Sources(
            read_changelog=self._read_changelog,
            changelog_bounds=self._changelog_bounds,
            events_bounds=self._events_bounds,
            customers_bounds=self._customers_bounds,
            read_timeline=self._read_timeline,
            read_customers=self._read_customers,
            read_copies=self._read_copies,
            read_products=self._read_products,
            follow_products=self._no_models,
            read_models=self._read_models,
            follow_models=self._no_models,
            read_letters=partial(self.bus.read, DEAD_LETTERS),
            snapshots=SnapshotFiles(self.directory),
            new_generation=partial(next, self.generations),
        )
        self.partitions = SegmentationPartitions(self.worker, sources)
        self.rescoring = Rescoring(self.worker, calm_seconds=0)
        self.traits = TraitColumns(self.worker, sources.read_customers)
        self.bus.add(
            Service(
                "segmentation",
                listens={
                    CUSTOMER_EVENTS: partial(on_customer_events, worker=self.worker),
                    CUSTOMERS: partial(on_customers, worker=self.worker),
                    PROFILE_ROWS: partial(on_profile_rows, worker=self.worker),
                    OFFERS: partial(on_offers, worker=self.worker),
                },
                api=APIRouter(),
                partitions=self.partitions,
                timers=(
                    Timer(0.1, self.traits.tick),
                    Timer(0.1, self.rescoring.tick),
                    Timer(0.25, ScoreTelling(self.worker).tick),
                    Timer(0.25, self.worker.tell_market),
                ),
                start=self.partitions.start,
            )
        )

    async def _read_changelog(self, partition: int, start: int) -> AsyncIterator[Sequence[StoredRecord]]:
        records = [each for each in self.bus.records(SEGMENTATION_STATE, partition) if each.offset >= start]
        for first in range(0, len(records), 3):
            yield records[first : first + 3]

    async def _read_customers(self, partition: int, start: int) -> AsyncIterator[Sequence[StoredRecord]]:
        yield [each for each in self.bus.records(CUSTOMERS, partition) if each.offset >= start]

    async def _read_copies(self, partition: int, start: int) -> AsyncIterator[Sequence[StoredRecord]]:
        yield [each for each in self.bus.records(PROFILE_ROWS, partition) if each.offset >= start]

    async def _read_products(self, partition: int, start: int) -> AsyncIterator[Sequence[StoredRecord]]:
        yield [each for each in self.bus.records(PRODUCTS, partition) if each.offset >= start]

    async def _read_models(self, partition: int, start: int) -> AsyncIterator[Sequence[StoredRecord]]:
        yield [each for each in self.bus.records(SCORING_MODELS, partition) if each.offset >= start]

    async def _no_models(self) -> AsyncIterator[Sequence[StoredRecord]]:
        await asyncio.Event().wait()
        yield []

    async def _changelog_bounds(self, partition: int) -> tuple[int, int]:
        return 0, len(self.bus.records(SEGMENTATION_STATE, partition))

    async def _events_bounds(self, partition: int) -> tuple[int, int]:
        return self.events_begin, len(self.bus.records(CUSTOMER_EVENTS, partition))

    async def _customers_bounds(self, partition: int) -> tuple[int, int]:
        return 0, len(self.bus.records(CUSTOMERS, partition))

    async def _read_timeline(self, partition: int, after: Sequence[Position]) -> History:
        if self.identity_is_away:
            raise Unavailable("identity: a test took it away")
        self.catch_ups += 1
        covered = {(each.topic_id, each.partition): each.offset for each in after}
        kept = [each for each in self.timeline if partition_for(each.key.encode()) == partition]
        beyond = [each for each in kept if each.origin.offset > covered.get((each.origin.topic_id, each.origin.partition), -1)]
        highest: dict[tuple[str, int], int] = {}
        for each in self.timeline:
            log = (each.origin.topic_id, each.origin.partition)
            highest[log] = max(highest.get(log, -1), each.origin.offset)
        self.histories.append(History(beyond, [Position(*log, offset) for log, offset in highest.items()]))
        return self.histories[-1]

    # What identity does.

    async def say(self, who: str, data: EventData, at: datetime) -> Kept:
        """An event of this customer goes into the timeline and on to customer-events-v1."""
        partition = partition_for(who.encode())
        origin = Position(self.log_name, partition, next(self.origins[partition]))
        value = envelope(data, id=str(origin), source="till", time=at).model_dump_json().encode()
        kept = Kept(profile(who), value, origin)
        self.timeline.append(kept)
        await self.pass_on(kept)
        return kept

    async def pass_on(self, *kept: Kept, headers: tuple[tuple[str, bytes], ...] = ()) -> None:
        """Send to customer-events-v1, for the first time or again."""
        messages = [Message(each.key.encode(), each.value, (origin_header(each.origin, 0), *headers)) for each in kept]
        await self.bus.publish(CUSTOMER_EVENTS, messages)

    async def buy(self, who: str, day: float, *amounts: int, **of_line: Any) -> Kept:
        lines = tuple(PurchaseLine(sku="apple", quantity=1, amount_minor=amount, **of_line) for amount in amounts or (1000,))
        data = PurchaseRecorded(reference=f"loyalty_card:{who}", store="1", currency="USD", lines=lines)
        return await self.say(who, data, START + timedelta(days=day))

    async def shop(self, who: str, day: float, *departments: str) -> Kept:
        """A purchase of a line in each of these departments."""
        lines = tuple(PurchaseLine(sku="x", quantity=1, amount_minor=500, department=each) for each in departments)
        data = PurchaseRecorded(reference=f"loyalty_card:{who}", store="1", currency="USD", lines=lines)
        return await self.say(who, data, START + timedelta(days=day))

    async def refund(self, who: str, day: float, amount: int) -> Kept:
        data = PurchaseRefunded(reference=f"loyalty_card:{who}", store="1", currency="USD", amount_minor=amount)
        return await self.say(who, data, START + timedelta(days=day))

    async def interact(self, who: str, day: float, kind: str, **properties: Any) -> Kept:
        data = InteractionRecorded(reference=f"loyalty_card:{who}", kind=kind, properties=properties)
        return await self.say(who, data, START + timedelta(days=day))

    async def offer(self, who: str, day: float, program: str) -> None:
        """As campaigns decides it, twice."""
        at, customer = START + timedelta(days=day), profile(who)
        data = OfferDecided(
            offer_id=f"{program}-{who}", program=program, program_version=1, customer_id=customer, template="t", purpose="marketing",
            decided_at=at, expires_at=at + timedelta(days=7),
        )  # fmt: skip
        event = envelope(data, id=f"{program}-{who}", source="campaigns", time=at)
        await self.bus.publish(OFFERS, [Message(customer.encode(), event.model_dump_json().encode())] * 2)

    async def introduce(self, who: str, version: int = 1, customer_type: Any = "consumer", **traits: Any) -> None:
        await self.publish_customer(who, version, customer_type=customer_type, traits=traits)

    async def publish_customer(self, who: str, version: int, *others: str, into: str | None = None, **said: Any) -> None:
        """As identity does: a customer with its other profiles, or one that is part of another."""
        customer = profile(who)
        data = CustomerPublished(
            customer_id=customer, version=version, members=tuple(sorted(map(profile, (who, *others)))),
            references=(f"loyalty_card:{who}",), first_seen_at=START, merged_into=profile(into) if into is not None else None, **said,
        )  # fmt: skip
        event = envelope(data, id=derived_id(customer, version), source="identity", time=START)
        await self.bus.publish(CUSTOMERS, [Message(customer.encode(), event.model_dump_json().encode())])

    # What can be seen.

    @property
    def totals(self) -> dict[str, int]:
        totals: dict[str, int] = {}
        for owned in self.worker.owned.values():
            for name, value in totals_of(owned.state).items():
                totals[name] = totals.get(name, 0) + value
        return totals

    @property
    def rows(self) -> dict[str, dict[str, Any]]:
        rows = {}
        for owned in self.worker.owned.values():
            rows |= {customer.hex(): row for customer, row in rows_by_id(owned.state).items()}
        return rows

    @property
    def changes(self) -> list[dict[str, Any]]:
        return self.bus.events(SEGMENT_CHANGES)

    @property
    def distinct_changes(self) -> dict[str, tuple[str, str, str, int]]:
        """By event id: what was said."""
        return {
            each["id"]: (each["data"]["customer_id"], each["type"], each["data"]["segment"], each["data"]["change_number"])
            for each in self.changes
        }

    def judge_by(self, model: ScoringModel) -> None:
        """A fit was published, and is heard of."""
        self.fitted = model
        self.worker.models.fitted = model

    def judge_needs_by(self, needs: NeedLabels) -> None:
        """A need model was published, and is heard of."""
        self.needs = needs
        self.worker.models.needs = needs

    async def age(self, days: int) -> None:
        """The clock moves, and everyone is re-scored."""
        self.clock.observe(self.clock.now() + timedelta(days=days))
        for _ in range(40):
            await self.bus.tick()
            await asyncio.sleep(0)  # What timers began beside the stream goes on.
        while self.rescoring._slices is not None:
            # What a new model moves is told at a bounded rate: the round waits for the wall's clock.
            await asyncio.sleep(0.001)
            await self.bus.tick()


def profile(who: str) -> str:
    return derived_id("profile", f"loyalty_card:{who}")


@contextmanager
def without(owner: Any, name: str, replacement: Any) -> Iterator[None]:
    """Break a guard for a while."""
    kept = getattr(owner, name)
    setattr(owner, name, replacement)
    try:
        yield
    finally:
        setattr(owner, name, kept)


class Crash(BaseException):
    """The process ends here."""


@contextmanager
def dying(bed: Bed, at: int) -> Iterator[None]:
    """End at the partition's write with this number, counted from 1, if there are so many; nothing of it is sent."""
    original, written = bed.bus.publish, 0

    async def publish(to: Topic, messages: Sequence[Message]) -> None:
        nonlocal written
        written += to is SEGMENTATION_STATE
        if written == at:
            raise Crash
        await original(to, messages)

    bed.bus.publish = publish  # type: ignore[method-assign]
    with suppress(Crash):
        yield
    bed.bus.publish = original  # type: ignore[method-assign]
