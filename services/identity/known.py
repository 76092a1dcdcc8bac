"""What a process remembers of references and profiles, so that a warm batch asks the database nothing."""

from __future__ import annotations

from typing import Generic, TypeVar

Value = TypeVar("Value")


class Remembered(Generic[Value]):
    """A bounded map: when it is full, the half that was not asked for lately is forgotten."""

    def __init__(self, size: int) -> None:
        self._half = size // 2
        self._young: dict[str, Value] = {}
        self._old: dict[str, Value] = {}

    def get(self, key: str) -> Value | None:
        """What is remembered under the key."""
        value = self._young.get(key)
        if value is None and (value := self._old.get(key)) is not None:
            self.put(key, value)
        return value

    def put(self, key: str, value: Value) -> None:
        """Remember it."""
        if len(self._young) >= self._half:
            self._old, self._young = self._young, {}
        self._young[key] = value


class Known:
    """References never move and first times only sink, so what is remembered is right or costs one look more."""

    def __init__(self, size: int) -> None:
        self.profiles: Remembered[str] = Remembered(size)
        """Reference -> profile."""
        self.first_seen: Remembered[int] = Remembered(size)
        """Profile -> when its customer, who is in the database, was first seen."""
