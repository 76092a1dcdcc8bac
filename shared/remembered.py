"""A bounded map."""

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
