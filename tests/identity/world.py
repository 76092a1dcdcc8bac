"""Events as sources send them, and identity with a bus and a database around it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import httpx
from pymongo.collection import Collection

from services.identity import app
from services.identity.domain.resolution import new_profile_id
from services.identity.settings import IdentitySettings
from shared.clock import Clock, ReplayClock
from shared.contracts.topics import CUSTOMER_UPDATES, DEAD_LETTERS, INTERACTIONS, PURCHASES, Topic
from shared.streaming.memory import MemoryBus
from shared.streaming.records import Batch, Message, StoredRecord

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
CARD = "loyalty_card:42"


def event(kind: str, id: str, data: dict[str, Any], at: datetime = NOON, source: str = "till/1", **more: Any) -> dict[str, Any]:
    """A CloudEvent as a source writes it."""
    return {"specversion": "1.0", "id": id, "source": source, "type": f"dear.{kind}", "time": at.isoformat(), "data": data, **more}


def purchase(id: str, reference: str | None = CARD, amount: int = 1250, at: datetime = NOON, **more: Any) -> dict[str, Any]:
    """A purchase of one line."""
    lines = [{"sku": "apple", "quantity": 2, "amount_minor": amount}]
    return event("PurchaseRecorded", id, {"reference": reference, "store": "main street", "currency": "USD", "lines": lines}, at, **more)


def refund(id: str, reference: str | None = CARD, amount: int = 250, at: datetime = NOON) -> dict[str, Any]:
    """Money given back."""
    return event("PurchaseRefunded", id, {"reference": reference, "store": "main street", "currency": "USD", "amount_minor": amount}, at)


def interaction(
    id: str, reference: str | None = CARD, kind: str = "ComplaintMade", at: datetime = NOON, **properties: Any
) -> dict[str, Any]:
    """Something else that a customer did."""
    return event("InteractionRecorded", id, {"reference": reference, "kind": kind, "properties": properties}, at)


def identify(id: str, references: tuple[str, ...] = (CARD, "email:ann@example.com"), at: datetime = NOON, **data: Any) -> dict[str, Any]:
    """A form says who somebody is."""
    return event("CustomerIdentified", id, {"references": list(references), **data}, at)


def consent(id: str, granted: bool, reference: str = CARD, at: datetime = NOON, channel: str = "email") -> dict[str, Any]:
    """Consent to marketing given or withdrawn."""
    stated = [{"purpose": "marketing", "channel": channel, "granted": granted}]
    return event("ConsentChanged", id, {"reference": reference, "consents": stated}, at)


def merge(id: str, one: str, other: str, at: datetime = NOON) -> dict[str, Any]:
    """A person says that the profiles which began with these references are one customer."""
    data = {"customer_id": new_profile_id(one), "other_id": new_profile_id(other), "by": "call centre", "evidence": "same voice"}
    return event("MergeRequested", id, data, at)


def split(id: str, one: str, *apart: str, at: datetime = NOON) -> dict[str, Any]:
    """A person says that some profiles of a customer are somebody else."""
    profiles = [new_profile_id(each) for each in apart]
    data = {"customer_id": new_profile_id(one), "profiles": profiles, "by": "call centre", "evidence": "mother and daughter"}
    return event("SplitRequested", id, data, at)


def topic_of(sent: dict[str, Any]) -> Topic:
    """Where a source sends it."""
    kind = sent["type"].removeprefix("dear.")
    if kind == "InteractionRecorded":
        return INTERACTIONS
    return PURCHASES if kind.startswith("Purchase") else CUSTOMER_UPDATES


def message(sent: dict[str, Any], key: str | None = None) -> Message:
    """As it lies in its topic."""
    data = sent["data"]
    reference = data.get("reference") or (data.get("references") or [sent["id"]])[0]
    return Message((key or reference).encode(), json.dumps(sent).encode())


def batch(topic: Topic, *sent: dict[str, Any] | bytes, first: int = 0, partition: int = 0, topic_id: str = "") -> Batch:
    """A batch as the stream hands it over."""
    values = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in sent]
    records = [StoredRecord(first + index, 1_772_366_400_000 + index, None, value) for index, value in enumerate(values)]
    return Batch(topic.name, topic_id or f"{topic.name}-id", partition, records)


def day(number: int) -> datetime:
    """Noon of a day."""
    return NOON + timedelta(days=number)


@dataclass
class World:
    """Identity on a memory bus and a real database."""

    settings: IdentitySettings
    database: Any
    clock: Clock = field(default_factory=lambda: ReplayClock(NOON))
    bus: MemoryBus = field(default_factory=MemoryBus)

    def __post_init__(self) -> None:
        self.service = self.worker()
        self.bus.add(self.service)

    def worker(self) -> Any:
        """Another worker of identity, with a memory of its own."""
        return app.build(self.bus, self.settings, self.clock, self.bus.first_of_partition, partial(self.bus.read, DEAD_LETTERS))

    async def start(self) -> World:
        """Ready for the first batch."""
        await self.bus.start()
        return self

    async def send(self, *sent: dict[str, Any]) -> None:
        """What sources send, handled to the end."""
        for each in sent:
            await self.bus.append(topic_of(each), message(each))
        await self.bus.settle()

    async def answered(self, request: Coroutine[Any, Any, httpx.Response]) -> httpx.Response:
        """The answer to a request that waits for its effect, while the worker works."""
        asking = asyncio.create_task(request)
        while not asking.done():
            await self.bus.settle()
            await asyncio.sleep(0.01)
        return await asking

    @contextmanager
    def failing_write(self, collection: str, error: Exception, done: bool = True, method: str = "insert_many") -> Iterator[None]:
        """The database goes away at the next such write to a collection, after having done it or before."""
        original = getattr(Collection, method)

        def write(this: Any, *args: Any, **kwargs: Any) -> Any:
            if this.name != collection:
                return original(this, *args, **kwargs)
            if done:
                original(this, *args, **kwargs)
            raise error

        setattr(Collection, method, write)
        try:
            yield
        finally:
            setattr(Collection, method, original)
