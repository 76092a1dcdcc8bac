"""From causes to offers: decide, claim, publish; and what became of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.campaigns import metrics
from services.campaigns.domain.offers import Candidate, Cause, Offer, OfferStatus, Skipped, SkipReason, decide_offer, offer_id
from services.campaigns.domain.programs import Program, in_force, started_by_entering, started_by_first_sight
from services.campaigns.handlers.reading import Told, park, plain, read_all, read_type
from services.campaigns.handlers.writing import offer_decided
from services.campaigns.store import customers, facts, offers, programs
from services.campaigns.store.customers import Customer
from services.campaigns.store.offers import Settled
from shared.clock import Clock
from shared.contracts.customers import CustomerPublished
from shared.contracts.deliveries import DeliveryRecorded
from shared.contracts.envelope import Event
from shared.contracts.fast import fast_decoder
from shared.contracts.scores import SegmentEntered
from shared.contracts.topics import OFFERS
from shared.mongo import in_store
from shared.service import Publisher
from shared.streaming.records import Batch

_CUSTOMER = {"data.customer_id", "data.version", "data.members", "data.first_seen_at", "data.merged_into"}
_customer = fast_decoder(Event[CustomerPublished], _CUSTOMER)
_ENTERED = {"id", "source", "data.customer_id", "data.segment", "data.caused_at", "data.cause", "data.scores"}
_entered = fast_decoder(Event[SegmentEntered], _ENTERED)
_delivery = fast_decoder(Event[DeliveryRecorded])
REFIT = "model"
"""The cause of a segment's entry that is nobody's doing: the customer is judged otherwise, and did nothing."""


@dataclass(frozen=True, slots=True)
class Started:
    """A program that a cause started for a customer at a moment, with the scores known then."""

    program: Program
    customer_id: str
    """As the cause calls the customer: it may be one of several profiles."""
    cause: Cause
    score: Mapping[str, Any] | None
    now: datetime

    @property
    def offer_id(self) -> str:
        """The id of the offer that this may lead to."""
        return offer_id(self.program, self.customer_id, self.cause)


@dataclass(frozen=True, slots=True)
class Offering:
    """Decides offers and publishes them."""

    publisher: Publisher
    clock: Clock

    async def offer(self, find: Callable[[list[Program]], list[Started]]) -> None:
        """Decide for everything that `find` says was started. Returns when claimed and published.

        The claim comes first; an offer that was claimed before is published again while it is pending.
        """
        to_publish = await in_store(_claim, find, self.clock.now())
        await self.publish(to_publish)

    async def publish(self, decided: Sequence[Offer]) -> None:
        """Tell of offers that are pending."""
        if decided:
            await self.publisher.publish(OFFERS, [offer_decided(each) for each in decided])

    async def publish_pending(self) -> None:
        """Tell of every offer that is still pending again: their log, or that of their outcomes, was lost."""
        for portion in await in_store(lambda: list(offers.every_pending())):
            await self.publish(portion)


def _claim(find: Callable[[list[Program]], list[Started]], now: datetime) -> list[Offer]:
    started = find(in_force(programs.every_version(), now))
    if not started:
        return []
    decided, skipped, repeated = _decide(started)
    there = offers.insert(decided)
    # What is outside the window is counted but not kept: importing history would fill the database with it.
    offers.insert_skips([skip for skip in skipped if skip.reason is not SkipReason.OUTSIDE_WINDOW])
    fresh = [each for each in decided if each.id not in there]
    metrics.count_decisions(fresh, skipped)
    return [each for each in fresh if each.status is OfferStatus.PENDING] + offers.pending(there | repeated)


def _decide(started: Sequence[Started]) -> tuple[list[Offer], list[Skipped], set[str]]:
    """New offers, new skips, and the ids of offers that these causes led to before. A cause that was skipped stays skipped."""
    members = customers.members({start.customer_id for start in started})
    homes = customers.homes(members)
    last, before = _history({homes[named]: profiles for named, profiles in members.items()})
    skipped_before = offers.skipped([start.offer_id for start in started])
    decided: list[Offer] = []
    skipped: list[Skipped] = []
    for start in started:
        if start.offer_id in before or start.offer_id in skipped_before:
            continue
        home = homes[start.customer_id]
        answer = decide_offer(start.program, Candidate(home, last[home], start.customer_id), start.cause, start.score, start.now)
        if isinstance(answer, Skipped):
            skipped.append(answer)
            continue
        decided.append(answer)
        before.add(answer.id)
        last[home][start.program.name] = start.now
    return decided, skipped, {start.offer_id for start in started} & (before - {offer.id for offer in decided})


def _history(members: Mapping[str, Collection[str]]) -> tuple[defaultdict[str, dict[str, datetime]], set[str]]:
    """When each program last had an offer for each customer, under any of its profiles, and the ids of all these offers."""
    last: defaultdict[str, dict[str, datetime]] = defaultdict(dict)
    owners = {profile: customer for customer, profiles in members.items() for profile in profiles}
    found = sorted(offers.decided_for(owners.keys() | members.keys()), key=lambda each: each.decided_at)
    for each in found:
        last[owners.get(each.customer_id, each.customer_id)][each.program] = each.decided_at
    return last, {each.id for each in found}


async def on_customers(batch: Batch, offering: Offering) -> None:
    """Welcome who was not known before; then keep the read model, so that a crash between the two welcomes again."""
    told, rejects = read_all(batch, _customer)
    published = _newest([each.event.data for each in told if each.event is not None])
    if published:
        moments = _moments(offering.clock, [each.first_seen_at for each in published])
        await offering.offer(lambda running: _first_seen(running, published, moments))
        await in_store(customers.save, published)
    last_word = {each.key: each.event for each in told}
    await in_store(customers.forget, [key for key, event in last_word.items() if event is None])
    park(rejects)


def _newest(published: Sequence[Any]) -> list[Customer]:
    newest: dict[str, Customer] = {}
    for each in sorted(published, key=lambda each: each.version):
        newest[each.customer_id] = Customer(each.customer_id, each.version, each.members, each.first_seen_at, each.merged_into)
    return list(newest.values())


def _first_seen(running: list[Program], published: Sequence[Customer], moments: Sequence[datetime]) -> list[Started]:
    starting = started_by_first_sight(running)
    if not starting:
        return []
    known = customers.known([each.id for each in published])
    new = [(each, now) for each, now in zip(published, moments, strict=True) if each.id not in known and each.merged_into is None]
    scores = facts.scores_of([each.id for each, _ in new])
    return [
        Started(program, each.id, Cause(f"first_seen/{each.id}", each.first_seen_at), scores.get(each.id), now)
        for each, now in new
        for program in starting
    ]


async def on_segment_changes(batch: Batch, offering: Offering) -> None:
    """Start the programs that wait for the segments entered. Leaving a segment starts nothing."""
    told, rejects = read_type(batch, SegmentEntered.event_type, _entered)
    if told:
        moments = _moments(offering.clock, [each.event.data.caused_at for each in told])
        await offering.offer(lambda running: _entering(running, told, moments))
    park(rejects)


def _entering(running: list[Program], told: Sequence[Told], moments: Sequence[datetime]) -> list[Started]:
    return [
        Started(
            program,
            each.event.data.customer_id,
            Cause(f"{each.event.source}/{each.event.id}", each.event.data.caused_at),
            plain(each.event.data.scores),
            now,
        )
        for each, now in zip(told, moments, strict=True)
        if each.event.data.cause != REFIT
        for program in started_by_entering(running, each.event.data.segment)
    ]


def _moments(clock: Clock, times: Sequence[datetime]) -> list[datetime]:
    """What time it is when each is handled: in a replay a batch spans weeks, and its first causes are not old because its last are new."""
    moments = []
    for at in times:
        clock.observe(at)
        moments.append(clock.now())
    return moments


async def on_deliveries(batch: Batch) -> None:
    """Record what became of offers."""
    told, rejects = read_all(batch, _delivery)
    first: dict[str, Settled] = {}
    for each in told:
        if each.event is not None:
            data = each.event.data
            outcome = Settled(
                data.offer_id, data.program, data.customer_id, OfferStatus(data.outcome), data.reason, data.channel, data.decided_at
            )
            first.setdefault(outcome.offer_id, outcome)
    await in_store(offers.settle, list(first.values()))
    park(rejects)
