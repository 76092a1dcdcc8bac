"""Night, where the customer is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError


@dataclass(frozen=True, slots=True)
class QuietHours:
    """From `start` (included) to `end` (excluded) of the local clock, over midnight where start is later; equal means never."""

    start: time
    end: time

    @classmethod
    def parse(cls, text: str) -> QuietHours:
        """Read `21:00-08:00`. Raises ValueError."""
        start, _, end = text.partition("-")
        return cls(time.fromisoformat(start.strip()), time.fromisoformat(end.strip()))

    def cover(self, local: datetime) -> bool:
        """Is it quiet at that local time?"""
        at = local.time()
        if self.start <= self.end:
            return self.start <= at < self.end
        return at >= self.start or at < self.end

    def end_after(self, now: datetime, zone: ZoneInfo) -> datetime | None:
        """When the quiet around `now` ends, in UTC; None where it is not quiet.

        Where the clock goes back over the end, or forward past it, the answer is still a moment that is not quiet.
        """
        local = now.astimezone(zone)
        if not self.cover(local):
            return None
        return min(end for end in self._ends(local, zone) if end > now and not self.cover(end.astimezone(zone)))

    def _ends(self, local: datetime, zone: ZoneInfo) -> list[datetime]:
        days = (local.date() + timedelta(days=days) for days in range(3))
        return [datetime.combine(day, self.end, zone).replace(fold=fold).astimezone(UTC) for day in days for fold in (0, 1)]


def zone_named(name: str | None, otherwise: ZoneInfo) -> ZoneInfo:
    """The zone of that name, or the other one where there is none of that name."""
    if not name:
        return otherwise
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return otherwise
