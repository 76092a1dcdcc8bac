"""What a handler receives and what it may send: records, batches, messages, origin positions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from shared.contracts.topics import Topic

Headers = Sequence[tuple[str, bytes]]


class Record(Protocol):
    """One record as fetched; aiokafka's own records fit, so the hot path copies nothing."""

    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int:
        """Milliseconds since the epoch."""

    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Headers: ...


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A record that did not come from aiokafka: from the memory bus, the timeline, or a dead letter."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive records of one partition, in order. `topic_id` changes when the log is lost or recreated."""

    topic: str
    topic_id: str
    partition: int
    records: Sequence[Record]


Handler = Callable[[Batch], Awaitable[None]]
"""Applies a batch. Returning means: every effect is durable. Raises InvalidEvents (the rest was applied), Unavailable, or anything."""


class Message(msgspec.Struct, frozen=True, gc=False):
    """Something to send: the key decides the partition. A struct, because a worker makes one for every row that it writes."""

    key: bytes
    value: bytes | None
    headers: Headers = ()


class Publish(Protocol):
    """Sends messages and returns when the broker acknowledged all of them.

    Within one partition nothing is sent before what precedes it is acknowledged, so what a reader has seen of one
    writer is always a prefix. Raises Unavailable; sending the same messages again is then the way on.
    """

    async def __call__(self, topic: Topic, messages: Sequence[Message]) -> None: ...


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """Where an event entered the system: unchanged however often it is re-emitted."""

    topic_id: str
    partition: int
    offset: int


ORIGIN_HEADER = "dear-origin"
"""Header of customer-events-v1: `topic id/partition/offset/append time in ms` of the record that identity read."""


def origin_header(position: Position, appended_ms: int) -> tuple[str, bytes]:
    """The header that carries an event's origin."""
    return ORIGIN_HEADER, f"{position.topic_id}/{position.partition}/{position.offset}/{appended_ms}".encode()


def read_origin(headers: Headers) -> tuple[Position, int]:
    """The origin position and append time (ms) in a record's headers. Raises KeyError where there is none."""
    for name, value in headers:
        if name == ORIGIN_HEADER:
            topic_id, partition, offset, appended_ms = value.decode().rsplit("/", 3)
            return Position(topic_id, int(partition), int(offset)), int(appended_ms)
    raise KeyError(ORIGIN_HEADER)
