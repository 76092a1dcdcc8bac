"""Whom events are about: references find or make profiles, events change customers, customers are published."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from services.identity import metrics
from services.identity.domain.called import Called
from services.identity.domain.customers import CustomerState, announcement, join, microseconds, what_it_calls_them, what_it_says
from services.identity.domain.duplicates import Arrival
from services.identity.domain.events import REQUESTS, SourceEvent
from services.identity.domain.graves import Graves
from services.identity.domain.resolution import Demoted, Held, Resolution, resolve
from services.identity.domain.trust import Rules, Verdict
from services.identity.intake import Incoming, Intake, Settled
from services.identity.known import Known
from services.identity.merging import held_by, published_as
from services.identity.store import customers, merges, references
from services.identity.store import graves as erased
from shared.contracts.topics import CUSTOMER_UPDATES, CUSTOMERS
from shared.mongo import in_store
from shared.streaming.records import Message, Publish


async def look_up(events: Iterable[SourceEvent], known: Known) -> dict[str, str]:
    """The profiles of those references of these events that have one."""
    asked = {reference for event in events for reference in event.references}
    found = {reference: profile for reference in asked if (profile := known.profiles.get(reference)) is not None}
    if missing := asked - found.keys():
        found.update(await in_store(references.profiles_of, missing))
        remember(found, known)
    return found


def remember(profiles: Mapping[str, str], known: Known) -> None:
    """Keep them at hand."""
    for reference, profile in profiles.items():
        known.profiles.put(reference, profile)


async def expect(events: Sequence[SourceEvent], known: Known, rules: Rules) -> list[Resolution | None]:
    """Whom the events will be about unless another process gives their references away meanwhile."""
    profiles = await look_up(events, known)
    resolutions, _ = resolve_all(events, profiles, rules, await _held(events, profiles), known.graves)
    return resolutions


async def _held(events: Iterable[SourceEvent], profiles: Mapping[str, str]) -> dict[str, Called]:
    """What those are called whom events may call something new."""
    asked = {
        profiles[reference]
        for event in events
        if len(event.references) > 1 and not all(reference in profiles for reference in event.references)
        for reference in event.references
        if reference in profiles
    }
    return await in_store(held_by, asked) if asked else {}


def resolve_all(
    events: Iterable[SourceEvent], profiles: Mapping[str, str], rules: Rules, held: Held, graves: Graves
) -> tuple[list[Resolution | None], dict[str, str]]:
    """Resolve in order, each event knowing what those before it added; also returns all that they add."""
    view, called = dict(profiles), dict(held)
    resolutions: list[Resolution | None] = []
    for event in events:
        resolution = _resolve(event, view, rules, called, graves)
        resolutions.append(resolution)
        if resolution is not None and (resolution.added or resolution.profile in called):
            view.update(dict.fromkeys(resolution.added, resolution.profile))
            says = what_it_calls_them(event, [each for each in event.references if view.get(each) == resolution.profile])
            called[resolution.profile] = called.get(resolution.profile, Called()).joined(says)
    return resolutions, {reference: profile for reference, profile in view.items() if reference not in profiles}


def _resolve(event: SourceEvent, known: Mapping[str, str], rules: Rules, held: Held, graves: Graves) -> Resolution | None:
    if event.type in REQUESTS:
        return Resolution(event.data.customer_id, (), ())
    if not event.references:
        return None
    # Whoever an old event called so was erased since, and nobody else may come to be called so by it.
    gone = [each for each in event.references if graves.cover(each, event.at_us)] if len(event.references) > 1 else []
    living = [each for each in event.references if each not in gone] or event.references
    resolution = resolve(living, known, rules, held, event.at_us, retired=event.retired, begin=graves.begin)
    return replace(resolution, demoted=(*resolution.demoted, *(Demoted(each, Verdict.ERASED) for each in gone))) if gone else resolution


async def without_erased(intake: Intake, known: Known) -> Intake:
    """Set aside what happened before somebody was erased and comes only now; nothing of it is looked at again.

    A reference that still belongs to somebody else keeps its event, unless it was the erased one's before: then the event is theirs.
    """
    late = [*await _of_the_erased(intake.incoming, known.graves), *await _asking_about_the_erased(intake.incoming)]
    if not late:
        return intake
    kept = {each.offset for each in intake.incoming} - {each.offset for each in late}
    return replace(intake, incoming=[each for each in intake.incoming if each.offset in kept], late=tuple(late))


async def _of_the_erased(incoming: Sequence[Incoming], graves: Graves) -> list[Incoming]:
    if not graves.by_digest:
        return []
    named = [each for each in incoming if graves.newest_of(each.event.references) is not None]
    uncovered = {each.offset: _uncovered(each.event, graves) for each in named}
    living = await in_store(references.profiles_of, {each for some in uncovered.values() for each in some}) if named else {}
    # What only the erased are called in, or those whom nobody knows, is theirs; the rest is, where it was before.
    before = [each for each in named if len(uncovered[each.offset]) < len(each.event.references)]
    theirs = [each for each in before if living.keys().isdisjoint(uncovered[each.offset])]
    offsets = {each.offset for each in theirs}
    return theirs + await _buried_themselves([each for each in named if each.offset not in offsets], graves)


def _uncovered(event: SourceEvent, graves: Graves) -> list[str]:
    return [each for each in event.references if not graves.cover(each, event.at_us)]


async def _asking_about_the_erased(incoming: Sequence[Incoming]) -> list[Incoming]:
    """Requests to merge or split that name them: nothing is to be decided, and they may tell in plain words why they were made."""
    named = {each.offset: each for each in incoming if each.event.type in REQUESTS}
    if not named:
        return []
    gone = await in_store(merges.erased_among, {profile for each in named.values() for profile in each.event.asks_about})
    return [each for each in named.values() if not gone.isdisjoint(each.event.asks_about)]


async def _buried_themselves(incoming: Sequence[Incoming], graves: Graves) -> list[Incoming]:
    """Those that were erased themselves, whatever time they give: a till's clock may be a day ahead."""
    if not incoming or graves.digest is None:
        return []
    digests = {graves.digest(each.key): each for each in incoming}
    return [digests[digest] for digest in await in_store(erased.buried, digests)]


