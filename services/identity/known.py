"""What a process remembers of references and profiles, so that a warm batch asks the database nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from services.identity.domain.graves import Digest, Graves

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
    """References move only when somebody is erased, and first times only sink: what is remembered is right or costs one look more."""

    def __init__(self, size: int, digest: Digest | None = None) -> None:
        self._size, self._digest = size, digest
        self.graves = Graves(digest=digest)
        self._forget()

    def notice(self, load: Callable[[Graves, Digest | None], Graves]) -> bool:
        """Was somebody erased since? Then nothing that is remembered can be trusted, and it is forgotten."""
        graves = load(self.graves, self._digest)
        if graves is self.graves:
            return False
        self.graves = graves
        self._forget()
        return True

    def _forget(self) -> None:
        size = self._size
        self.profiles: Remembered[str] = Remembered(size)
        """Reference -> profile."""
        self.first_seen: Remembered[int] = Remembered(size)
        """Profile -> when its customer, who is in the database, was first seen."""
