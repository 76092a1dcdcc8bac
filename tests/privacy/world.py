"""Dear in one process, and what can be found in it."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from services.campaigns import app as campaigns
from services.campaigns.settings import CampaignsSettings
from services.identity import app as identity
from services.identity.settings import IdentitySettings
from services.notifications import app as notifications
from services.notifications.settings import NotificationsSettings
from services.segmentation import app as segmentation
from services.segmentation.live_changes import ChangesLog
from services.segmentation.partitions import Sources
from services.segmentation.settings import SegmentationSettings
from services.segmentation.snapshots import SnapshotFiles
from shared.clock import ReplayClock
from shared.contracts.topics import (
    CUSTOMER_EVENTS,
    CUSTOMERS,
    DEAD_LETTERS,
    PRODUCTS,
    PROFILE_ROWS,
    SCORING_MODELS,
    SEGMENTATION_STATE,
    TOPICS,
    Topic,
)
from shared.http import create_app
from shared.retained import Retained
from shared.service import Service
from shared.streaming.memory import MemoryBus
from shared.streaming.progress import Progress
from shared.streaming.records import Position, Record
from tests.identity.world import NOON, message, topic_of

SERVICES = ("identity", "segmentation", "campaigns", "notifications")
MASTER_KEY = "a master key of the tests"


class Nothing:
    """A timeline that has nothing beyond what was read."""

    committed: Sequence[Position] = ()

    async def __aiter__(self) -> AsyncIterator[Sequence[Record]]:
        for nothing in ():
            yield nothing

    async def close(self) -> None:
        """Nothing is held."""


class Everything:
    """The four services; their databases are real, and the bus keeps what a broker keeps."""

    def __init__(self, directory: Path, databases: Mapping[str, Any], retention_days: Mapping[Retained, int] | None = None) -> None:
        self.directory, self.databases, self.retention_days = directory, databases, dict(retention_days or {})
        self.bus, self.clock = MemoryBus(), ReplayClock(NOON)
        self.services = {name: getattr(self, f"_{name}")() for name in SERVICES}
        for service in self.services.values():
            self.bus.add(service)

    def _identity(self) -> Service:
        settings = IdentitySettings(master_key=MASTER_KEY, erasure_settle_seconds=0, retention_days=self.retention_days)  # type: ignore[arg-type]
        return identity.build(self.bus, settings, self.clock, self.bus.first_of_partition, self._letters)

    def _campaigns(self) -> Service:
        settings = CampaignsSettings(master_key=MASTER_KEY, retention_days=self.retention_days)  # type: ignore[arg-type]
        return campaigns.build(self.bus, settings, self.clock, self._timeline, self._first, read_letters=self._letters)

    def _notifications(self) -> Service:
        settings = NotificationsSettings(master_key=MASTER_KEY, smtp_port=9, retention_days=self.retention_days)  # type: ignore[arg-type]
        return notifications.build(self.bus, settings, self.clock, self._letters)

    def _segmentation(self) -> Service:
        sources = Sources(
            read_changelog=partial(self._read, SEGMENTATION_STATE),
            changelog_bounds=partial(self._bounds, SEGMENTATION_STATE),
            events_bounds=partial(self._bounds, CUSTOMER_EVENTS),
            customers_bounds=partial(self._bounds, CUSTOMERS),
            read_timeline=self._timeline,
            read_customers=partial(self._read, CUSTOMERS),
            read_copies=partial(self._read, PROFILE_ROWS),
            read_products=partial(self._read, PRODUCTS),
            follow_products=self._follow_no_products,
            read_models=partial(self._read, SCORING_MODELS),
            follow_models=self._follow_nothing,
            read_letters=self._letters,
            snapshots=SnapshotFiles(self.directory),
        )
        nobody_asks: Any = None
        changes = ChangesLog(nobody_asks, nobody_asks, nobody_asks, nobody_asks)
        settings = SegmentationSettings(
            clock="replay",
            data_dir=self.directory,
            master_key=MASTER_KEY,  # type: ignore[arg-type]
            retention_days=self.retention_days,
        )
        return segmentation.compose(self.bus, settings, self.clock, sources, changes)

    def _letters(self) -> AsyncIterator[Sequence[Record]]:
        return self.bus.read(DEAD_LETTERS)

    async def _read(self, topic: Topic, partition: int, start: int) -> AsyncIterator[Sequence[Record]]:
        yield [each for each in self.bus.records(topic, partition) if each.offset >= start]

    async def _bounds(self, topic: Topic, partition: int) -> tuple[int, int]:
        return 0, len(self.bus.records(topic, partition))

    async def _timeline(self, partition: int, after: Sequence[Position]) -> Any:
        return Nothing()

    async def _first(self, partition: int) -> int:
        return 0

    async def _follow_nothing(self) -> AsyncIterator[Sequence[Record]]:
        await asyncio.Event().wait()
        yield []

    async def _follow_no_products(self) -> AsyncIterator[tuple[int, Sequence[Record]]]:
        await asyncio.Event().wait()
        yield 0, []

    # What others do.

    async def send(self, *sent: dict[str, Any]) -> None:
        """What sources send, handled to the end."""
        for each in sent:
            await self.bus.append(topic_of(each), message(each))
        await self.bus.settle()

    async def live(self, ticks: int = 4) -> None:
        """Let the services' timers run, and all that follows from them."""
        for _ in range(ticks):
            await self.bus.tick()
            await asyncio.sleep(0.05)
            await self.bus.settle()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[httpx.AsyncClient]:
        """Started, with a client of identity; stopped at the end."""
        await self.bus.start()
        app = create_app(self.services["identity"], self.clock, Progress())
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://identity") as client:
            yield client
        await self.bus.stop()

    async def ask(self, client: httpx.AsyncClient, kind: str, **asked: Any) -> dict[str, Any]:
        """Make a privacy request and live until it is done."""
        made = await client.post("/v1/privacy/requests", json={"kind": kind, **asked})
        assert made.status_code == 202, made.text
        for _ in range(40):
            await self.live(1)
            found: dict[str, Any] = (await client.get(made.headers["location"])).json()
            if found["state"] == "done":
                return found
        raise AssertionError(f"it is not done: {found}")

    # What can be found.

    def where(self, *needles: str) -> set[str]:
        """Every place in databases, compacted topics and files where one of these texts is, also inside base64."""
        wanted = [needle.lower() for needle in needles]
        return {place for place, text in self._texts() if any(needle in text.lower() for needle in wanted)}

    def _texts(self) -> Iterator[tuple[str, str]]:
        for name, database in self.databases.items():
            for collection in database.list_collection_names():
                for document in database[collection].find({}):
                    yield f"{name}.{collection}", _opened(str(document))
        for topic in TOPICS:
            if topic.compacted:
                last = {record.key: record.value for record in self.bus.records(topic)}
                for key, value in last.items():
                    if value is not None:
                        yield topic.name, _opened(f"{key!r} {value!r}")
        for path in self.directory.rglob("*"):
            if path.is_file():
                yield path.name, path.read_bytes().decode("latin-1")


def _opened(text: str) -> str:
    """The text with all base64 in it read, too."""
    found = re.findall(r"[A-Za-z0-9+/]{16,}={0,2}", text)
    opened = []
    for each in found:
        try:
            opened.append(base64.b64decode(each + "=" * (-len(each) % 4)).decode("latin-1"))
        except ValueError:
            continue
    return " ".join([text, *opened])
