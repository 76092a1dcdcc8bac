"""What segmentation does with batches: apply, settle, write the rows, then tell the news."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
import numpy as np

from services.segmentation import metrics
from services.segmentation.causes import Cause
from services.segmentation.decoding import Codes, Decoded, decode
from services.segmentation.domain.arrays import Integers, ids_from_hex
from services.segmentation.domain.events import DAY_MS, Kind
from services.segmentation.domain.names import OFFER
from services.segmentation.domain.rules import CUSTOMER_TYPES
from services.segmentation.domain.state import Changed, apply_events
from services.segmentation.domain.state.consents import consent_bits
from services.segmentation.domain.state.rows import DONE
from services.segmentation.owned import Owned
from services.segmentation.trait_columns import put
from services.segmentation.worker import Worker
from shared.clock import BEGINNING
from shared.contracts.customers import CustomerPublished
from shared.contracts.envelope import Event
from shared.contracts.fast import fast_decoder
from shared.contracts.offers import OfferDecided
from shared.contracts.topics import PROFILE_ROWS
from shared.streaming.errors import InvalidEvents, Reject
from shared.streaming.records import Batch, Record

_CUSTOMER = fast_decoder(
    Event[CustomerPublished],
    only=(
        "time",
        "data.customer_id",
        "data.version",
        "data.customer_type",
        "data.consents",
        "data.first_seen_at",
        "data.traits",
        "data.merged_into",
        "data.members",
    ),
)
_OFFER = fast_decoder(Event[OfferDecided], only=("data.customer_id", "data.program", "data.decided_at"))


async def on_customer_events(batch: Batch, worker: Worker) -> None:
    """Apply each event once, settle memberships, write rows and positions, then publish who entered and left."""
    owned = worker.partition(batch.partition)
    await worker.write(owned)
    rejects = apply_batch(owned, batch, worker)
    await worker.write(owned)
    if rejects:
        raise InvalidEvents(tuple(rejects))


def apply_batch(owned: Owned, batch: Batch, worker: Worker) -> list[Reject]:
    """Everything that `on_customer_events` does before it writes; the answer is what can never be applied."""
    decoded, rejects, fresh = _read(owned, batch, worker)
    owned.applying = True
    if rejects:
        owned.positions.reject(rejects, decoded.rejected_origins, batch.records[-1].offset)
    metrics.EVENTS_SKIPPED.inc(len(batch.records) - fresh)
    changed = _apply(owned, decoded)
    owned.touch(changed.rows)
    owned.applying = False
    if len(changed.rows):
        worker.clock.observe(BEGINNING + timedelta(milliseconds=int(changed.at_ms.max())))
        owned.settle(changed.rows, worker.trigger(changed.at_ms, Cause.EVENT), worker.judgement())
        owned.mark_moved(changed.rows)
    return rejects


def _read(owned: Owned, batch: Batch, worker: Worker) -> tuple[Decoded, list[Reject], int]:
    """What the batch brings that is new, what can never be applied, and how many records were new.

    Where reading fails, nothing has happened: the loop can then find the event that it fails on.
    """
    before, decoded = owned.positions.copy(), None
    try:
        fresh, rejects = owned.positions.take(batch.records)
        decoded = decode(fresh, worker.reading)
    finally:
        if decoded is None:
            owned.positions = before
    return decoded, rejects + decoded.rejects, len(fresh)


def _apply(owned: Owned, decoded: Decoded) -> Changed:
    events = decoded.events
    if owned.ahead:
        rows = owned.state.find(events.ids).tolist()
        held = [owned.skips(row, offset) for row, offset in zip(rows, decoded.offsets, strict=True)]
        events = events.part(~np.array(held, dtype=bool))
        if owned.positions.applied >= max(owned.ahead.values()):
            owned.ahead.clear()
    for kind, count in enumerate(np.bincount(events.kind, minlength=len(Kind)).tolist()):
        if count:
            metrics.EVENTS_APPLIED.labels(Kind(kind).name.lower()).inc(count)
    return apply_events(owned.state, events)


def apply_history(owned: Owned, records: Sequence[Record], worker: Worker) -> None:
    """Apply events of the timeline: they have origins but no offsets, and settle nothing until all are there."""
    decoded = decode(records, worker.reading)
    owned.positions.parked.update((origin.log, origin.offset) for origin in decoded.rejected_origins)
    metrics.CATCH_UP_REJECTS.inc(len(decoded.rejects))
    changed = apply_events(owned.state, decoded.events)
    if len(changed.rows):
        worker.clock.observe(BEGINNING + timedelta(milliseconds=int(changed.at_ms.max())))


async def on_customers(batch: Batch, worker: Worker) -> None:
    """Know each customer, also one who never bought. An older version than the one known changes nothing."""
    owned = worker.partition(batch.partition)
    await worker.write(owned)
    events, rejects = _decoded(_CUSTOMER, batch.records)
    changed = _apply_customers(owned, events)
    applied = rejects[0].offset - 1 if rejects else batch.records[-1].offset
    owned.positions.customers_applied = max(owned.positions.customers_applied, applied)
    owned.touch(changed.rows)
    if len(changed.rows):
        if owned.silent_customers_until:
            owned.settle_silently(changed.rows, worker.judgement())
        else:
            owned.settle(changed.rows, worker.trigger(changed.at_ms, Cause.EVENT), worker.judgement())
        owned.mark_untold(changed.rows)
    if batch.records[-1].offset + 1 >= owned.silent_customers_until:
        owned.silent_customers_until = 0
    await worker.write(owned)
    if rejects:
        raise InvalidEvents(tuple(rejects))


async def on_profile_rows(batch: Batch, worker: Worker) -> None:
    """Keep what others' partitions have of this one's customers, and score those customers anew."""
    owned = worker.partition(batch.partition)
    await worker.write(owned)
    moved = owned.copies.take(batch.records)
    customers = sorted(moved.caused_ms)
    rows = owned.state.find(ids_from_hex("".join(customers).encode()))
    is_history = np.array([each in moved.history for each in customers], dtype=bool) | bool(owned.silent_customers_until)
    at_ms = np.array([moved.caused_ms[each] for each in customers], dtype=np.int64)
    _settle_moved(owned, worker, rows[is_history & (rows >= 0)])
    live = ~is_history & (rows >= 0)
    _settle_moved(owned, worker, rows[live], at_ms[live])
    await worker.write(owned)
    if moved.losers:
        await worker.publisher.publish(PROFILE_ROWS, moved.losers)
    if moved.rejects:
        raise InvalidEvents(tuple(moved.rejects))


def _settle_moved(owned: Owned, worker: Worker, rows: Integers, at_ms: Integers | None = None) -> None:
    owned.state.need_due[rows] = True
    if at_ms is None:
        owned.settle_silently(rows, worker.judgement())
    else:
        owned.settle(rows, worker.trigger(at_ms, Cause.EVENT), worker.judgement())
        owned.mark_untold(rows)


async def on_offers(batch: Batch, worker: Worker) -> None:
    """Remember in which weeks programs made a customer offers. A repeat changes nothing."""
    owned = worker.partition(batch.partition)
    await worker.write(owned)
    fresh = owned.positions.new_offers(batch.topic_id, batch.records)
    offers, rejects = _decoded(_OFFER, fresh)
    rows = np.zeros(0, dtype=np.int64)
    if offers:
        changed = _apply_offers(owned, offers, worker.reading.codes)
        owned.settle(changed.rows, worker.trigger(changed.at_ms, Cause.EVENT), worker.judgement())
        rows = changed.rows
    if fresh:
        owned.positions.offers_applied = rejects[0].offset - 1 if rejects else fresh[-1].offset
        owned.touch(rows)
    await worker.write(owned)
    if rejects:
        raise InvalidEvents(tuple(rejects))


def _apply_offers(owned: Owned, offers: list[Any], codes: Codes) -> Changed:
    state = owned.state
    rows = state.find_or_add(ids_from_hex("".join([offer.data.customer_id for offer in offers]).encode()))
    names = np.array([codes[f"{OFFER}{offer.data.program}"] for offer in offers], dtype=np.int64)
    at_ms = np.array([_milliseconds(offer.data.decided_at) for offer in offers], dtype=np.int64)
    state.names |= {code: codes.texts[code] for code in names.tolist()}
    state.done.add(rows, names, DONE.period_of(np.maximum(at_ms, 0) // DAY_MS), most=1)
    distinct, places = np.unique(rows, return_inverse=True)
    newest = np.zeros(len(distinct), dtype=np.int64)
    np.maximum.at(newest, places, at_ms)
    return Changed(distinct, newest)


def _decoded(decoder: msgspec.json.Decoder[Any], records: Iterable[Record]) -> tuple[list[Any], list[Reject]]:
    events: list[Any] = []
    rejects: list[Reject] = []
    for record in records:
        if record.value is None:
            continue
        try:
            events.append(decoder.decode(record.value))
        except msgspec.ValidationError as error:
            rejects.append(Reject(record.offset, "invalid-event", str(error)))
        except (ValueError, RecursionError) as error:
            rejects.append(Reject(record.offset, "invalid-json", str(error)))
    return events, rejects


def _apply_customers(owned: Owned, events: list[Any]) -> Changed:
    newest = {event.data.customer_id: event for event in sorted(events, key=lambda event: int(event.data.version))}
    state = owned.state
    rows = state.find_or_add(ids_from_hex("".join(newest).encode()))
    at_ms = np.array([_milliseconds(event.time) for event in newest.values()], dtype=np.int64)
    versions = np.array([event.data.version for event in newest.values()], dtype=np.int64)
    newer = versions > state.customer_version[rows]
    for row, event, is_newer in zip(rows.tolist(), newest.values(), newer.tolist(), strict=True):
        if is_newer:
            state.customer_version[row] = event.data.version
            _apply_members(owned, row, event.data)
            if event.data.merged_into is None:
                state.customer_type[row] = CUSTOMER_TYPES.index(event.data.customer_type)
                state.consents[row] = consent_bits(event.data.consents)
            # Else its words are published with the customer that it is part of; its row goes by what it said last, but for traits,
            # which whoever restarts reads from the log, where nobody says them any more.
            since = _milliseconds(event.data.first_seen_at) // DAY_MS
            state.known_since_day[row] = min(int(state.known_since_day[row]), max(since, 0))
    put(state, [event.data for event in newest.values()], state.traits.keys())
    return Changed(rows[newer], at_ms[newer])


def _apply_members(owned: Owned, row: int, said: Any) -> None:
    """Which profiles are one customer; rows stay with their profiles."""
    # What is part of another customer has no other profiles of its own: those that it had are the other's.
    others = tuple(sorted(each for each in said.members if each != said.customer_id)) if said.merged_into is None else ()
    if others or said.merged_into is not None or owned.state.merged:
        owned.belongs(row, said.customer_id, said.merged_into, others)


def _milliseconds(at: datetime) -> int:
    return (at - BEGINNING) // timedelta(milliseconds=1)
