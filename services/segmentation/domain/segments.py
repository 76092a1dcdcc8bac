"""The shipped segments: named rules over scores and rows, evaluated as masks; a row's memberships are 64 bits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from services.segmentation.domain.arrays import Bits, Mask
from services.segmentation.domain.models.rfm import CELLS
from services.segmentation.domain.models.value_curve import CLASS_A
from services.segmentation.domain.scoring import BAND_FROM, BANDS, Question, ScoreBatch
from services.segmentation.domain.state.rows import CustomerState

NEW_DAYS = 30
_FALLEN, _FALLING_STILL = 0.5, 0.35
_SLACK = 0.05
"""How far below its threshold the risk must fall before a customer leaves a risk segment: no flapping."""
_STAYS_WORTH = 0.9


@dataclass(frozen=True, slots=True)
class View:
    """What rules look at: scored rows, by column."""

    state: CustomerState
    scores: ScoreBatch
    ask: Question

    def cell_in(self, *names: str) -> Mask:
        """Whose RFM cell is one of these?"""
        return np.isin(self.scores.cell, [CELLS.index(name) for name in names])


Rule = Callable[[View], Mask]


@dataclass(frozen=True, slots=True)
class Segment:
    """Who enters, and who of those inside stays; without a second rule the first decides both."""

    name: str
    enters: Rule
    stays: Rule | None = None


def _band(name: str) -> Segment:
    low, high = BAND_FROM[name], BAND_FROM.get(BANDS[BANDS.index(name) + 1] if name != "lost" else "", 2.0)
    slack = _SLACK

    def stays(view: View) -> Mask:
        risk = view.scores.risk
        return (risk >= low - slack) & (risk < high) & view.scores.bought

    return Segment(name, lambda view: view.scores.band == BANDS.index(name), stays)


def _falling(view: View, least: float) -> Mask:
    """A fall counts for who came on at least four days: one large purchase and a small one are no trend."""
    return (view.scores.spend_drop >= least) & (view.scores.day_count >= 4)


def _is_new(view: View) -> Mask:
    recent: Mask = view.state.first_day[view.scores.rows] > view.ask.today - NEW_DAYS
    new: Mask = view.scores.bought & recent
    return new


def _bought_once(view: View) -> Mask:
    once: Mask = view.scores.day_count == 1
    return once & ~_is_new(view)


def _stays_high_value(view: View) -> Mask:
    stays: Mask = (view.scores.year_spend_minor >= view.ask.market.curve.class_a_minor * _STAYS_WORTH) & (view.scores.year_spend_minor > 0)
    return stays


SEGMENTS: tuple[Segment, ...] = (
    Segment("prospects", lambda view: ~view.scores.bought),
    Segment("new", _is_new),
    Segment("bought_once", _bought_once),
    Segment("loyal", lambda view: view.cell_in("champions", "loyal")),
    Segment("high_value", lambda view: view.scores.value_class == CLASS_A, _stays_high_value),
    Segment("falling_spend", lambda view: _falling(view, _FALLEN), lambda view: _falling(view, _FALLING_STILL)),
    _band("watch"),
    _band("at_risk"),
    _band("leaving"),
    _band("lost"),
    Segment("coupon_lovers", lambda view: view.state.redemption_count[view.scores.rows] >= 3),
    Segment("complainers", lambda view: view.state.complaint_count[view.scores.rows] > 0),
    Segment("traders", lambda view: view.state.customer_type[view.scores.rows] > 0),
)
"""Bit n of a membership is segment n: append, never reorder."""

NAMES = tuple(segment.name for segment in SEGMENTS)


def memberships(view: View, was: Bits) -> Bits:
    """The membership bits of each row now, given what they were."""
    now = np.zeros(len(was), dtype=np.uint64)
    for bit, segment in enumerate(SEGMENTS):
        place = np.uint64(bit)
        member = segment.enters(view)
        if segment.stays is not None:
            inside = (was >> place) & np.uint64(1) == 1
            member = member | (inside & segment.stays(view))
        now |= member.astype(np.uint64) << place
    return now


@lru_cache(maxsize=1 << 14)
def names_of(membership: int) -> tuple[str, ...]:
    """The names of the segments whose bits are set."""
    return tuple(name for bit, name in enumerate(NAMES) if membership >> bit & 1)


def count_members(membership: Bits) -> dict[str, int]:
    """How many of the rows are in each segment."""
    return {name: int(((membership >> np.uint64(bit)) & np.uint64(1)).sum()) for bit, name in enumerate(NAMES)}
