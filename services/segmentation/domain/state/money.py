"""Money by 4-week bucket: 13 a row (a year), slot `bucket % 13`, for the 13 buckets that end with the newest one touched.

An amount takes six bytes (a low 32 and a high 16 bit half), so a year takes 78 bytes instead of 104. A bucket stops at
plus or minus 2**47 - 1 minor units, more than any customer spends in four weeks; the row's totals have 64 bits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from services.segmentation.domain.arrays import Integers

BUCKET_DAYS = 28
BUCKETS = 13
_MOST = 2**47 - 1

Low = NDArray[np.uint32]
High = NDArray[np.int16]


def bucket_of(day: Integers) -> Integers:
    """The absolute number of a day's bucket."""
    return day // BUCKET_DAYS


def join(low: Low, high: High) -> Integers:
    """Amounts from their halves."""
    return (high.astype(np.int64) << 32) | low.astype(np.int64)


def split(amounts: Integers) -> tuple[Low, High]:
    """The halves of amounts."""
    held = np.clip(amounts, -_MOST, _MOST)
    return (held & 0xFFFFFFFF).astype(np.uint32), (held >> 32).astype(np.int16)


def slots_after(newest: Integers, until: Integers) -> NDArray[np.bool_]:
    """Shape (n, 13): the slots of the buckets in (newest, until], which held older money until now."""
    ahead = (np.arange(BUCKETS) - newest[:, None] - 1) % BUCKETS
    return ahead < (until - newest)[:, None]


def by_age(amounts: Integers, newest: Integers, current: Integers) -> Integers:
    """Shape (n, 13): column k is the money of bucket `current - k`; what the row does not hold (any more) is 0."""
    wanted = current[:, None] - np.arange(BUCKETS)
    held = (wanted <= newest[:, None]) & (wanted > newest[:, None] - BUCKETS)
    return np.where(held, np.take_along_axis(amounts, wanted % BUCKETS, axis=1), 0)
