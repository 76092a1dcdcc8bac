"""Traits that rules name, one column each; nobody pays for the others. They are a copy of what customers-v1 says, and never written."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from services.segmentation.domain.arrays import Floats, Integers, Mask

Value = str | int | bool | None

_NONE = -1


class TraitColumn:
    """By row: a trait's value, as the newest version of the customer that was seen has it."""

    def __init__(self) -> None:
        self.is_whole = False
        """Has everything that the topic had been read? Until then nothing may be judged by it."""
        self._version: NDArray[np.int64] = np.full(0, _NONE, np.int64)
        self._number: Floats = np.full(0, np.nan)
        self._text: NDArray[np.int32] = np.full(0, _NONE, np.int32)
        self._codes: dict[str, int] = {}

    @property
    def size_bytes(self) -> int:
        """What it occupies."""
        return self._version.nbytes + self._number.nbytes + self._text.nbytes

    def put(self, rows: Sequence[int], versions: Sequence[int], values: Sequence[Value]) -> None:
        """Take over values; those of older versions change nothing."""
        if rows:
            self._make_room(max(rows) + 1)
        for row, version, value in zip(rows, versions, values, strict=True):
            if version >= self._version[row]:
                self._version[row] = version
                is_number = isinstance(value, int) and not isinstance(value, bool)
                self._number[row] = value if is_number else np.nan
                self._text[row] = _NONE if is_number or value is None else self._codes.setdefault(_spelt(value), len(self._codes))

    def numbers(self, rows: Integers) -> Floats:
        """The values of these rows; nan where it is none or no number."""
        found = np.full(len(rows), np.nan)
        known = rows < len(self._number)
        found[known] = self._number[rows[known]]
        return found

    def is_one_of(self, rows: Integers, values: Sequence[Value]) -> Mask:
        """For whom it is one of these texts, `true` or `false`."""
        wanted = [self._codes[text] for value in values if value is not None and (text := _spelt(value)) in self._codes]
        found = np.zeros(len(rows), dtype=bool)
        known = rows < len(self._text)
        found[known] = np.isin(self._text[rows[known]], wanted)
        return found

    def of_rows(self, rows: Integers) -> TraitColumn:
        """A column of these rows, in this order. Whoever is filling this one does not fill that one; both number texts alike."""
        part = TraitColumn()
        part.is_whole, part._codes = self.is_whole, self._codes
        part._make_room(len(rows))
        known = np.flatnonzero(rows < len(self._version))
        for name in ("_version", "_number", "_text"):
            getattr(part, name)[known] = getattr(self, name)[rows[known]]
        return part

    def value(self, row: int) -> Value:
        """One row's value."""
        if row >= len(self._text):
            return None
        if not np.isnan(self._number[row]):
            return int(self._number[row])
        return next((text for text, code in self._codes.items() if code == self._text[row]), None)

    def _make_room(self, length: int) -> None:
        if length <= len(self._version):
            return
        length = max(length, len(self._version) * 3 // 2)
        for name, empty in (("_version", _NONE), ("_number", np.nan), ("_text", _NONE)):
            held = getattr(self, name)
            grown = np.full(length, empty, held.dtype)
            grown[: len(held)] = held
            setattr(self, name, grown)


def _spelt(value: str | int | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
