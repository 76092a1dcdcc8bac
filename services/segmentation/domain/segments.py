"""Segments: named rules that customers enter and leave; a row's memberships are 64 bits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Annotated, Any

import numpy as np
from pydantic import Field, StringConstraints, model_validator

from services.segmentation.domain.arrays import Bits
from services.segmentation.domain.need_labels import NEED_SEGMENTS, NeedLabels
from services.segmentation.domain.rules import DEEPEST, MOST_CONDITIONS, Part, Rule, View, conditions_of, traits_of
from services.segmentation.domain.scoring import BAND_FROM, BANDS, Question

MOST_SEGMENTS = 64
SegmentName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]

_SLACK = 0.05
"""How far below its threshold the risk must fall before a customer leaves a risk segment: no flapping."""


class Segment(Part):
    """Who enters, and who of those inside stays; without a second rule the first decides both."""

    name: SegmentName
    about: Annotated[str, Field(max_length=500)] = ""
    enters: Rule
    stays: Rule | None = None

    retired: bool = False
    """Nobody is in it any more, and its bit waits to be given to another."""

    @model_validator(mode="after")
    def _is_bounded(self) -> Segment:
        for rule in (self.enters, self.stays):
            depths = [depth for _, depth in conditions_of(rule)] if rule is not None else []
            if len(depths) > MOST_CONDITIONS or max(depths, default=0) > DEEPEST:
                raise ValueError(f"a rule has at most {MOST_CONDITIONS} conditions, at most {DEEPEST} deep")
        return self

    def holds(self, view: View, inside: Any) -> Any:
        """Who is a member now, given who was inside."""
        if self.retired:
            return np.zeros(len(inside), dtype=bool)
        member = self.enters.holds(view)
        return member if self.stays is None else member | (inside & self.stays.holds(view))


@dataclass(frozen=True)
class Segments:
    """All segments by their bit in a membership."""

    by_bit: Mapping[int, Segment]
    version: int = 0
    """Grows with every change."""

    @cached_property
    def bits(self) -> dict[str, int]:
        """The bit of each, also of those that are retired."""
        return {segment.name: bit for bit, segment in self.by_bit.items()}

    def traits(self) -> frozenset[str]:
        """The traits that rules name."""
        return frozenset(name for segment in self.by_bit.values() for rule in (segment.enters, segment.stays) for name in traits_of(rule))

    def names(self) -> dict[str, int]:
        """The bit of each that somebody can be in."""
        return {segment.name: bit for bit, segment in self.by_bit.items() if not segment.retired}

    def names_of(self, membership: int) -> tuple[str, ...]:
        """The names of the segments whose bits are set."""
        return _names_of(self, membership)

    def count_members(self, membership: Bits) -> dict[str, int]:
        """How many of the rows are in each segment."""
        return {segment.name: int(((membership >> np.uint64(bit)) & np.uint64(1)).sum()) for bit, segment in self.by_bit.items()}

    def changed_since(self, other: Segments) -> int:
        """The bits of the segments that are new, gone or ruled otherwise."""
        return sum(1 << bit for bit in {*self.by_bit, *other.by_bit} if self.by_bit.get(bit) != other.by_bit.get(bit))

    def __hash__(self) -> int:
        return hash(self.version)


@lru_cache(maxsize=1 << 14)
def _names_of(segments: Segments, membership: int) -> tuple[str, ...]:
    return tuple(segment.name for bit, segment in sorted(segments.by_bit.items()) if membership >> bit & 1)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What customers are judged by."""

    ask: Question
    segments: Segments
    needs: NeedLabels | None = None


def memberships(view: View, was: Bits, segments: Segments) -> Bits:
    """The membership bits of each row now, given what they were."""
    now = np.zeros(len(was), dtype=np.uint64)
    for bit, segment in segments.by_bit.items():
        place = np.uint64(bit)
        inside = (was >> place) & np.uint64(1) == 1
        now |= segment.holds(view, inside).astype(np.uint64) << place
    return _in_one_band(now, was)


def _in_one_band(now: Bits, was: Bits) -> Bits:
    """Between two bands a customer stays in the one he was in."""
    bands = now & _BANDS
    several = np.bitwise_count(bands) > 1
    if not several.any():
        return now
    kept = bands & was
    chosen = np.where(kept != 0, kept, np.uint64(1) << np.floor(np.log2(np.maximum(bands, 1))).astype(np.uint64))
    settled: Bits = np.where(several, (now & ~_BANDS) | chosen, now)
    return settled


def _number(field: str, **bounds: float) -> dict[str, Any]:
    return {"field": field, **bounds}


def _falling(least: float) -> dict[str, Any]:
    """A fall counts for who came on at least four days: one large purchase and a small one are no trend."""
    return {"all": [_number("spend_drop", at_least=least), _number("purchase_days", at_least=4)]}


def _band(name: str) -> tuple[str, str, dict[str, Any], dict[str, Any]]:
    """Entered where its band begins, left only where the risk is out of the band by the slack, on either side: a small swing is no news."""
    low, last = BAND_FROM[name], BANDS[-1] == name
    above = {} if last else {"below": round(BAND_FROM[BANDS[BANDS.index(name) + 1]] + _SLACK, 2)}
    stays = _number("risk", at_least=round(low - _SLACK, 2), **above)
    about = (
        f"risk from {low:.2f}; stays in until it is {_SLACK} out of its band"
        if not last
        else f"risk from {low:.2f}; stays in down to {_SLACK} below"
    )
    return name, about, {"field": "risk_band", "in": [name]}, stays


_SHIPPED: Iterable[tuple[Any, ...]] = (
    ("prospects", "never bought", _number("purchases", at_most=0)),
    ("new", "first purchase within 30 days", _number("customer_days", below=30)),
    (
        "bought_once",
        "one purchase day, and no longer new",
        {"all": [_number("purchase_days", at_most=1), _number("customer_days", at_least=30)]},
    ),
    ("loyal", "bought lately, often and for much", {"field": "rfm_cell", "in": ["champions", "loyal"]}),
    (
        "high_value",
        "class A; stays in down to 90 % of its threshold",
        {"field": "value_class", "in": ["A"]},
        {"all": [_number("class_a_share", at_least=0.9), _number("year_spend_minor", above=0)]},
    ),
    ("falling_spend", "a week's spend down by half or more; stays in until it is down by less than 35 %", _falling(0.5), _falling(0.35)),
    _band("watch"),
    _band("at_risk"),
    _band("leaving"),
    _band("lost"),
    ("coupon_lovers", "three redemptions or more", _number("coupon_redemptions", at_least=3)),
    ("complainers", "complained", _number("complaints", at_least=1)),
    ("traders", "retailers and wholesalers", {"field": "customer_type", "in": ["retailer", "wholesaler"]}),
    *(
        (name, "by need: GET /v1/needs says what these have in common", {"field": "need_segment", "in": [name]})
        for name in NEED_SEGMENTS[1:]
    ),
)
"""Bit n of a membership is segment n: append, never reorder."""

SHIPPED = Segments({
    bit: Segment.model_validate({"name": name, "about": about, "enters": enters, "stays": stays[0] if stays else None})
    for bit, (name, about, enters, *stays) in enumerate(_SHIPPED)
})  # fmt: skip
FIRST_OWN_BIT = 32
"""Below it there is room for more that ship."""
_BANDS = np.uint64(sum(1 << SHIPPED.bits[name] for name in BAND_FROM))
