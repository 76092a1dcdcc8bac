"""What a service is made of, as the runtime sees it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from fastapi import APIRouter

from shared.access.keyring import LearnKeys
from shared.contracts.topics import Topic
from shared.streaming.errors import NotSent
from shared.streaming.parking import OnPoison, Seal, leave_open, nothing_to_note
from shared.streaming.records import Handler, Message, Publish


class Publisher(Protocol):
    """Two ways to send: `publish` keeps order and is for handlers, the others are for many independent requests at once."""

    publish: Publish

    async def append(self, topic: Topic, message: Message) -> None:
        """Send one message; returns when the broker acknowledged it. Concurrent calls are batched. Raises NotSent."""

    async def append_all(self, topic: Topic, messages: Sequence[Message]) -> list[NotSent | None]:
        """Send messages that have nothing to do with each other; why each was not acknowledged, None where it was.

        One that cannot be sent stops no other. What was not acknowledged may still arrive, as after any lost answer.
        """


@dataclass(frozen=True, slots=True)
class OpenedPartition:
    """A partition that this worker was assigned, of the log that is there now."""

    topic: str
    topic_id: str
    partition: int


class Partitions(Protocol):
    """State that belongs to partitions. No batch is handled before its partition is open."""

    async def open(self, opened: OpenedPartition) -> int | None:
        """Recover what belongs to the partition; return the offset to read from, or None for the group's committed one."""

    async def close(self, topic: str, partition: int) -> None:
        """Let go of it: it was revoked, or the worker stops."""


@dataclass(frozen=True, slots=True)
class Timer:
    """Work that time causes. Runs between batches, never beside a handler; should return within 50 ms."""

    every_seconds: float
    run: Callable[[], Awaitable[None]]


async def nothing_to_start(topic_ids: Mapping[str, str]) -> None:
    """For services that need no work before their first batch."""


async def nothing_to_stop() -> None:
    """For services that hold nothing to put away."""


def nothing_to_hang_up() -> None:
    """For services whose answers all end by themselves."""


@dataclass(frozen=True, slots=True)
class Service:
    """One service: what it listens to, what it answers, what time makes it do."""

    name: str
    listens: Mapping[Topic, Handler]
    api: APIRouter
    partitions: Partitions | None = None
    timers: tuple[Timer, ...] = ()
    batch_records: int = 4000
    """About the most that a batch has: few where each costs a write to a database, many where the way to the broker and back costs more."""
    start: Callable[[Mapping[str, str]], Awaitable[None]] = field(default=nothing_to_start)
    """Runs in the worker before the first batch, with topic name -> topic id of every topic of the map."""
    learn_keys: LearnKeys | None = None
    """Which API keys there are; None: as identity says over HTTP."""
    stop: Callable[[], Awaitable[None]] = field(default=nothing_to_stop)
    """Runs in the worker after the last batch was acknowledged."""
    hang_up: Callable[[], None] = field(default=nothing_to_hang_up)
    """Runs when the process begins to leave: ends the answers that would otherwise go on for ever."""
    seal_letters: Seal = field(default=leave_open)
    """Closes what is parked to whoever reads the topic."""
    on_poison: OnPoison = field(default=nothing_to_note)
    """Told of events that the handler fails on while their neighbours pass, before they are parked, and maybe again.

    What a handler itself rejects it knows already."""
