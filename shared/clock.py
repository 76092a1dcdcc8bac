"""What time it is: the wall's, or the newest event's while history is replayed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal, Protocol

ClockMode = Literal["live", "replay"]

BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
LIVE_TOLERANCE = timedelta(hours=24)
REPLAY_TOLERANCE = timedelta(days=30)


class Clock(Protocol):
    """Time as an argument: services are given one, the domain is given its value."""

    mode: ClockMode

    def now(self) -> datetime:
        """The present, with its zone."""

    def observe(self, at: datetime) -> None:
        """An event of that time was accepted. Moves a replay clock forward, never back; a live one ignores it."""

    def is_ahead(self, at: datetime) -> bool:
        """Is that time too far ahead to be believed?"""


class WallClock:
    """The machine's clock."""

    mode: ClockMode = "live"

    def now(self) -> datetime:
        return datetime.now(UTC)

    def observe(self, at: datetime) -> None:
        """Events do not move the wall's clock."""

    def is_ahead(self, at: datetime) -> bool:
        return at - self.now() > LIVE_TOLERANCE


class ReplayClock:
    """The newest event time seen. Before the first event it stands at the beginning, and nothing is ahead of it."""

    mode: ClockMode = "replay"

    def __init__(self, newest: datetime = BEGINNING) -> None:
        self._newest = newest

    def now(self) -> datetime:
        return self._newest

    def observe(self, at: datetime) -> None:
        self._newest = max(self._newest, at)

    def is_ahead(self, at: datetime) -> bool:
        return self._newest > BEGINNING and at - self._newest > REPLAY_TOLERANCE