async def attach(events: Sequence[SourceEvent], known: Known, rules: Rules) -> tuple[list[Resolution | None], dict[str, str]]:
    """Find the profile of each event, giving it the references that are new; also returns who owns each reference.

    Another process may give a reference away at the same moment: the database says who was first, and all agree.
    """
    began = time.perf_counter()
    profiles = await look_up(events, known)
    held = await _held(events, profiles)
    while True:
        resolutions, added = resolve_all(events, profiles, rules, held, known.graves)
        if not added:
            break
        elsewhere = await in_store(references.claim, added)
        profiles.update(added | elsewhere)
        remember(added | elsewhere, known)
        if all(added[reference] == profile for reference, profile in elsewhere.items()):
            break
    metrics.RESOLVE_SECONDS.observe(time.perf_counter() - began)
    return resolutions, profiles


@dataclass(frozen=True, slots=True)
class Said:
    """One event and the profile it is about."""

    event: SourceEvent
    profile: str
    again: bool
    """It was accepted before, so what followed from it may not have been published."""


def worth_telling(settled: Iterable[Settled], known: Known) -> list[Said]:
    """The events that may change a customer, or whose change may not have been published."""
    return [
        Said(each.incoming.event, each.profile, each.arrival is Arrival.REDELIVERED)
        for each in settled
        if each.counts
        and each.profile is not None
        and each.incoming.event.type not in REQUESTS
        and (each.arrival is Arrival.REDELIVERED or _may_be_news(each, each.profile, known))
    ]


def _may_be_news(settled: Settled, profile: str, known: Known) -> bool:
    event = settled.incoming.event
    first_seen = known.first_seen.get(profile)
    return event.topic is CUSTOMER_UPDATES or first_seen is None or microseconds(event.at) < first_seen


def learn(said: Sequence[Said], owners: Mapping[str, str], graves: Graves) -> list[CustomerState]:
    """Change what is known of profiles as these events say, and return those whose customers are to be published.

    `owners`: reference -> profile.
    """
    made = references.add_profiles({each.profile for each in said})
    news = _news(said, owners, graves)
    # Of a profile that was not there nothing is known, as a rule: where another process was faster, saving says so.
    to_load = news.keys() - made
    to_publish = {each.profile for each in said if each.again}
    while True:
        before = customers.load(to_load)
        after = {customer: _changed(before.get(customer), state) for customer, state in news.items()}
        changed = [state for customer, state in after.items() if customer not in before or state.version != before[customer].version]
        to_publish.update(state.customer_id for state in changed)
        if customers.save(changed):
            return [state for customer, state in after.items() if customer in to_publish]
        to_load = set(news)


def _news(said: Sequence[Said], owners: Mapping[str, str], graves: Graves) -> dict[str, CustomerState]:
    news: dict[str, CustomerState] = {}
    for each in said:
        own = tuple(reference for reference in each.event.references if owners.get(reference) == each.profile)
        elsewhere = [reference for reference in each.event.references if reference in owners and reference not in own]
        state = what_it_says(each.event, each.profile, each.profile, own, elsewhere)
        if gone := [reference for reference in each.event.retired if graves.cover(reference, each.event.at_us)]:
            state = replace(state, called=state.called.without(gone))
        news[state.customer_id] = join(news[state.customer_id], state) if state.customer_id in news else state
    return news


def _changed(before: CustomerState | None, news: CustomerState) -> CustomerState:
    after = join(before, news) if before else news
    return after if after == before else replace(after, version=after.version + 1)


async def announce(states: Sequence[CustomerState], publish: Publish) -> None:
    """Publish customers; one that moved meanwhile is published again, so that the newest version is also the last one written."""
    pending = {state.customer_id: state for state in states}
    while pending:
        await publish(CUSTOMERS, [_message(state) for state in pending.values()])
        metrics.CUSTOMERS_PUBLISHED.inc(len(pending))
        versions = await in_store(customers.versions, pending)
        moved = [customer for customer, state in pending.items() if versions.get(customer, 0) > state.version]
        pending = await in_store(published_as, moved) if moved else {}


def _message(state: CustomerState) -> Message:
    return Message(state.customer_id.encode(), announcement(state).model_dump_json().encode())
