"""Which purchases are under way: sent, and without their ledger entry yet."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from shared.clock import REPLAY_TOLERANCE
from shared.contracts.envelope import Event
from shared.contracts.fast import fast_decoder
from shared.contracts.offers import PointsPosted

IN_FLIGHT_MAX = 2000
AHEAD_MAX = REPLAY_TOLERANCE / 2


class Flight:
    """Counts purchases under way, and how long each took from the broker's log to its ledger entry. Safe between threads.

    A purchase sent before, in an earlier run, earns no second entry: identity counts it as a repeat, and the count takes it down.
    """

    def __init__(self) -> None:
        self._sent: dict[str, tuple[int, datetime]] = {}
        self._landed = threading.Condition()
        self._repeats = 0
        self._sent_count = 0
        self._posted_count = 0
        self.latencies_ms: list[float] = []

    def took_off(self, purchase_id: str, bought_at: datetime, at_ms: int) -> None:
        """A purchase goes to the broker at that wall-clock time."""
        with self._landed:
            self._sent[purchase_id] = at_ms, bought_at
            self._sent_count += 1

    def posted(self, purchase_id: str, at_ms: float) -> None:
        """Its ledger entry was durable at that wall-clock time."""
        with self._landed:
            sent = self._sent.pop(purchase_id, None)
            if sent is None:
                return
            self._posted_count += 1
            self.latencies_ms.append(at_ms - sent[0])
            self._landed.notify_all()

    def repeats_are(self, count: int) -> None:
        """So many of those sent were sent before."""
        with self._landed:
            if count > self._repeats:
                self._repeats = count
                self._landed.notify_all()

    def all_landed(self) -> None:
        """Everything sent so far has had its effect, as the groups' lag shows."""
        with self._landed:
            self._sent.clear()
            self._repeats = self._sent_count - self._posted_count
            self._landed.notify_all()

    @property
    def under_way(self) -> int:
        """How many have not landed."""
        with self._landed:
            return self._under_way()

    def _under_way(self) -> int:
        return max(0, self._sent_count - self._posted_count - self._repeats)

    @property
    def landed_count(self) -> int:
        """How many have."""
        with self._landed:
            return self._sent_count - self._under_way()

    def wait_for_room(self, at: datetime, timeout_seconds: float) -> bool:
        """Return when a purchase of that time may take off; False if there was no room in time."""
        with self._landed:
            return self._landed.wait_for(lambda: self._under_way() < IN_FLIGHT_MAX and self._is_near(at), timeout_seconds)

    def _is_near(self, at: datetime) -> bool:
        """An event too far ahead of the replay's clock would be parked, and the clock is only as far as what has arrived."""
        if self._repeats or not self._sent:
            return True
        _, oldest_at = next(iter(self._sent.values()))
        return at - oldest_at < AHEAD_MAX


class Landings:
    """Reads ledger entries off loyalty-v1 for a flight."""

    _decoder: msgspec.json.Decoder[Any] = fast_decoder(Event[PointsPosted], only=("data.cause_source", "data.cause_id", "data.posted_at"))

    def __init__(self, flight: Flight, source: str) -> None:
        self._flight, self._source = flight, source

    def read(self, value: bytes) -> None:
        """Note one entry."""
        entry = self._decoder.decode(value).data
        if entry.cause_source == self._source:
            self._flight.posted(entry.cause_id, entry.posted_at.timestamp() * 1000)


@dataclass(slots=True)
class Percentiles:
    """The middle and the slow end of a list of milliseconds; null where nothing was measured."""

    p50: float | None = field(default=None)
    p99: float | None = field(default=None)


def percentiles(milliseconds: list[float]) -> Percentiles:
    """Nearest-rank percentiles."""
    if not milliseconds:
        return Percentiles()
    ordered = sorted(milliseconds)
    last = len(ordered) - 1
    return Percentiles(round(ordered[round(0.5 * last)], 1), round(ordered[round(0.99 * last)], 1))
