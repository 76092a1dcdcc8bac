"""Which profile an event's references mean, and which of them are not to be believed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from services.identity.domain.called import Called, by_strength
from services.identity.domain.trust import NO_RULES, VISITOR, Rules, Verdict, kind_of, limit_of, system_of
from shared.contracts.envelope import derived_id

Held = Mapping[str, Called]
"""Profile -> what its customer is called."""
_NOBODY = Called()


def new_profile_id(reference: str) -> str:
    """The id of the profile that begins with this reference; the same whoever meets it first."""
    return derived_id("profile", reference)


@dataclass(frozen=True, slots=True)
class Demoted:
    """A reference that an event names and that says nothing about who it is, and why."""

    reference: str
    rule: Verdict


@dataclass(frozen=True, slots=True)
class Resolution:
    """The profile meant, the references that become its own, those that belong to another, and those that do not count."""

    profile: str
    added: tuple[str, ...]
    elsewhere: tuple[str, ...]
    demoted: tuple[Demoted, ...] = ()
    trusted: tuple[str, ...] = ()
    """Those that count, strongest first."""


def resolve(
    references: Sequence[str],
    known: Mapping[str, str],
    rules: Rules = NO_RULES,
    held: Held | None = None,
    at: int = 0,
    *,
    retired: Collection[str] = (),
    begin: Callable[[str], str] = new_profile_id,
) -> Resolution:
    """The strongest reference that is known says who this is; where none is, a profile begins with the strongest.

    A weak reference gives nobody who is known by a strong one another strong one: it may be a family's phone, or a shop's device.
    Where a new reference would break a limit, the weakest reference whose absence mends it does not count.
    `retired`: those that the event says to be theirs no more, which makes room.
    `begin`: the id of the profile that begins with a reference.
    """
    if len(references) == 1:
        # The hot path: a sale names one.
        profile = known.get(references[0])
        added = () if profile else tuple(references)
        return Resolution(profile or begin(references[0]), added, (), (), tuple(references))
    usable = sorted(references, key=lambda each: by_strength(each)[0])
    usable, too_weak = _without_weak_ties(usable, known, rules, held or {})
    said = dict.fromkeys(references, at)
    says = Called(said, said, dict.fromkeys(retired, at))
    usable, too_many = _within_limits(usable, known, lambda some: _broken(some, known, rules, held or {}, says))
    profile = _meant(usable, known, rules, begin)
    return Resolution(
        profile=profile,
        added=tuple(each for each in usable if each not in known),
        elsewhere=tuple(each for each in usable if known.get(each, profile) != profile),
        demoted=(*too_weak, *too_many),
        trusted=tuple(usable),
    )


def _meant(references: Sequence[str], known: Mapping[str, str], rules: Rules, begin: Callable[[str], str] = new_profile_id) -> str:
    tie = next((each for each in references if each in known), None)
    # Whose a device is, is asked and decided in one order: two people may log in on it at once.
    if tie is None or (kind_of(tie) == VISITOR and rules.merge_by and rules.is_strong(references[0])):
        return begin(references[0])
    return known[tie]


def _without_weak_ties(references: list[str], known: Mapping[str, str], rules: Rules, held: Held) -> tuple[list[str], list[Demoted]]:
    demoted: list[Demoted] = []
    while (tie := next((each for each in references if each in known), None)) is not None:
        profile, has_new = known[tie], any(rules.is_strong(each) for each in references if each not in known)
        if rules.is_strong(tie) or not has_new or not any(map(rules.is_strong, held.get(profile, _NOBODY).since)):
            break
        demoted += [Demoted(each, Verdict.WEAK_REFERENCE) for each in references if known.get(each) == profile]
        references = [each for each in references if known.get(each) != profile]
    return references, demoted


def _broken(references: Sequence[str], known: Mapping[str, str], rules: Rules, held: Held, says: Called) -> Verdict | None:
    """The limit that the new ones among these references would break."""
    profile = _meant(references, known, rules)
    new = {system_of(each) for each in references if each not in known}
    if not new:
        return None
    # Those that the profile has may have come to it only now. One that was retired is taken back by being named, whatever else counts.
    own = {each: at for each, at in says.since.items() if known.get(each) == profile or (each in references and each not in known)}
    called = held.get(profile, _NOBODY).joined(Called(own, own, says.retired))
    broken = rules.broken(called.in_use(), new, [system_of(each) for each in references])
    return limit_of(broken) if broken else None


def _within_limits(
    references: list[str], known: Mapping[str, str], broken: Callable[[Sequence[str]], Verdict | None]
) -> tuple[list[str], list[Demoted]]:
    """Strongest first; leaves out the weakest whose absence mends what is broken, and where no single one does, the weakest.

    Never the strongest where it is known: a card is not given up for two devices, and next time it would say again who this is.
    """
    demoted: list[Demoted] = []
    while len(references) > 1 and (rule := broken(references)) is not None:
        least = 1 if references[0] in known else 0
        without = ([each for each in references if each != out] for out in reversed(references[least:]))
        rest = next((some for some in without if broken(some) is None), references[:-1])
        demoted += [Demoted(each, rule) for each in references if each not in rest]
        references = rest
    return references, demoted
