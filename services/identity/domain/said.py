"""What a process said already and need not say again."""

from __future__ import annotations


class SaidBefore:
    """Remembers the newest names, at least `limit` of them and fewer than twice as many; what it forgot is said once more."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._newer: set[str] = set()
        self._older: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._newer or name in self._older

    def add(self, name: str) -> None:
        """Remember it."""
        if len(self._newer) >= self._limit:
            self._newer, self._older = set(), self._newer
        self._newer.add(name)
