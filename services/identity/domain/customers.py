"""What is known of one customer, as a join of everything that was said: any order of saying ends in the same state."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import Any, TypeVar

from services.identity.domain.called import Called, by_strength
from services.identity.domain.events import EPOCH, LINK, SourceEvent, details, statements
from shared.contracts.customers import Consent, CustomerIdentified, CustomerPublished
from shared.contracts.envelope import Event, derived_id, envelope
from shared.contracts.interactions import Scalar

SOURCE = "dear/identity"
PUBLISHED_TRAITS = 64
"""As many as the contract takes: the newest."""
WISHES = ("preferred_channel", "language", "time_zone", "customer_type")
LEAD_SOURCE = "lead_source"
READING = "reading"
READINGS_KEPT = 12
"""Of each odometer the newest: enough to tell how much is driven."""
Detail = tuple[str, str, str]
"""Kind, id of the person or thing, field."""


@dataclass(frozen=True, slots=True)
class Said:
    """A value, when it was said (microseconds since 1970), and in which event, which settles ties."""

    at: int
    by: str
    value: Scalar


@dataclass(frozen=True, slots=True)
class Permission:
    """The newest statement on one purpose and channel; of two at the same time the refusal stands."""

    at: int
    granted: bool


@dataclass(frozen=True, slots=True)
class CustomerState:
    """Everything known of a customer, or of one of its profiles. `version` counts its changes and is no part of what is known."""

    customer_id: str
    members: frozenset[str]
    references: frozenset[str]
    first_seen: int
    traits: Mapping[str, Said] = field(default_factory=dict)
    wishes: Mapping[str, Said] = field(default_factory=dict)
    consents: Mapping[tuple[str, str], Permission] = field(default_factory=dict)
    details: Mapping[Detail, Said] = field(default_factory=dict)
    """Of decision makers and assets. An odometer's readings are fields named by their day."""
    called: Called = field(default_factory=Called)
    """Since when they are called what they are, and which of `references` reaches them no more."""
    merged_into: str | None = None
    """The customer that it is part of, of one that is none by itself any more."""
    version: int = field(default=0, compare=False)


_MICROSECOND = timedelta(microseconds=1)


def microseconds(at: datetime) -> int:
    """Since 1970, exactly."""
    return (at - EPOCH) // _MICROSECOND


def moment(at: int) -> datetime:
    """The inverse of `microseconds`."""
    return EPOCH + timedelta(microseconds=at)


def what_it_says(
    event: SourceEvent, profile: str, customer_id: str, references: tuple[str, ...], elsewhere: Iterable[str] = ()
) -> CustomerState:
    """What one event says of its customer; `references` are those of its references that belong to the profile.

    `elsewhere`: those that belong to others, who may turn out to be the same customer.
    """
    at = microseconds(event.at)
    called = what_it_calls_them(event, references, elsewhere)
    seen = CustomerState(customer_id, frozenset((profile,)), frozenset(references), at, called=called)
    consents: dict[tuple[str, str], Permission] = {}
    for each in statements(event):
        consents = _newest_permissions(consents, {(each.purpose, each.channel): Permission(at, each.granted)})
    if event.type != CustomerIdentified.event_type:
        return replace(seen, consents=consents) if consents else seen
    wishes = {name: getattr(event.data, name) for name in (*WISHES, LEAD_SOURCE)}
    return replace(
        seen,
        consents=consents,
        traits={name: Said(at, event.key, value) for name, value in event.data.traits.items()},
        wishes={name: Said(at, event.key, value) for name, value in wishes.items() if value is not None},
        details=_details(event, at),
    )


def what_it_calls_them(event: SourceEvent, own: Iterable[str], elsewhere: Iterable[str] = ()) -> Called:
    """What one event says of references: of its customer's own, and of those that belong to others."""
    at = event.at_us
    since = dict.fromkeys(own, at)
    if event.type != CustomerIdentified.event_type or event.id.startswith(LINK):
        return Called(since)
    return Called(since, {**since, **dict.fromkeys(elsewhere, at)}, dict.fromkeys(event.retired, at))


def references_in_use(state: CustomerState) -> tuple[str, ...]:
    """What reaches them or names them now: kinds in the order of their strength, and of each kind the newest first."""
    return state.called.newest_first(each for each in state.references if not state.called.is_retired(each))


def retired_references(state: CustomerState) -> tuple[str, ...]:
    """What still names them in what comes late, and is theirs no more."""
    return tuple(sorted((each for each in state.references if state.called.is_retired(each)), key=by_strength))


def _details(event: SourceEvent, at: int) -> dict[Detail, Said]:
    found: dict[Detail, Said] = {}
    read_on: dict[str, str] = {name: str(value) for _, name, of, value in details(event) if of == "read_on"}
    for kind, name, of, value in details(event):
        known: Any = value
        if of == "odometer_km":
            found[READING, name, read_on.get(name, event.at.date().isoformat())] = Said(at, event.key, known)
        if of != "read_on":
            found = _newest(found, {(kind, name, of): Said(at, event.key, known)})
    return found


