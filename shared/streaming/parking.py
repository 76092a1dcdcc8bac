"""Setting aside what can never be applied: with its reason, its original bytes and its position."""

from __future__ import annotations

import logging
from base64 import b64encode
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

from shared.contracts.dead_letters import EventParked
from shared.contracts.envelope import derived_id, envelope
from shared.contracts.topics import DEAD_LETTERS
from shared.streaming.errors import Reject, Stuck
from shared.streaming.leaving import elapsed
from shared.streaming.metrics import DEAD_LETTERS as PARKED
from shared.streaming.records import Batch, Message, Publish, Record

log = logging.getLogger(__name__)

WINDOW_SECONDS = 300.0
TOLERATED_SHARE = 0.1
DETAIL_LENGTH = 2000

Seal = Callable[[Sequence[EventParked]], Awaitable[Sequence[EventParked]]]
"""Closes letters to whoever does not hold the key. Raises Unavailable."""
OnPoison = Callable[[Batch, Sequence[Reject]], Awaitable[None]]
"""Tells a service of events that the stream is about to park because the handler fails on them."""


async def nothing_to_note(batch: Batch, rejects: Sequence[Reject]) -> None:
    """For services whose dead letters are all that is known of what they park."""


async def leave_open(parked: Sequence[EventParked]) -> Sequence[EventParked]:
    """For services whose letters are about nobody."""
    return parked


class ParkLimit:
    """Stops a worker that parks more than `limit` events in five minutes, and a tenth of all: then it is not the events that are wrong."""

    def __init__(self, limit: int, now: Callable[[], float] = elapsed) -> None:
        self._limit = limit
        self._now = now
        self._window: deque[tuple[float, int, int]] = deque()

    def count(self, settled: int = 0, parked: int = 0) -> None:
        """So many events were settled, or parked."""
        self._forget()
        second = float(int(self._now()))
        if self._window and self._window[-1][0] == second:
            _, settled_before, parked_before = self._window.pop()
            settled, parked = settled + settled_before, parked + parked_before
        self._window.append((second, settled, parked))

    def check(self, parking: int) -> None:
        """May so many more be parked? Raises Stuck."""
        self._forget()
        parked = parking + sum(each[2] for each in self._window)
        settled = parking + sum(each[1] for each in self._window)
        if parked > self._limit and parked > TOLERATED_SHARE * settled:
            raise Stuck(f"{parked} of {settled} events within {WINDOW_SECONDS:g} s would be parked (DEAR_PARK_LIMIT is {self._limit})")

    def _forget(self) -> None:
        while self._window and self._window[0][0] < self._now() - WINDOW_SECONDS:
            self._window.popleft()


class Parking:
    """Publishes what a group sets aside."""

    def __init__(self, group: str, publish: Publish, limit: ParkLimit, seal: Seal = leave_open) -> None:
        self._group = group
        self._publish = publish
        self._limit = limit
        self._seal = seal

    async def park(self, batch: Batch, rejects: Sequence[Reject]) -> None:
        """Park these events; returns when the broker has them. Raises Stuck, Unavailable, and KeyError for an offset not in the batch."""
        records = {record.offset: record for record in batch.records}
        parked = [self._parked(batch, records[reject.offset], reject) for reject in rejects]
        self._limit.check(len(rejects))
        await self._publish(DEAD_LETTERS, [_message(each) for each in await self._seal(parked)])
        self._limit.count(parked=len(rejects))
        for reject in rejects:
            PARKED.labels(batch.topic, reject.reason).inc()
            log.warning("parked %s/%d/%d: %s", batch.topic, batch.partition, reject.offset, reject.reason)

    def settled(self, count: int) -> None:
        """So many events were settled, parked ones included."""
        self._limit.count(settled=count)

    def _parked(self, batch: Batch, record: Record, reject: Reject) -> EventParked:
        return EventParked(
            group=self._group,
            topic=batch.topic,
            topic_id=batch.topic_id,
            partition=batch.partition,
            offset=record.offset,
            reason=reject.reason[:256],
            detail=reject.detail[:DETAIL_LENGTH],
            key_base64=_base64(record.key),
            value_base64=_base64(record.value),
            headers=tuple((name, _base64(value) or "") for name, value in record.headers),
            parked_at=datetime.now(UTC),
        )


def _message(parked: EventParked) -> Message:
    event = envelope(parked, id=derived_id("parked", parked.name), source=f"dear/{parked.group}", time=parked.parked_at)
    return Message(parked.name.encode(), event.model_dump_json().encode())


def _base64(data: bytes | None) -> str | None:
    return None if data is None else b64encode(data).decode()
