"""How far references are believed: limits on how many somebody has, and which kinds may merge."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from services.identity.domain.references import REFERENCE_TYPES

Since = Mapping[str, int]
"""Reference -> the oldest event time that named it, in microseconds since 1970."""
VISITOR = "anonymous"
"""The weak kind of reference that may link all the same: a device says nothing of who uses it, as long as nobody has said so."""
_DAY = 86_400_000_000


class Verdict(StrEnum):
    """The rule by which profiles were merged, or were not, or a reference did not count. Counted, stored and shown."""

    NAMED_TOGETHER = "named_together"
    """Merged: one event names both by references of kinds that may merge."""
    REQUESTED = "requested"
    """Merged, split or erased because a person asked for it."""
    MERGES_OFF = "merges_off"
    WEAK_REFERENCE = "weak_reference"
    """A kind that many people may share, such as a phone or a device."""
    LIMIT_LOYALTY_CARD = "limit_loyalty_card"
    LIMIT_USER = "limit_user"
    LIMIT_EMAIL = "limit_email"
    LIMIT_PHONE = "limit_phone"
    LIMIT_LINE = "limit_line"
    LIMIT_ANONYMOUS = "limit_anonymous"
    LIMIT_PROFILES = "limit_profiles"
    """The customer would consist of too many profiles."""
    SPLIT_BEFORE = "split_before"
    """A person said that they are not one; only a person may say otherwise."""
    UNKNOWN_PROFILE = "unknown_profile"
    NOT_ITS_PROFILES = "not_its_profiles"
    """A split names profiles that the customer does not have, or all of them."""
    ERASED = "erased"
    """One of them was erased, or is being: what is gone for ever is nobody's part any more."""


@dataclass(frozen=True, slots=True)
class Limit:
    """At most so many references of one kind: ever, or that were first named within so many days."""

    count: int
    days: int | None = None

    def is_broken_by(self, times: Collection[int], said_count: int = 0) -> bool:
        """Are there more of them, in any period of that length? Who names several at once says that somebody has so many."""
        count = max(self.count, said_count)
        if self.days is None:
            return len(times) > count
        inside = sorted(times)
        return any(last - first < self.days * _DAY for first, last in zip(inside, inside[count:], strict=False))


DEFAULT_LIMITS: Mapping[str, Limit] = {
    "loyalty_card": Limit(5),
    "user": Limit(1),
    "email": Limit(5),
    "phone": Limit(5),
    "line": Limit(2),
    "anonymous": Limit(20, days=30),
}
DEFAULT_MERGE_BY = ("loyalty_card", "user", "email")


@dataclass(frozen=True, slots=True)
class Rules:
    """The company's choices."""

    merge_by: frozenset[str] = frozenset(DEFAULT_MERGE_BY)
    limits: Mapping[str, Limit] = field(default_factory=lambda: DEFAULT_LIMITS)
    profile_limit: int = 32

    def is_strong(self, reference: str) -> bool:
        """Is it of a kind that says who somebody is? Where nothing merges by itself, the kinds that would."""
        return kind_of(reference) in (self.merge_by or DEFAULT_MERGE_BY)

    def broken(self, held: Since, systems: Collection[str], said: Sequence[str] = ()) -> str | None:
        """The strongest kind of which there are too many of one of these systems; `said` are the systems of those that one event names."""
        times: dict[str, list[int]] = {}
        for reference, at in held.items():
            times.setdefault(system_of(reference), []).append(at)
        for kind in REFERENCE_TYPES:
            limit = self.limits.get(kind)
            of_kind = [each for each in times if kind_of(each) == kind and each in systems]
            if limit and any(limit.is_broken_by(times[each], said.count(each)) for each in of_kind):
                return kind
        return None


NO_RULES = Rules(limits={})


def kind_of(reference: str) -> str:
    """The part before the colon."""
    return reference.partition(":")[0]


def system_of(reference: str) -> str:
    """Who gives such references out, which limits count together: of users what comes before the last slash, of other kinds all together.

    A shop and a till each have an id of their own for the same person.
    """
    kind = kind_of(reference)
    system, slash, _ = reference.rpartition("/")
    return system + slash if slash and kind == "user" else kind


def limit_of(kind: str) -> Verdict:
    """The rule that is named after the limit of a kind."""
    return Verdict(f"limit_{kind}")
