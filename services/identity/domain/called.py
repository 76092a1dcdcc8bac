"""What somebody is called: since when, when it was last said, and which of it reaches them no more."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from services.identity.domain.references import REFERENCE_TYPES
from services.identity.domain.trust import Since, kind_of

_STRENGTH = {kind: place for place, kind in enumerate(REFERENCE_TYPES)}


def by_strength(reference: str) -> tuple[int, str]:
    """Sorts references, the strongest first."""
    return _STRENGTH[kind_of(reference)], reference


@dataclass(frozen=True, slots=True)
class Called:
    """What events say of references, in microseconds since 1970. Joining is idempotent, and neither order nor grouping matters.

    `said` and `retired` may tell of a reference that is another profile's. It counts where the two are one customer, and nowhere else.
    """

    since: Since = field(default_factory=dict)
    said: Mapping[str, int] = field(default_factory=dict)
    """Reference -> the newest time of a form that names it. That somebody bought under it says nothing of where they are reached."""
    retired: Mapping[str, int] = field(default_factory=dict)
    """Reference -> the newest time at which it was said to be theirs no more."""

    def joined(self, other: Called) -> Called:
        """Both taken together."""
        oldest = {**self.since, **{reference: min(at, self.since.get(reference, at)) for reference, at in other.since.items()}}
        return Called(oldest, _newest(self.said, other.said), _newest(self.retired, other.retired))

    def without(self, references: Collection[str]) -> Called:
        """Not a word of these."""
        since, said, retired = (
            {reference: at for reference, at in each.items() if reference not in references}
            for each in (self.since, self.said, self.retired)
        )
        return Called(since, said, retired)

    def is_retired(self, reference: str) -> bool:
        """Is its last word that it is theirs no more? Of a form and a retirement of the same time the retirement stands."""
        retired = self.retired.get(reference)
        return retired is not None and retired >= self.said.get(reference, retired)

    def in_use(self) -> dict[str, int]:
        """Since when they are called what they still are."""
        return {reference: at for reference, at in self.since.items() if not self.is_retired(reference)}

    def newest_first(self, references: Iterable[str]) -> tuple[str, ...]:
        """Kinds in the order of their strength; of each, the one that was first named most recently comes first.

        One that was retired and said again counts from then on: what was before was over.
        """

        def place(reference: str) -> tuple[int, int, str]:
            times = self.said if reference in self.retired else self.since
            strength, text = by_strength(reference)
            return strength, -times.get(reference, 0), text

        return tuple(sorted(references, key=place))


def _newest(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {**one, **{reference: max(at, one.get(reference, at)) for reference, at in other.items()}}
