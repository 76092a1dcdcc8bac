"""Follows segment-changes-v1 outside any group and passes it on to whoever listens now; the log itself is the buffer of the slow."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum

from shared.contracts.envelope import Event
from shared.contracts.fast import fast_decoder
from shared.contracts.scores import SegmentEntered
from shared.contracts.topics import PARTITION_COUNT
from shared.streaming.errors import Unavailable
from shared.streaming.records import Record

log = logging.getLogger(__name__)

LONGEST_QUEUE = 1000
"""Changes that wait for one listener; who is slower than that reads the log at his own pace."""
MOST_LISTENERS = 200
HEARTBEAT_SECONDS = 15.0
RETRY_SECONDS = 1.0

_CHANGE = fast_decoder(Event[SegmentEntered], only=("type", "data.customer_id", "data.segment"))
"""Who leaves is told in the same words as who enters."""


@dataclass(frozen=True, slots=True)
class ChangesLog:
    """The log of changes as its readers see it."""

    identify: Callable[[], Awaitable[str]]
    """Its id, another where the log was made anew. Raises Unavailable, as the others do."""
    bounds: Callable[[], Awaitable[Mapping[int, tuple[int, int]]]]
    """Of each partition the first offset, and where it ends now."""
    read: Callable[[int, int], AsyncGenerator[Sequence[Record], None]]
    """(partition, first offset) -> record batches up to the present end."""
    follow: Callable[[Mapping[int, int]], AsyncGenerator[tuple[int, Sequence[Record]], None]]
    """First offsets by partition -> (partition, records) as they come, without end."""


class Missed(StrEnum):
    """Why somebody who comes back does not get everything that he has not seen."""

    EXPIRED = "expired"
    """Some of it is older than the log keeps."""
    LOG_REPLACED = "log_replaced"
    """The log was lost and made anew; what is in the new one follows from its beginning."""


class TooManyListeners(Exception):
    """No room for one more."""


class BadPosition(Exception):
    """This is no position that we gave to anybody."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where somebody is in the log: in every partition the offset of the first change that he has not seen."""

    log_id: str
    offsets: Mapping[int, int]

    def __str__(self) -> str:
        return f"{self.log_id}:{'.'.join(str(self.offsets[partition]) for partition in sorted(self.offsets))}"

    @classmethod
    def read(cls, text: str, partitions: int) -> Position:
        """From its text. Raises BadPosition."""
        log_id, _, offsets = text.rpartition(":")
        numbers = offsets.split(".")
        if not log_id or len(numbers) != partitions or not all(each.isascii() and each.isdecimal() and len(each) < 20 for each in numbers):
            raise BadPosition(text)
        return cls(log_id, {partition: int(number) for partition, number in enumerate(numbers)})


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which changes somebody wants to hear of; nothing named means all."""

    segments: Collection[str] = ()
    customers: Collection[str] = ()

    def holds(self, change: Change) -> bool:
        """Is this one of them?"""
        return (not self.segments or change.segment in self.segments) and (not self.customers or change.customer_id in self.customers)


@dataclass(frozen=True, slots=True)
class Change:
    """One record of the log."""

    partition: int
    offset: int
    event_type: str
    segment: str
    customer_id: str
    event: bytes
    """The whole event as JSON."""


Told = tuple[Change | None, str]
"""A change and the position after it; without a change only the position moved, or nothing happened for a while."""


class Listener:
    """One who listens: hears of everything after his position in the order of each partition, each change once."""

    def __init__(self, changes: LiveChanges, wanted: Wanted, position: Position, missed: Missed | None) -> None:
        self._changes = changes
        self._wanted = wanted
        self.log_id = position.log_id
        self._offsets = dict(position.offsets)
        self._queue: deque[Change] = deque()
        self._news = asyncio.Event()
        self._ended = asyncio.Event()
        self._is_behind = True
        self.missed = missed

    @property
    def position(self) -> str:
        """Where he is."""
        return str(Position(self.log_id, self._offsets))

    def offer(self, changes: Sequence[Change]) -> None:
        """Queue what he wants to hear of; where that is too much for him, he reads it in the log instead."""
        if self._is_behind:
            return
        self._queue.extend(change for change in changes if self._wanted.holds(change))
        if len(self._queue) > LONGEST_QUEUE:
            self._is_behind = True
            self._queue.clear()
        self._news.set()

    def end(self) -> None:
        """Nothing more comes."""
        self._ended.set()

    async def told(self) -> AsyncGenerator[list[Told], None]:
        """What he hears, as it comes, until the end or until this is closed. Raises Unavailable."""
        try:
            await self._changes.join(self)
            async with aclosing(self._tell()) as telling:
                while (told := await self._unless_ended(anext(telling))) is not None:
                    yield told
        finally:
            self._changes.leave(self)

    async def _unless_ended(self, awaited: Awaitable[list[Told]]) -> list[Told] | None:
        step, end = asyncio.ensure_future(awaited), asyncio.ensure_future(self._ended.wait())
        try:
            await asyncio.wait({step, end}, return_when=asyncio.FIRST_COMPLETED)
            return step.result() if step.done() and not self._ended.is_set() else None
        finally:
            for task in (step, end):
                task.cancel()
            await asyncio.gather(step, end, return_exceptions=True)

    async def _tell(self) -> AsyncGenerator[list[Told], None]:
        while True:
            if self._is_behind:
                async with aclosing(self._catch_up()) as read:
                    async for told in read:
                        yield told
            elif self._queue:
                waiting, self._queue = self._queue, deque()
                yield self._take(waiting)
            else:
                # All that was offered is told, and what was not offered is not wanted.
                self._go_to(self._changes.offsets)
                self._news.clear()
                try:
                    async with asyncio.timeout(HEARTBEAT_SECONDS):
                        await self._news.wait()
                except TimeoutError:
                    yield [(None, self.position)]

    async def _catch_up(self) -> AsyncGenerator[list[Told], None]:
        """Read the log from his position to where the others are by now; what comes meanwhile is queued, and told once."""
        self._is_behind = False
        self._queue.clear()
        goal = dict(self._changes.offsets)
        for partition, offset in goal.items():
            if self._offsets[partition] >= offset:
                continue
            async with aclosing(self._changes.log.read(partition, self._offsets[partition])) as read:
                async for records in read:
                    told = self._take(change for change in changes_of(partition, records) if self._wanted.holds(change))
                    self._go_to({partition: records[-1].offset + 1})
                    yield [*told, (None, self.position)]
            self._go_to({partition: offset})

    def _take(self, changes: Iterable[Change]) -> list[Told]:
        told: list[Told] = []
        for change in changes:
            if change.offset >= self._offsets[change.partition]:
                self._offsets[change.partition] = change.offset + 1
                told.append((change, self.position))
        return told

    def _go_to(self, offsets: Mapping[int, int]) -> None:
        for partition, offset in offsets.items():
            self._offsets[partition] = max(self._offsets[partition], offset)


def changes_of(partition: int, records: Sequence[Record]) -> list[Change]:
    """The changes in some records."""
    changes = []
    for record in records:
        if record.value is None:
            continue
        try:
            event = _CHANGE.decode(record.value)
        except ValueError as error:
            log.warning("offset %d of partition %d of the changes cannot be read: %s", record.offset, partition, error)
            continue
        changes.append(Change(partition, record.offset, event.type, event.data.segment, event.data.customer_id, record.value))
    return changes


class LiveChanges:
    """Follows the log as long as anybody listens."""

    def __init__(self, changes: ChangesLog) -> None:
        self.log = changes
        self.offsets: dict[int, int] = {}
        """How far the log was read, by partition."""
        self._log_id = ""
        self._listeners: set[Listener] = set()
        self._starting = asyncio.Lock()
        self._following: asyncio.Task[None] | None = None
        self._is_leaving = False

    async def listen(self, wanted: Wanted, after: str = "") -> Listener:
        """One who hears from now on, or from a position on. Raises TooManyListeners, BadPosition and Unavailable."""
        if len(self._listeners) >= MOST_LISTENERS:
            raise TooManyListeners
        asked = Position.read(after, PARTITION_COUNT) if after else None
        async with self._starting:
            bounds = await self._start()
            if asked is None:
                return Listener(self, wanted, Position(self._log_id, self.offsets), None)
            first = {partition: begin for partition, (begin, _) in (bounds or await self.log.bounds()).items()}
            if asked.log_id != self._log_id:
                return Listener(self, wanted, Position(self._log_id, first), Missed.LOG_REPLACED)
            expired = any(offset < first[partition] for partition, offset in asked.offsets.items())
            return Listener(self, wanted, asked, Missed.EXPIRED if expired else None)

    async def join(self, listener: Listener) -> None:
        """From here on he is told: he reads what came since his position himself. Raises Unavailable."""
        async with self._starting:
            await self._start()
            self._listeners.add(listener)
        if self._is_leaving or listener.log_id != self._log_id:
            listener.end()

    def leave(self, listener: Listener) -> None:
        """One listener less; after the last the log is not followed any more."""
        self._listeners.discard(listener)
        if not self._listeners and self._following is not None and not self._starting.locked():
            self._following.cancel()

    def hang_up(self) -> None:
        """Every listener has heard the last of us."""
        self._is_leaving = True
        for listener in self._listeners:
            listener.end()

    async def finish(self) -> None:
        """Stop following."""
        self.hang_up()
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)

    def _rest_if_alone(self) -> None:
        if not self._listeners and self._following is not None:
            self._following.cancel()

    async def _start(self) -> Mapping[int, tuple[int, int]]:
        """Follow the log, unless that is done; the log's bounds where they had to be asked for."""
        if self._following is not None and self._following.cancelling():
            await asyncio.gather(self._following, return_exceptions=True)
        if self._following is not None and not self._following.done():
            return {}
        self._log_id, bounds = await self.log.identify(), await self.log.bounds()
        self.offsets = {partition: end for partition, (_, end) in bounds.items()}
        self._following = asyncio.create_task(self._follow())
        self._following.add_done_callback(self._stopped)
        return bounds

    async def _follow(self) -> None:
        while True:
            try:
                async with aclosing(self.log.follow(dict(self.offsets))) as followed:
                    async for partition, records in followed:
                        if records[0].offset < self.offsets[partition]:
                            log.warning("the log of changes was made anew: whoever listens has to come again")
                            return
                        self.offsets[partition] = records[-1].offset + 1
                        self._tell(changes_of(partition, records))
            except Unavailable as away:
                log.warning("segment changes are not heard of: %s", away)
            await asyncio.sleep(RETRY_SECONDS)

    def _tell(self, changes: Sequence[Change]) -> None:
        for listener in self._listeners:
            listener.offer(changes)

    def _stopped(self, following: asyncio.Task[None]) -> None:
        if not following.cancelled() and (failure := following.exception()) is not None:
            log.error("segment changes are not followed any more: %r", failure)
        for listener in self._listeners:
            listener.end()
