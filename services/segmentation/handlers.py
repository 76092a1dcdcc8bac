"""What segmentation does with batches: apply, settle, write the rows, then tell the news."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
import numpy as np

from services.segmentation import metrics
from services.segmentation.decoding import Decoded, decode
from services.segmentation.domain.arrays import ids_from_hex
from services.segmentation.domain.events import DAY_MS, Kind
from services.segmentation.domain.rules import CUSTOMER_TYPES
from services.segmentation.domain.state import Changed, apply_events
from services.segmentation.domain.state.consents import consent_bits
from services.segmentation.owned import Cause, Owned
from services.segmentation.worker import Worker
from shared.clock import BEGINNING
from shared.contracts.customers import CustomerPublished
from shared.contracts.envelope import Event
from shared.contracts.fast import fast_decoder
from shared.streaming.errors import InvalidEvents, Reject
from shared.streaming.records import Batch, Record

_CUSTOMER = fast_decoder(
    Event[CustomerPublished],
    only=("time", "data.customer_id", "data.version", "data.customer_type", "data.consents", "data.first_seen_at", "data.merged_into"),
)


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
    owned.applying = True
    fresh, rejects = owned.positions.take(batch.records)
    decoded = decode(fresh, worker.reading)
    rejects += decoded.rejects
    if rejects:
        owned.positions.reject(rejects, decoded.rejected_origins, batch.records[-1].offset)
    metrics.EVENTS_SKIPPED.inc(len(batch.records) - len(fresh))
    changed = _apply(owned, decoded)
    owned.touch(changed.rows)
    owned.applying = False
    if len(changed.rows):
        worker.clock.observe(BEGINNING + timedelta(milliseconds=int(changed.at_ms.max())))
        owned.settle(changed.rows, worker.trigger(changed.at_ms, Cause.EVENT), worker.judgement())
        owned.mark_unstored(changed.rows)
    return rejects


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
    events, rejects = _read_customers(batch.records)
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


def _read_customers(records: Iterable[Record]) -> tuple[list[Any], list[Reject]]:
    events: list[Any] = []
    rejects: list[Reject] = []
    for record in records:
        if record.value is None:
            continue
        try:
            events.append(_CUSTOMER.decode(record.value))
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
            if event.data.merged_into is None:
                state.customer_type[row] = CUSTOMER_TYPES.index(event.data.customer_type)
                state.consents[row] = consent_bits(event.data.consents)
            # Else its words are published with the customer that it is part of; its row goes by what it said last.
            since = _milliseconds(event.data.first_seen_at) // DAY_MS
            state.known_since_day[row] = min(int(state.known_since_day[row]), max(since, 0))
    return Changed(rows[newer], at_ms[newer])


def _milliseconds(at: datetime) -> int:
    return (at - BEGINNING) // timedelta(milliseconds=1)
