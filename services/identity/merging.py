"""Decisions on merging and splitting, and customers as their members make them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from services.identity import metrics
from services.identity.domain.called import Called
from services.identity.domain.customers import CustomerState, seen_as
from services.identity.domain.events import SEPARATOR, SourceEvent
from services.identity.domain.merging import Action, Asked, Decision, Group, Groups, decide_all, groups_after, prejudged, together
from services.identity.domain.resolution import Resolution
from services.identity.domain.trust import Rules, Verdict, kind_of, system_of
from services.identity.store import customers, merges, references
from shared.contracts.customers import MergeRequested, SplitRequested


def question_of(event: SourceEvent, index: int = 0) -> str:
    """What the question is called that an event asks by one of its references."""
    return f"{event.key}{SEPARATOR}{index}"


def asked_by(event: SourceEvent, resolution: Resolution, owners: Mapping[str, str], rules: Rules) -> tuple[list[Asked], dict[int, Verdict]]:
    """What an event asks, and which of its references ask nothing (by index) and why."""
    if event.type in (MergeRequested.event_type, SplitRequested.event_type):
        return [_requested(event)], {}
    refused = {event.references.index(each.reference): each.rule for each in resolution.demoted}
    asked = []
    for reference in resolution.elsewhere:
        named = (_strongest(resolution, owners), reference)
        index = event.references.index(reference)
        if (rule := prejudged([*map(kind_of, named)], rules)) is not None:
            refused[index] = rule
        else:
            asked.append(_link(event, index, (resolution.profile, owners[reference]), named))
    return asked, refused


def _strongest(resolution: Resolution, owners: Mapping[str, str]) -> str:
    """Of the references by which the event names the profile that it means."""
    return next(each for each in resolution.trusted if owners.get(each) == resolution.profile)


def _link(event: SourceEvent, index: int, profiles: tuple[str, str], named: tuple[str, str]) -> Asked:
    kinds, said = tuple(map(kind_of, named)), tuple(map(system_of, named))
    return Asked(question_of(event, index), event.key, profiles, kinds, at=event.at_us, by=event.source, said=said)


def _requested(event: SourceEvent) -> Asked:
    data = event.data
    is_split = event.type == SplitRequested.event_type
    return Asked(
        question_of(event),
        event.key,
        (data.customer_id,) if is_split else (data.customer_id, data.other_id),
        apart=tuple(sorted(set(data.profiles))) if is_split else (),
        at=event.at_us,
        by=data.by,
        evidence=data.evidence,
    )


def decide(asked: Sequence[Asked], rules: Rules, at: datetime) -> list[Decision]:
    """The decisions on these questions, made now or before. What changes nothing has none.

    Numbers make one order of all decisions in all processes: whoever finds the next number taken decides again, knowing more.
    """
    while asked:
        last = merges.last_number()
        made = merges.answers_to({each.event for each in asked})
        new = _decide([each for each in asked if each.id not in made], rules)
        # That a device is somebody's stays so for every visitor of it: it would fill the order of decisions and tell nothing.
        kept = [each for each in new if each.rule is not Verdict.WEAK_REFERENCE]
        if kept:
            # Before the decisions: whoever publishes a customer looks among them only where this says so.
            concerned = frozenset().union(*(each.members for each in kept))
            references.add_profiles(concerned)
            references.link(concerned)
        if not kept or merges.append(kept, last, at):
            _count(new)
            made.update((each.asked.id, each) for each in new)
            return [made[each.id] for each in asked if each.id in made]
    return []


def _decide(asked: Sequence[Asked], rules: Rules) -> list[Decision]:
    profiles = {profile for each in asked for profile in (*each.profiles, *each.apart)}
    groups = _groups_with_vetoes(profiles)
    members = frozenset().union(*(groups.of(profile) for profile in profiles))
    return decide_all(asked, groups, _named(customers.load(members)), rules)


def _groups_with_vetoes(profiles: Collection[str]) -> Groups:
    """Of these profiles, and everything that was ever decided about whom they are one customer with."""
    groups = groups_after(merges.concerning(profiles))
    return groups_after(merges.concerning({member for profile in profiles for member in groups.of(profile)}))


def _named(states: Mapping[str, CustomerState]) -> dict[str, Called]:
    # What was kept before times were has none: it is older than all that has.
    return {
        profile: replace(state.called, since={**dict.fromkeys(state.references, 0), **state.called.since})
        for profile, state in states.items()
    }


def _count(decisions: Iterable[Decision]) -> None:
    for each in decisions:
        if each.action is not Action.REFUSED:
            metrics.MERGES.labels(each.action.value, each.rule.value).inc()


def held_by(profiles: Collection[str]) -> dict[str, Called]:
    """What the customers of these profiles are called."""
    groups = groups_of(profiles)
    everyone = {member for profile in profiles for member in groups.get(profile, (profile,))}
    named = _named(customers.load(everyone))
    return {profile: together(groups.get(profile, (profile,)), named) for profile in profiles}


def groups_of(profiles: Collection[str]) -> dict[str, Group]:
    """The members of the customer of each of these profiles that is not alone."""
    linked = references.linked(profiles)
    if not linked:
        return {}
    groups = groups_after(merges.concerning(linked))
    return {profile: groups.of(profile) for profile in linked if len(groups.of(profile)) > 1}


def published_as(profiles: Collection[str]) -> dict[str, CustomerState]:
    """What is to be published under each of these profiles' ids now, as far as it is known."""
    return _published(customers.load(profiles))


def _published(states: Mapping[str, CustomerState]) -> dict[str, CustomerState]:
    """The same for what was just read of profiles.

    Versions are read before what they promise: whoever changes anything counts the versions on afterwards, so the highest one has it all.
    """
    groups = groups_of(states.keys())
    known = {**states, **customers.load(frozenset().union(*groups.values()))} if groups else {}
    return {**states, **{profile: seen_as(profile, states[profile].version, group, known) for profile, group in groups.items()}}


def to_publish(changed: Sequence[CustomerState], decided: Iterable[Decision]) -> list[CustomerState]:
    """The customers to publish after profiles changed and decisions were made. A change of one member is a change of its whole customer."""
    states = {state.customer_id: state for state in changed}
    concerned = frozenset().union(*(each.members for each in decided))
    groups = groups_of(states.keys() | concerned)
    members = concerned.union(*groups.values())
    if not members:
        return list(changed)
    customers.count_versions_on(members)
    seen = published_as(members)
    references.note_absorbed({profile: (state.merged_into is not None, state.version) for profile, state in seen.items()})
    return [*(state for profile, state in states.items() if profile not in members), *seen.values()]


def customers_among(profiles: Iterable[CustomerState]) -> list[CustomerState]:
    """Those of these profiles, just read, that are customers, with all that their members add; the others belong to somebody."""
    seen = _published({state.customer_id: state for state in profiles})
    return [state for state in seen.values() if state.merged_into is None]


def meant_by(reference: str) -> CustomerState | None:
    """The customer that a reference means."""
    found = customers.with_reference(reference)
    if found is None:
        return None
    state, is_linked = found
    return homes_of((state.customer_id,))[state.customer_id] if is_linked else state


def homes_of(profiles: Collection[str]) -> dict[str, CustomerState]:
    """The customer that each of these profiles belongs to."""
    seen = published_as(profiles)
    away = {state.merged_into for state in seen.values() if state.merged_into is not None}
    # Somebody may decide between two looks: a home that was merged meanwhile is looked for again.
    homes = homes_of(away) if away else {}
    return {profile: homes.get(state.merged_into, state) if state.merged_into is not None else state for profile, state in seen.items()}
