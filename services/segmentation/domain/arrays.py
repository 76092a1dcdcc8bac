"""The array types that rows and scores are made of."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
"""Counts, days, amounts in minor units, row numbers."""

Bits = NDArray[np.uint64]
Bytes = NDArray[np.uint8]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

Ids = NDArray[np.uint64]
"""Shape (n, 2): the two halves of each 16-byte id."""


def ids_from_hex(text: bytes) -> Ids:
    """Ids from their hexadecimal digits, 32 for each, one after another. Raises ValueError where it is no such text."""
    packed = bytes.fromhex(text.decode("ascii"))
    if len(packed) * 2 != len(text) or len(packed) % 16:
        raise ValueError("an id has 32 hexadecimal digits")
    return np.frombuffer(packed, dtype=">u8").astype(np.uint64).reshape(-1, 2)


def hex_from_ids(ids: Ids) -> list[str]:
    """The 32 hexadecimal digits of each id."""
    text = ids.astype(">u8").tobytes().hex()
    return [text[at : at + 32] for at in range(0, len(text), 32)]
