"""Which days somebody bought on: 512 bits a row, bit `day % 512`, for the 512 days that end with the newest purchase day."""

from __future__ import annotations

import numpy as np

from services.segmentation.domain.arrays import Bits, Integers

SPAN_DAYS = 512
WORDS = SPAN_DAYS // 64

_LOWEST = np.array([(1 << count) - 1 for count in range(65)], dtype=np.uint64)
"""`_LOWEST[n]` has its n lowest bits set."""
_UNTIL = _LOWEST[np.clip(np.arange(SPAN_DAYS + 1)[:, None] - np.arange(WORDS) * 64, 0, 64)]
"""Shape (513, 8): row n has its n lowest bits set."""


def bits_of_days(first_day: Integers, length: Integers) -> Bits:
    """Shape (n, 8): the bits of the `length` days from `first_day` on; a length below 1 is none, above 512 is all."""
    start = first_day % SPAN_DAYS
    end = start + np.clip(length, 0, SPAN_DAYS)
    bits: Bits = _UNTIL[np.minimum(end, SPAN_DAYS)] & ~_UNTIL[start]
    wraps = np.flatnonzero(end > SPAN_DAYS)
    if len(wraps):
        bits[wraps] |= _UNTIL[end[wraps] - SPAN_DAYS]
    return bits


def count_days(bitmap: Bits, newest_day: Integers, from_day: Integers, until_day: Integers) -> Integers:
    """How many purchase days lie in [from_day, until_day), of those that the bitmap still covers."""
    start = np.maximum(from_day, newest_day - (SPAN_DAYS - 1))
    end = np.minimum(until_day, newest_day + 1)
    counted: Integers = np.bitwise_count(bitmap & bits_of_days(start, end - start)).sum(axis=1, dtype=np.int64)
    return counted


def newest_day(bitmap: Bits, until: Integers) -> Integers:
    """By row: the newest day in the bitmap, which holds nothing but the 512 days that end with `until`; -1 where it is empty."""
    word, bit = np.divmod(until % SPAN_DAYS, 64)
    # The words from that of `until` backwards; its later bits are the oldest days, and come last.
    around = np.take_along_axis(bitmap, (word[:, None] - np.arange(WORDS + 1)) % WORDS, axis=1)
    around[:, 0] &= _LOWEST[bit + 1]
    around[:, WORDS] &= ~_LOWEST[bit + 1]
    held = around != 0
    place = held.argmax(axis=1)
    day_bit = _highest_bit(around[np.arange(len(around)), place]) + (word - place) % WORDS * 64
    return np.where(held.any(axis=1), until - (until - day_bit) % SPAN_DAYS, -1)


def _highest_bit(words: Bits) -> Integers:
    high, low = (words >> np.uint64(32)).astype(np.float64), (words & np.uint64(0xFFFFFFFF)).astype(np.float64)
    bits: Integers = np.where(high > 0, np.frexp(high)[1] + 31, np.frexp(low)[1] - 1).astype(np.int64)
    return bits
