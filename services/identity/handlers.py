"""What identity does with a batch: know whom it is about, keep it, pass it on."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from services.identity import metrics
from services.identity.domain.anonymous import anonymous_sale
from services.identity.domain.customers import CustomerState, microseconds
from services.identity.domain.duplicates import Arrival, Kept, classify
from services.identity.domain.events import EVENT_LIMIT_BYTES, SEPARATOR, SourceEvent
from services.identity.domain.merging import Action, Asked, Decision
from services.identity.domain.references import Naming, is_address
from services.identity.domain.resolution import Resolution
from services.identity.domain.trust import Rules, Verdict
from services.identity.intake import Incoming, Intake, Settled, put_back, read_batch
from services.identity.known import Known
from services.identity.merging import asked_by, decide, to_publish
from services.identity.people import Said, announce, attach, expect, learn, without_erased, worth_telling
from services.identity.store import customers, graves, names, outcomes, positions, timeline
from services.identity.store.outcomes import Outcome, Parked
from shared.clock import Clock
from shared.contracts.topics import CUSTOMER_EVENTS, PURCHASES
from shared.letters import OwnerOf
from shared.mongo import in_store
from shared.streaming.errors import InvalidEvents, Reject
from shared.streaming.partitions import partition_for
from shared.streaming.records import Batch, Message, Position, Publish, origin_header
from shared.streaming.settling import POISON
from shared.vault import vault_of


@dataclass(frozen=True, slots=True)
class Desk:
    """What the handlers work with."""

    publish: Publish
    known: Known
    currency: str
    clock: Clock
    wall: Clock
    """Replayed events, too, are no later than today."""
    naming: Naming
    rules: Rules
    owner_of: OwnerOf
    """Whose key what cannot be read is sealed under."""


async def on_activity(batch: Batch, desk: Desk) -> None:
    """Purchases, refunds and interactions: find the profile, keep the event, pass it on under the profile."""
    intake = await _read(batch, desk)
    resolutions, owners = await attach([each.event for each in intake.incoming], desk.known, desk.rules)
    settled = await _keep(batch, intake.incoming, resolutions, passed_on=True)
    changed = await _tell(settled, owners, desk)
    states = await in_store(_renew, changed, []) if changed else []
    await desk.publish(CUSTOMER_EVENTS, [_message(each) for each in settled if each.counts and each.profile is not None])
    await announce(states, desk.publish)
    await in_store(_conclude, batch, intake, settled, [], desk)
    _measure(batch, settled, desk)
    metrics.ERASED_LATE.inc(len(intake.late))
    _park(intake)


async def on_customer_updates(batch: Batch, desk: Desk) -> None:
    """Who somebody is and what they allow: keep the event, and only if it counts let it change references and customers."""
    intake = await _read(batch, desk)
    events = [each.event for each in intake.incoming]
    settled = await _keep(batch, intake.incoming, await expect(events, desk.known, desk.rules), passed_on=False)
    counting = [each for each in settled if each.counts]
    resolutions, owners = await attach([each.incoming.event for each in counting], desk.known, desk.rules)
    counting = await _with_profiles(counting, resolutions)
    changed = await _tell(counting, owners, desk)
    decided, refused = await _decide(counting, resolutions, owners, desk)
    await announce(await in_store(_renew, changed, decided), desk.publish)
    await in_store(_conclude, batch, intake, settled, refused, desk)
    _measure(batch, settled, desk)
    metrics.ERASED_LATE.inc(len(intake.late))
    _park(intake)


async def on_poison(batch: Batch, rejects: Sequence[Reject], desk: Desk) -> None:
    """Note what the stream is about to park because a handler fails on it: that is then its one outcome."""
    await in_store(_note_parked, batch, rejects, put_back(batch.records), [], desk)


async def _read(batch: Batch, desk: Desk) -> Intake:
    parked = await in_store(_before_reading, batch, desk.known)
    return await without_erased(read_batch(batch, desk.currency, (desk.clock, desk.wall), parked, desk.naming), desk.known)


def _before_reading(batch: Batch, known: Known) -> dict[int, Parked]:
    """What was parked of the batch already, and whether somebody was erased since the last one."""
    if known.notice(graves.load):
        vault_of("identity").forget()
    return outcomes.parked_between(batch.topic_id, batch.partition, batch.records[0].offset, batch.records[-1].offset)


async def _keep(batch: Batch, incoming: Sequence[Incoming], resolutions: Sequence[Resolution | None], passed_on: bool) -> list[Settled]:
    """Put the events into the timeline and tell what became of each. A redelivered one keeps the profile it had."""
    began = time.perf_counter()
    profiles = [resolution.profile if resolution else None for resolution in resolutions]
    entries = [_entry(each, profile, passed_on) for each, profile in zip(incoming, profiles, strict=True)]
    kept = await in_store(_insert, batch, entries, incoming)
    metrics.TIMELINE_SECONDS.observe(time.perf_counter() - began)
    arrivals = classify(incoming, kept, profiles)
    return [_settled(each, profile, arrival, kept) for each, profile, arrival in zip(incoming, profiles, arrivals, strict=True)]


def _insert(batch: Batch, entries: Sequence[timeline.Entry], incoming: Sequence[Incoming]) -> dict[str, Kept]:
    """Purchases are facts of the shop and stay as they are, unless an address names the buyer; what people say is sealed."""
    timeline.seal([entry for entry, each in zip(entries, incoming, strict=True) if _is_personal(batch.topic, entry, each.event)])
    return timeline.insert(batch.topic_id, batch.partition, entries)


def _is_personal(topic: str, entry: timeline.Entry, event: SourceEvent) -> bool:
    return entry.document["profile"] is not None and (topic != PURCHASES.name or any(map(is_address, event.references)))


def _settled(incoming: Incoming, profile: str | None, arrival: Arrival, kept: Mapping[str, Kept]) -> Settled:
    if arrival is Arrival.REDELIVERED:
        return Settled(incoming, kept[incoming.key].profile, arrival, kept[incoming.key].origin)
    return Settled(incoming, profile, arrival, incoming.origin)


def _entry(incoming: Incoming, profile: str | None, passed_on: bool) -> timeline.Entry:
    event = incoming.event
    document: dict[str, Any] = {
        "_id": event.key,
        "profile": profile,
        "at": microseconds(event.at),
        "origin": incoming.origin,
        "hash": event.content_hash,
        "event": event.value,
    }
    if profile is None:
        sale = anonymous_sale(event)
        document["sale"] = {name: getattr(sale, name) for name in sale.__slots__}
    target = str(partition_for(profile.encode())) if passed_on and profile else timeline.NOT_PASSED_ON
    return timeline.Entry(event.key, target, incoming.offset, incoming.appended_ms, document)


async def _with_profiles(counting: list[Settled], resolutions: Sequence[Resolution | None]) -> list[Settled]:
    """The events under the profiles that the database agreed to, which the timeline is told where it expected others."""
    agreed = [
        replace(each, profile=resolution.profile) if resolution else each for each, resolution in zip(counting, resolutions, strict=True)
    ]
    moved = {
        now.incoming.key: (now.profile, now.incoming.event.value)
        for was, now in zip(counting, agreed, strict=True)
        if now.profile and now.profile != was.profile
    }
    if moved:
        await in_store(timeline.set_profiles, moved)
    return agreed


async def _tell(settled: Sequence[Settled], owners: dict[str, str], desk: Desk) -> list[CustomerState]:
    """Let the events change what is known of their profiles; returns those whose customers are to be published."""
    said = worth_telling(settled, desk.known)
    if not said:
        return []
    await in_store(customers.add_statements, [(each.event, each.profile) for each in said])
    states = await in_store(learn, said, owners, desk.known.graves)
    _remember_first_seen(said, desk.known)
    return states


def _renew(changed: Sequence[CustomerState], decided: Sequence[Decision]) -> list[CustomerState]:
    """The customers to publish, which are found by what they are called from now on.

    After they are saved: a worker that dies before comes by here again, for what comes again is told again.
    """
    states = to_publish(changed, decided)
    names.note(states)
    return states


def _remember_first_seen(said: Sequence[Said], known: Known) -> None:
    for each in said:
        at = microseconds(each.event.at)
        before = known.first_seen.get(each.profile)
        if before is None or at < before:
            known.first_seen.put(each.profile, at)


async def _decide(
    counting: Sequence[Settled], resolutions: Sequence[Resolution | None], owners: Mapping[str, str], desk: Desk
) -> tuple[list[Decision], list[Outcome]]:
    """Decide what the events ask about who is one customer; also returns what was refused, to be noted.

    After what they say is kept: limits look at what everybody is called.
    """
    asked: list[tuple[Settled, Asked]] = []
    refused: list[Outcome] = []
    for each, resolution in zip(counting, resolutions, strict=True):
        questions, at_once = asked_by(each.incoming.event, resolution, owners, desk.rules) if resolution else ([], {})
        asked += [(each, question) for question in questions]
        refused += [_refused(each, rule, index, why=_WHY.get(rule, _LEFT_OUT)) for index, rule in at_once.items()]
    decided = await in_store(decide, [question for _, question in asked], desk.rules, desk.clock.now())
    by_question = {decision.asked.id: decision for decision in decided}
    for each, question in asked:
        decision = by_question.get(question.id)
        if decision is not None and decision.action is Action.REFUSED:
            index, why = int(question.id.rpartition(SEPARATOR)[2]), _WHY.get(decision.rule, _WHY_NOT)
            refused.append(_refused(each, decision.rule, index, why=why, profiles=question.profiles))
    return decided, refused


def _refused(settled: Settled, rule: Verdict, index: int, *, why: str, profiles: tuple[str, ...] = ()) -> Outcome:
    if settled.arrival is Arrival.FIRST:
        metrics.MERGES_REFUSED.labels(rule.value).inc()
    detail, named = why.format(index=index), settled.incoming.key
    return Outcome("merge_refused", rule.value, detail, settled.origin, str(index), named=named, profiles=profiles)


_LEFT_OUT = "reference {index} of the event was left out: with it the customer would have more of its kind than limits allow"
_WHY_NOT = "reference {index} of the event belongs to another profile and stays there"
_WHY = {
    Verdict.MERGES_OFF: _WHY_NOT,
    Verdict.WEAK_REFERENCE: _WHY_NOT,
    Verdict.UNKNOWN_PROFILE: "there is no such profile",
    Verdict.ERASED: "who is meant by reference {index} of the event, or was asked about, was erased",
    Verdict.NOT_ITS_PROFILES: "the customer does not have these profiles, or has no others",
}


def _conclude(batch: Batch, intake: Intake, settled: Sequence[Settled], noted: list[Outcome], desk: Desk) -> None:
    """Note what was not simply accepted, then say that the batch is in the timeline with all that follows from it, and count it.

    A dead letter that was put back is no new event. It counts as what became of it this time, and its note goes after it was counted:
    dying in between changes nothing, for a position is counted once. Where there is no note any more, it counted before.
    """
    noted += [_quarantined(each) for each in settled if each.arrival is Arrival.QUARANTINED]
    _note_parked(batch, intake.rejects, intake.put_back, noted, desk)
    ended: dict[int, str | None] = dict.fromkeys((each.offset for each in intake.rejects), None)
    waiting = outcomes.still_parked(intake.put_back.values()) if intake.put_back else set()
    released = []
    for incoming, outcome in [*((each.incoming, each.outcome) for each in settled), *((late, "erased") for late in intake.late)]:
        parked_at = incoming.parked_at
        ended[incoming.offset] = outcome if parked_at is None or parked_at in waiting else None
        if parked_at is not None:
            waiting.discard(parked_at)
            released.append(parked_at)
    if ended:
        positions.commit((batch.topic_id, batch.partition), ended)
    outcomes.release(released)


def _note_parked(batch: Batch, rejects: Sequence[Reject], put_back: Mapping[int, str], noted: list[Outcome], desk: Desk) -> None:
    """Note what is to be parked, with its bytes: dead letters go with their log."""
    found = {record.offset: record for record in batch.records} if rejects else {}
    for reject in rejects:
        if reject.offset in put_back:
            outcomes.park_again(put_back[reject.offset], reject.reason, reject.detail)
            continue
        origin = timeline.origin_of(batch.topic_id, batch.partition, reject.offset)
        record = found[reject.offset]
        event, owner = (record.value or b"")[:EVENT_LIMIT_BYTES], desk.owner_of(record.key)
        # What a handler failed with may quote the event: the letter has it, sealed.
        detail = reject.detail.partition(":")[0] if reject.reason == POISON else reject.detail
        noted.append(Outcome(outcomes.PARKED, reject.reason, detail, origin, event=event, owner=owner))
    outcomes.note(noted, desk.clock.now())


def _quarantined(settled: Settled) -> Outcome:
    detail, event, origin = "this source and id named another event before", settled.incoming.event, settled.incoming.origin
    return Outcome("quarantined", "other_content", detail, origin, event=event.value, owner=settled.profile, named=event.key)


def _message(settled: Settled) -> Message:
    assert settled.profile is not None
    topic_id, partition, offset = settled.origin.rsplit("/", 2)
    header = origin_header(Position(topic_id, int(partition), int(offset)), settled.incoming.appended_ms)
    return Message(settled.profile.encode(), settled.incoming.event.value, (header,))


def _measure(batch: Batch, settled: Sequence[Settled], desk: Desk) -> None:
    for arrival, counter in _COUNTERS.items():
        counter.inc(sum(each.arrival is arrival for each in settled))
    metrics.ANONYMOUS.inc(sum(each.outcome == "anonymous" and each.arrival is Arrival.FIRST for each in settled))
    if settled:
        # The first of a batch waited longest.
        now, oldest = desk.wall.now(), settled[0].incoming
        metrics.ACCEPTED_TO_KEPT_SECONDS.observe(max(0.0, now.timestamp() - oldest.appended_ms / 1000))
        metrics.OCCURRED_TO_KEPT_SECONDS.observe(max(0.0, (now - oldest.event.at).total_seconds()))


_COUNTERS = {
    Arrival.REDELIVERED: metrics.DUPLICATES.labels("redelivered"),
    Arrival.REPEATED: metrics.DUPLICATES.labels("repeated"),
    Arrival.QUARANTINED: metrics.QUARANTINED,
}


def _park(intake: Intake) -> None:
    if intake.rejects:
        raise InvalidEvents(intake.rejects)
