"""Random histories of a few customers, as events in the domain's form."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from services.segmentation.domain.events import DAY_MS, EventBatch, Kind, event_batch
from services.segmentation.domain.state import CustomerState, apply_events
from services.segmentation.domain.state.rows import FACTS

FIRST_DAY = 17_000
Event = tuple[bytes, int, int, int, int]


def an_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def event(customer: int, day: int, kind: Kind = Kind.PURCHASE, amount: int = 1000, lines: int = 1, ms: int = 0) -> Event:
    return an_id(customer), kind, day * DAY_MS + ms, amount, lines if kind == Kind.PURCHASE else 0


def events(span_days: int) -> st.SearchStrategy[list[Event]]:
    """Up to 60 events of up to 5 customers within so many days."""
    one = st.builds(
        event,
        customer=st.integers(1, 5),
        day=st.integers(FIRST_DAY, FIRST_DAY + span_days - 1),
        kind=st.sampled_from(Kind),
        amount=st.integers(0, 10**11),
        lines=st.integers(1, 20),
        ms=st.integers(0, DAY_MS - 1),
    )
    return st.lists(one, max_size=60)


def applied(*batches: list[Event]) -> CustomerState:
    state = CustomerState()
    for batch in batches:
        if batch:
            apply_events(state, event_batch(batch))
    return state


def rows_by_id(state: CustomerState) -> dict[bytes, dict[str, Any]]:
    """Everything that a row is, whatever its number."""
    ids = state.ids[: state.count].astype(">u8")
    return {ids[row].tobytes(): {name: np.asarray(getattr(state, name)[row]).tolist() for name in FACTS} for row in range(state.count)}


def as_batch(history: list[Event]) -> EventBatch:
    return event_batch(history)
