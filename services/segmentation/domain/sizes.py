"""How a segment's size went, from what each partition knew of it day by day."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby


@dataclass(frozen=True, slots=True)
class PartSize:
    """A partition's share of a segment on a day; None where the partition did not know such a segment."""

    day: int
    partition: int
    size: int | None
    as_of: datetime


@dataclass(frozen=True, slots=True)
class DaySize:
    """A segment's size on a day; every part of it is at least as new as `as_of`."""

    day: int
    size: int
    as_of: datetime


def sizes_by_day(parts: Iterable[PartSize]) -> list[DaySize]:
    """Sums over partitions, oldest first, for each day on which any of them was counted.

    A partition that was not counted on a day counts as it last was. Days before every partition was counted once, and days on which
    some did not know the segment, are left out: their sum would be a part of the size only.
    """
    ordered = sorted(parts, key=lambda part: part.day)
    partitions = {part.partition for part in ordered}
    newest: dict[int, PartSize] = {}
    sizes = []
    for day, counted in groupby(ordered, key=lambda part: part.day):
        newest.update({part.partition: part for part in counted})
        known = [part.size for part in newest.values() if part.size is not None]
        if len(known) == len(partitions):
            sizes.append(DaySize(day, sum(known), min(part.as_of for part in newest.values())))
    return sizes
