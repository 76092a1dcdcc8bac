"""Random histories of a few customers, as events in the domain's form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from services.segmentation.domain.events import DAY_MS, Categories, EventBatch, Kind, event_batch
from services.segmentation.domain.state import CustomerState, apply_events
from services.segmentation.domain.state.rows import FACTS, OPTIONAL

FIRST_DAY = 17_000
TEXTS = {1: "dairy", 2: "bakery", 3: "need:organic", 4: "ProductViewed", 70_000: "fish"}


@dataclass(frozen=True)
class More:
    """What not every event has."""

    categories: tuple[int, ...] = ()
    name: int = 0
    bonds: int = 0
    costs: tuple[int, int, int, int] = (0, 0, 0, 0)


Event = tuple[bytes, int, int, int, int, More]


def an_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def event(
    customer: int, day: int, kind: Kind = Kind.PURCHASE, amount: int = 1000, lines: int = 1, ms: int = 0, more: More | None = None
) -> Event:
    return an_id(customer), kind, day * DAY_MS + ms, amount, lines if kind == Kind.PURCHASE else 0, more or More()


MORE = st.builds(
    More,
    categories=st.lists(st.sampled_from([1, 2, 70_000]), max_size=4).map(tuple),
    name=st.sampled_from([0, 0, 3, 4]),
    bonds=st.integers(0, 15),
    costs=st.tuples(*[st.integers(0, 10**9)] * 4),
)


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
        more=st.one_of(st.none(), MORE),
    )
    return st.lists(one, max_size=60)


def applied(*batches: list[Event]) -> CustomerState:
    state = CustomerState()
    for batch in batches:
        if batch:
            apply_events(state, as_batch(batch))
    return state


def rows_by_id(state: CustomerState) -> dict[bytes, dict[str, Any]]:
    """Everything that a row is, whatever its number."""
    ids = state.ids[: state.count].astype(">u8")
    return {ids[row].tobytes(): _row(state, row) for row in range(state.count)}


def _row(state: CustomerState, row: int) -> dict[str, Any]:
    found = {name: np.asarray(getattr(state, name)[row]).tolist() for name in FACTS}
    found |= {name: state.optional.get(name, OPTIONAL[name].make(row + 1))[row].tolist() for name in OPTIONAL}
    for tally in (state.bought, state.done):
        entries, _ = tally.of_rows(np.array([row]))
        held = {state.names[int(tally.keys[entry, 1])]: (int(tally.newest[entry]), tally.held[entry].tolist()) for entry in entries}
        found |= {name: what for name, what in held.items() if any(what[1])}
    return found


def as_batch(history: list[Event]) -> EventBatch:
    plain = event_batch([each[:5] for each in history])
    more = [each[5] if len(each) > 5 else More() for each in history]
    lines = [(place, name) for place, each in enumerate(more) if history[place][1] == Kind.PURCHASE for name in each.categories]
    categories = np.array(lines, dtype=np.int64).reshape(-1, 2)
    return EventBatch(
        plain.ids, plain.kind, plain.at_ms, plain.amount_minor, plain.lines,
        name=np.array([each.name for each in more], dtype=np.int64),
        bonds=np.array([each.bonds for each in more], dtype=np.int64),
        costs=np.array([each.costs for each in more], dtype=np.int64).reshape(-1, 4) if any(map(_has_costs, more)) else None,
        categories=Categories(categories[:, 0], categories[:, 1]),
        texts=TEXTS,
    )  # fmt: skip


def _has_costs(more: More) -> bool:
    return any(more.costs)
