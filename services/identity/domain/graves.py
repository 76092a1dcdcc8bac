"""Who was erased, known only by keyed hashes: what comes late is not taken in again, and who comes back begins anew."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from services.identity.domain.resolution import new_profile_id
from shared.contracts.envelope import derived_id


@dataclass(frozen=True, slots=True)
class Grave:
    """Of one reference: what happened up to `until` (microseconds since 1970) is never taken in again."""

    until: int
    request_id: str
    """Of the last erasure: whoever comes back with the reference begins another profile than the one that was erased."""


class Dated(Protocol):
    """As much of an event as is looked at."""

    @property
    def references(self) -> tuple[str, ...]: ...


class Digest(Protocol):
    """A keyed hash of a text."""

    def __call__(self, text: str) -> str: ...


@dataclass(frozen=True, slots=True)
class Graves:
    """All graves of references, about 200 bytes each, so that looking costs a batch no question."""

    number: int = 0
    """Counts the erasures: a process whose number is behind reads again, and forgets what it remembers of references."""
    by_digest: Mapping[str, Grave] = field(default_factory=dict)
    digest: Digest | None = None
    """None: nobody was ever erased, or the key is missing."""

    def of(self, reference: str) -> Grave | None:
        """The grave of a reference."""
        return self.by_digest.get(self.digest(reference)) if self.by_digest and self.digest is not None else None

    def begin(self, reference: str) -> str:
        """The id of the profile that begins with this reference."""
        grave = self.of(reference)
        return new_profile_id(reference) if grave is None else derived_id("profile", reference, grave.request_id)

    def cover(self, reference: str, at: int) -> bool:
        """Does a reference that an event of then names mean somebody who was erased since?"""
        grave = self.of(reference)
        return grave is not None and at <= grave.until

    def newest_of(self, references: Iterable[str]) -> Grave | None:
        """The grave of those references that reaches farthest."""
        if not self.by_digest:
            return None
        found = (grave for reference in references if (grave := self.of(reference)) is not None)
        return max(found, key=lambda grave: grave.until, default=None)
