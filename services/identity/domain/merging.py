"""Whether profiles are one customer: what is asked, what is decided, and the groups that follow.

Decisions are made one after the other, each knowing all before it, and are kept for ever. So which profiles are one customer depends on
the decisions and their order alone: a decision that is asked for again is the one that was made.

Where no rule refuses, the order does not matter either: the groups are the connected components of the links. A limit or an earlier
split makes it matter, because of three links that cannot all hold the first ones do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import reduce
from itertools import product

from services.identity.domain.called import Called
from services.identity.domain.trust import VISITOR, Rules, Verdict, limit_of, system_of

Group = frozenset[str]
Pair = frozenset[str]


class Action(StrEnum):
    """What a decision does."""

    MERGED = "merged"
    SPLIT = "split"
    ERASED = "erased"
    """A whole customer is gone: whoever decides later knows it, and nothing is merged with it or split from it."""
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Asked:
    """One question: are these two profiles one customer, are those `apart` another one, or who is to be erased with this one?"""

    id: str
    """Of the event and the place in it: the same question whenever it is asked again."""
    event: str
    profiles: tuple[str, ...]
    """Of a link, the two; of a split or an erasure, a profile of the customer."""
    kinds: tuple[str, ...] = ()
    """Of the references by which an event names the two; empty where a person asks."""
    apart: tuple[str, ...] = ()
    at: int = 0
    by: str = ""
    evidence: str = ""
    is_erasure: bool = False
    said: tuple[str, ...] = ()
    """The systems that gave out the two references by which an event names the two. Limits ask; it is not kept."""

    @property
    def is_split(self) -> bool:
        return bool(self.apart)


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer, for ever. `groups` are all profiles concerned, as they belong together from then on."""

    asked: Asked
    action: Action
    rule: Verdict
    groups: tuple[Group, ...] = ()

    @property
    def members(self) -> Group:
        """Everyone concerned."""
        return frozenset().union(*self.groups)


@dataclass(slots=True)
class Groups:
    """Which profiles are one customer, and which must not be, as far as somebody asks."""

    group: dict[str, Group] = field(default_factory=dict)
    """Of those that were ever concerned by a decision; everybody else is alone."""
    vetoes: set[Pair] = field(default_factory=set)
    erased: set[str] = field(default_factory=set)

    def of(self, profile: str) -> Group:
        """The profiles of its customer."""
        return self.group.get(profile, frozenset((profile,)))

    def follow(self, decision: Decision) -> None:
        """Take a decision in; they come in the order in which they were made."""
        for group in decision.groups:
            self.group.update((member, group) for member in group)
        if decision.action is Action.SPLIT:
            self.vetoes |= _pairs(*decision.groups)
        elif decision.action is Action.ERASED:
            self.erased |= decision.members
        elif decision.action is Action.MERGED and decision.rule is Verdict.REQUESTED:
            self.vetoes = {pair for pair in self.vetoes if not pair <= decision.members}

    def forbid(self, one: Group, other: Group) -> bool:
        """Did a person part any of the ones from any of the others?"""
        return bool(self.vetoes) and not self.vetoes.isdisjoint(_pairs(one, other))


def _pairs(one: Iterable[str], other: Iterable[str]) -> set[Pair]:
    return {frozenset(pair) for pair in product(one, other)}


def is_visitor(references: Iterable[str]) -> bool:
    """Is it somebody whom nothing but devices names? Whoever logs in on one was the visitor; a device that is somebody's stays theirs."""
    return all(reference.startswith(f"{VISITOR}:") for reference in references)


def groups_after(decisions: Iterable[Decision]) -> Groups:
    """The groups that decisions lead to, in their order."""
    groups = Groups()
    for each in decisions:
        groups.follow(each)
    return groups


def prejudged(kinds: Sequence[str], rules: Rules) -> Verdict | None:
    """Why a link by references of these kinds need not even be asked about."""
    if not rules.merge_by:
        return Verdict.MERGES_OFF
    weak = [kind for kind in kinds if kind not in rules.merge_by]
    return None if not weak or (weak == [VISITOR] and len(kinds) > 1) else Verdict.WEAK_REFERENCE


def decide_all(asked: Sequence[Asked], groups: Groups, named: Mapping[str, Called], rules: Rules) -> list[Decision]:
    """Decide in order, each knowing those before. What changes nothing is no decision. `named`: what each known profile is called."""
    decisions = []
    for each in asked:
        decision = _decide(each, groups, named, rules)
        if decision is not None:
            groups.follow(decision)
            decisions.append(decision)
    return decisions


def _decide(asked: Asked, groups: Groups, named: Mapping[str, Called], rules: Rules) -> Decision | None:
    if asked.is_erasure:
        return Decision(asked, Action.ERASED, Verdict.REQUESTED, (groups.of(asked.profiles[0]),))
    return _split(asked, groups) if asked.is_split else _merge(asked, groups, named, rules)


def _split(asked: Asked, groups: Groups) -> Decision:
    group, apart = groups.of(asked.profiles[0]), frozenset(asked.apart)
    if not groups.erased.isdisjoint(group | apart):
        return Decision(asked, Action.REFUSED, Verdict.ERASED)
    if not apart < group:
        return Decision(asked, Action.REFUSED, Verdict.NOT_ITS_PROFILES)
    return Decision(asked, Action.SPLIT, Verdict.REQUESTED, (group - apart, apart))


def _merge(asked: Asked, groups: Groups, named: Mapping[str, Called], rules: Rules) -> Decision | None:
    one, other = (groups.of(profile) for profile in asked.profiles)
    if one == other and asked.kinds:
        return None
    if not groups.erased.isdisjoint(one | other):
        return Decision(asked, Action.REFUSED, Verdict.ERASED)
    # A person waits for an answer, also where nothing changes.
    refused = _against(one | other, asked, groups, named, rules) if asked.kinds else _impossible(one | other, asked, named, rules)
    if refused is not None:
        return Decision(asked, Action.REFUSED, refused)
    return Decision(asked, Action.MERGED, Verdict.NAMED_TOGETHER if asked.kinds else Verdict.REQUESTED, (one | other,))


def _impossible(union: Group, asked: Asked, named: Mapping[str, Called], rules: Rules) -> Verdict | None:
    """A person may go beyond limits on references and take a split back, and nothing else."""
    if not named.keys() >= set(asked.profiles):
        return Verdict.UNKNOWN_PROFILE
    return Verdict.LIMIT_PROFILES if len(union) > rules.profile_limit else None


def _against(union: Group, asked: Asked, groups: Groups, named: Mapping[str, Called], rules: Rules) -> Verdict | None:
    if groups.forbid(*(groups.of(profile) for profile in asked.profiles)):
        return Verdict.SPLIT_BEFORE
    weak = [profile for profile, kind in zip(asked.profiles, asked.kinds, strict=True) if kind not in rules.merge_by]
    if not all(is_visitor(together(groups.of(profile), named).since) for profile in weak):
        return Verdict.WEAK_REFERENCE
    if len(union) > rules.profile_limit:
        return Verdict.LIMIT_PROFILES
    held = together(union, named).in_use()
    broken = rules.broken(held, {system_of(reference) for reference in held}, asked.said)
    return limit_of(broken) if broken else None


def together(group: Iterable[str], named: Mapping[str, Called]) -> Called:
    """What a group is called."""
    return reduce(Called.joined, (named[profile] for profile in group if profile in named), Called())
