"""What a process remembers of references and profiles, so that a warm batch asks the database nothing."""

from __future__ import annotations

from collections.abc import Callable

from services.identity.domain.graves import Digest, Graves
from shared.remembered import Remembered


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
