"""What it means that an event's name is already taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Arrival(StrEnum):
    """What became of one valid event. Each has exactly one."""

    FIRST = "first"
    """Accepted now."""
    REDELIVERED = "redelivered"
    """Accepted before, from this very position: what follows from it may not have happened yet, so it is passed on again.

    The position of a dead letter that was put back is also the one that it was parked at."""
    REPEATED = "repeated"
    """The source sent the same again: counted, not passed on."""
    QUARANTINED = "quarantined"
    """The source sent something else under the same name: kept apart."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What the timeline holds under an event's name."""

    origin: str
    content_hash: bytes
    profile: str | None


class Arriving(Protocol):
    """An event on its way into the timeline, and the position it came from."""

    @property
    def key(self) -> str: ...
    @property
    def origin(self) -> str: ...
    @property
    def parked_at(self) -> str | None:
        """Of a dead letter that was put back: the position that it was parked at. Poison may be in the timeline from there."""

    @property
    def content_hash(self) -> bytes: ...


def classify(arriving: Sequence[Arriving], kept_before: Mapping[str, Kept], profiles: Sequence[str | None]) -> list[Arrival]:
    """Tell apart, in order, what the timeline took and why it refused the rest.

    `kept_before` is what it already held. A name that comes twice in one batch is judged against its first coming.
    """
    kept = dict(kept_before)
    arrivals = []
    for event, profile in zip(arriving, profiles, strict=True):
        before = kept.get(event.key)
        if before is None:
            kept[event.key] = Kept(event.origin, event.content_hash, profile)
        arrivals.append(_arrival(event, before))
    return arrivals


def _arrival(event: Arriving, before: Kept | None) -> Arrival:
    if before is None:
        return Arrival.FIRST
    if before.origin in (event.origin, event.parked_at):
        return Arrival.REDELIVERED
    return Arrival.REPEATED if before.content_hash == event.content_hash else Arrival.QUARANTINED
