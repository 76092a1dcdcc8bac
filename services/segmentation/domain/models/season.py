"""The season: how much more, or less, is bought in a window of the year than a model of steady customers expects."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

PERIODS = 13
"""Of four weeks each, but for a day and a quarter."""
LOWEST, HIGHEST = 0.5, 2.0
"""Beyond, it is not the season."""
DAMPING_DAYS = 200.0
"""Purchase days, expected and actual alike, that are added to what was seen: few tell little."""
YEAR_DAYS = 365

_EPOCH = date(1970, 1, 1)
_PERIOD_DAYS = 365.25 / PERIODS


@dataclass(frozen=True, slots=True)
class Season:
    """An index for windows that begin with each period of the year; none is a year without seasons."""

    indexes: tuple[float, ...] = ()

    def at(self, day: int) -> float:
        """Of the window after this day (since the epoch): so many times the horizon counts. Between two periods' beginnings it glides."""
        if not self.indexes:
            return 1.0
        date_of = _EPOCH + timedelta(days=day)
        period, share = divmod((date_of - date_of.replace(month=1, day=1)).days / _PERIOD_DAYS, 1.0)
        first, second = self.indexes[int(period)], self.indexes[(int(period) + 1) % PERIODS]
        return first + share * (second - first)


NO_SEASON = Season()


def index_of(actual: float, expected: float) -> float:
    """What these purchase days tell, damped and bounded."""
    return min(max((actual + DAMPING_DAYS) / (expected + DAMPING_DAYS), LOWEST), HIGHEST)


def newest_beginning(period: int, until: int) -> int:
    """The newest day, at or before `until`, that a period of the year begins with."""
    year = (_EPOCH + timedelta(days=until)).year
    days = ((date(each, 1, 1) - _EPOCH).days + round(period * _PERIOD_DAYS) for each in (year, year - 1))
    return next(day for day in days if day <= until)