def decision_makers_of(state: CustomerState) -> list[dict[str, Scalar]]:
    """Who decides in a trader's firm, without those who left, in the order of their ids."""
    told: dict[str, dict[str, Scalar]] = {}
    for (kind, name, of), said in state.details.items():
        if kind == "decision_maker":
            told.setdefault(name, {"person_id": name})[of] = said.value
    return [{of: value for of, value in told[name].items() if of != "has_left"} for name in sorted(told) if not told[name].get("has_left")]


def _newest_details(one: Mapping[Detail, Said], other: Mapping[Detail, Said]) -> dict[Detail, Said]:
    """Keeping the newest few of what grows is a join, too: whatever is dropped has as many newer ones in every order."""
    if not one or not other:
        return dict(one or other)
    joined = _newest(one, other)
    days: dict[str, list[str]] = {}
    for kind, name, of in joined:
        if kind == READING:
            days.setdefault(name, []).append(of)
    for name, of_it in days.items():
        for day in sorted(of_it)[:-READINGS_KEPT]:
            del joined[READING, name, day]
    return joined


def join(one: CustomerState, other: CustomerState) -> CustomerState:
    """Both taken together. Joining is idempotent, and neither order nor grouping matters."""
    return CustomerState(
        customer_id=one.customer_id,
        members=one.members | other.members,
        references=one.references | other.references,
        first_seen=min(one.first_seen, other.first_seen),
        traits=_newest(one.traits, other.traits),
        wishes=_newest(one.wishes, other.wishes),
        consents=_newest_permissions(one.consents, other.consents),
        details=_newest_details(one.details, other.details),
        called=one.called.joined(other.called),
        version=max(one.version, other.version),
    )


Key = TypeVar("Key")


def _newest(one: Mapping[Key, Said], other: Mapping[Key, Said]) -> dict[Key, Said]:
    joined = dict(one)
    for name, said in other.items():
        before = joined.get(name)
        if before is None or (said.at, said.by) > (before.at, before.by):
            joined[name] = said
    return joined


def _newest_permissions(
    one: Mapping[tuple[str, str], Permission], other: Mapping[tuple[str, str], Permission]
) -> dict[tuple[str, str], Permission]:
    joined = dict(one)
    for name, said in other.items():
        before = joined.get(name)
        if before is None or (said.at, not said.granted) > (before.at, not before.granted):
            joined[name] = said
    return joined


def oldest(states: Iterable[CustomerState]) -> CustomerState:
    """The profile that names its customer: the one first seen first; of two at the same moment, the one with the smaller id."""
    return min(states, key=lambda each: (each.first_seen, each.customer_id))


def seen_as(profile: str, version: int, group: Collection[str], known: Mapping[str, CustomerState]) -> CustomerState:
    """What is to be published under a profile's id: the whole customer where it is the oldest profile, else into whom it was merged.

    `known`: what is known of each profile.
    """
    states = [known[member] for member in sorted(group) if member in known]
    home = oldest(states).customer_id
    if home == profile:
        return replace(reduce(join, states), customer_id=home, members=frozenset(group), version=version)
    return CustomerState(profile, frozenset((profile,)), frozenset(), known[profile].first_seen, merged_into=home, version=version)


def as_published(state: CustomerState) -> CustomerPublished:
    """The state in the words of the contract."""
    newest = sorted(((said.at, name) for name, said in state.traits.items() if said.value is not None), reverse=True)[:PUBLISHED_TRAITS]
    wishes: dict[str, Any] = {name: said.value for name, said in state.wishes.items() if name in WISHES}
    return CustomerPublished(
        customer_id=state.customer_id,
        version=state.version,
        members=tuple(sorted(state.members)),
        references=references_in_use(state),
        traits={name: state.traits[name].value for _, name in sorted(newest, key=lambda item: item[1])},
        consents=tuple(_consent(key, said) for key, said in sorted(state.consents.items())),
        first_seen_at=moment(state.first_seen),
        merged_into=state.merged_into,
        **wishes,
    )


def _consent(key: tuple[str, str], said: Permission) -> Consent:
    stated: Any = {"purpose": key[0], "channel": key[1], "granted": said.granted, "at": moment(said.at)}
    return Consent(**stated)


def after_all_said(state: CustomerState, now: datetime) -> datetime:
    """The first moment from now on at which a word is the last one: some source's clock may be ahead."""
    # What is stored has milliseconds.
    return max(now, moment(max(_said_at(state), default=0)) + timedelta(milliseconds=1))


def _said_at(state: CustomerState) -> Iterator[int]:
    for group in (state.traits, state.wishes, state.consents, state.details):
        yield from (each.at for each in group.values())
    yield from state.called.said.values()
    yield from state.called.retired.values()


def announcement(state: CustomerState) -> Event[CustomerPublished]:
    """The event that publishes this version of a customer, dated by the newest thing said of it."""
    newest = moment(max(_said_at(state), default=state.first_seen)).astimezone(UTC)
    return envelope(as_published(state), id=derived_id("customer", state.customer_id, state.version), source=SOURCE, time=newest)
