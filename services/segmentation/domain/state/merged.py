"""Which profiles are one customer, by row: sparse, because nearly all are alone. Merging and splitting change this and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from services.segmentation.domain.arrays import Integers, Mask


class Merged:
    """A row's profile is a customer by itself, is part of another one (`home`), or has others beside it in its customer (`others`)."""

    def __init__(self) -> None:
        self._home: dict[int, str] = {}
        self._others: dict[int, tuple[str, ...]] = {}
        self._sorted: tuple[Integers, Integers] | None = None
        """The rows of both, ascending; None where they have changed since."""

    def __bool__(self) -> bool:
        return bool(self._home or self._others)

    def home(self, row: int) -> str | None:
        """The customer that this row's profile is part of, where it is none itself."""
        return self._home.get(row)

    def others(self, row: int) -> tuple[str, ...]:
        """The other profiles of this row's customer."""
        return self._others.get(row, ())

    def put(self, row: int, home: str | None = None, others: tuple[str, ...] = ()) -> None:
        """From now on this row's profile is part of another customer, or has others beside it, or is alone."""
        self._sorted = None
        self._home.pop(row, None)
        self._others.pop(row, None)
        if home is not None:
            self._home[row] = home
        elif others:
            self._others[row] = others

    def forget(self, rows: Integers) -> None:
        """These rows' profiles are alone."""
        for row in rows[self.absorbed(rows) | self.with_others(rows)].tolist():
            self.put(row)

    def absorbed(self, rows: Integers) -> Mask:
        """Which of these rows' profiles are no customers by themselves."""
        return _among(rows, self._rows()[0])

    def with_others(self, rows: Integers) -> Mask:
        """Which of these rows' customers have other profiles, too."""
        return _among(rows, self._rows()[1])

    def absorbed_rows(self) -> Integers:
        """All rows whose profiles are no customers by themselves, ascending."""
        return self._rows()[0]

    def take(self, other: Merged, rows: Integers, into: Integers) -> None:
        """Copy what another state knows of its rows."""
        if other:
            there = np.flatnonzero(other.absorbed(rows) | other.with_others(rows))
            for row, own in zip(rows[there].tolist(), into[there].tolist(), strict=True):
                self.put(own, other.home(row), other.others(row))

    def plain(self) -> dict[str, Any]:
        """Ready for JSON; `from_plain` reads it back."""
        return {"home": list(self._home.items()), "others": list(self._others.items())}

    @staticmethod
    def from_plain(plain: Mapping[str, Iterable[Any]]) -> Merged:
        """Read back; nothing is everybody alone."""
        merged = Merged()
        for row, home in plain.get("home", ()):
            merged.put(row, home=home)
        for row, others in plain.get("others", ()):
            merged.put(row, others=tuple(others))
        return merged

    def _rows(self) -> tuple[Integers, Integers]:
        if self._sorted is None:
            home, others = (np.array(sorted(rows), dtype=np.int64) for rows in (self._home, self._others))
            self._sorted = home, others
        return self._sorted


def _among(rows: Integers, known: Integers) -> Mask:
    if not len(known):
        return np.zeros(len(rows), dtype=bool)
    found: Mask = known[np.minimum(np.searchsorted(known, rows), len(known) - 1)] == rows
    return found
