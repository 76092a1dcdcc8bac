"""Which partition a key belongs to: murmur2 as Kafka's Java client computes it, so that every producer agrees."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.contracts.topics import PARTITION_COUNT

_SEED = 0x9747B28C
_M = 0x5BD1E995
_MASK = 0xFFFFFFFF
_POSITIVE = 0x7FFFFFFF

_WORTH_ARRAYS = 16
"""Below so many keys of one length, hashing one by one is faster."""


def murmur2(data: bytes) -> int:
    """The 32-bit murmur2 hash of Kafka's `Utils.murmur2`, unsigned."""
    length = len(data)
    hashed = _SEED ^ length
    whole = length & ~3
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at : at + 4], "little") * _M & _MASK
        k = (k ^ k >> 24) * _M & _MASK
        hashed = hashed * _M & _MASK ^ k
    if whole != length:
        hashed = (hashed ^ int.from_bytes(data[whole:], "little")) * _M & _MASK
    hashed = (hashed ^ hashed >> 13) * _M & _MASK
    return hashed ^ hashed >> 15


@lru_cache(maxsize=1 << 16)
def partition_for(key: bytes, count: int = PARTITION_COUNT) -> int:
    """The partition of a key among `count`, as Kafka's default partitioner chooses it."""
    return (murmur2(key) & _POSITIVE) % count


def partitions_for(keys: Sequence[bytes], count: int = PARTITION_COUNT) -> list[int]:
    """The partition of each key. Keys of one length, as ids have, are hashed side by side: some thirty times faster."""
    lengths = {len(key) for key in keys}
    if len(keys) < _WORTH_ARRAYS * len(lengths):
        return [partition_for(key, count) for key in keys]
    if len(lengths) == 1:
        return _partitions_of_one_length(keys, lengths.pop(), count)
    partitions = [0] * len(keys)
    for length in lengths:
        places = [place for place, key in enumerate(keys) if len(key) == length]
        for place, partition in zip(places, _partitions_of_one_length([keys[place] for place in places], length, count), strict=True):
            partitions[place] = partition
    return partitions


def _partitions_of_one_length(keys: Sequence[bytes], length: int, count: int) -> list[int]:
    data = np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(len(keys), length)
    partitions: list[int] = ((_murmur2_of_rows(data) & np.uint32(_POSITIVE)) % np.uint32(count)).tolist()
    return partitions


def _murmur2_of_rows(data: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """`murmur2` of each row; uint32 arithmetic wraps as Java's int does."""
    rows, length = data.shape
    m = np.uint32(_M)
    hashed = np.full(rows, _SEED ^ length, dtype=np.uint32)
    whole = length & ~3
    words: NDArray[Any] = np.ascontiguousarray(data[:, :whole]).view("<u4")
    for column in words.T:
        k = column * m
        k = (k ^ k >> np.uint32(24)) * m
        hashed = hashed * m ^ k
    if whole != length:
        tail = np.zeros(rows, dtype=np.uint32)
        for place in range(whole, length):
            tail |= data[:, place].astype(np.uint32) << np.uint32(8 * (place - whole))
        hashed = (hashed ^ tail) * m
    hashed = (hashed ^ hashed >> np.uint32(13)) * m
    return hashed ^ hashed >> np.uint32(15)
