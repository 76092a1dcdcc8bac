"""The grammar of segment rules: conditions on scores, rows, windows and consent, joined by all, any and not; evaluated as masks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, TypeAlias

import numpy as np
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from services.segmentation.domain.arrays import Floats, Mask
from services.segmentation.domain.models.rfm import CELLS
from services.segmentation.domain.models.value_curve import CLASSES
from services.segmentation.domain.need_labels import NEED_SEGMENTS
from services.segmentation.domain.scoring import BANDS, Question, ScoreBatch, class_a_minor
from services.segmentation.domain.state.consents import CONSENTS, consent_bit
from services.segmentation.domain.state.days import SPAN_DAYS, count_days
from services.segmentation.domain.state.rows import CustomerState

CUSTOMER_TYPES = ("consumer", "retailer", "wholesaler")
MOST_CONDITIONS, DEEPEST = 50, 8


@dataclass(frozen=True, slots=True)
class View:
    """What rules look at: scored rows, by column."""

    state: CustomerState
    scores: ScoreBatch
    ask: Question
    needs: Any = None
    """The rows' labels, where they are asked about by other than their own."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number that rules may compare: what it is, and for whom."""

    about: str
    read: Callable[[View], Any]
    """The numbers, one a row of the view."""
    buyers_only: bool = True
    """For who never bought it has no value, and every comparison is false."""


def _row(name: str) -> Callable[[View], Any]:
    return lambda view: getattr(view.state, name)[view.scores.rows]


def _score(name: str) -> Callable[[View], Any]:
    return lambda view: getattr(view.scores, name)


def _class_a_share(view: View) -> Floats:
    share: Floats = view.scores.year_spend_minor / np.maximum(class_a_minor(view.scores, view.ask.market), 1)
    return share


def _known_days(view: View) -> Any:
    return view.ask.today - np.minimum(view.state.known_since_day[view.scores.rows], view.ask.today)


def _need(view: View) -> Any:
    return view.state.need[view.scores.rows] if view.needs is None else view.needs


QUANTITIES = MappingProxyType({
    "recency_days": Quantity("days since the newest purchase", _score("recency_days")),
    "customer_days": Quantity("days since the first purchase", _score("age_days")),
    "purchase_days": Quantity("days with a purchase", _score("day_count"), buyers_only=False),
    "monetary_minor": Quantity("mean net spend of a purchase day", _score("monetary_minor")),
    "year_spend_minor": Quantity("net spend of the last 52 weeks", _score("year_spend_minor")),
    "class_a_share": Quantity("a year's spend, by what class A of consumers, or of traders, begins with", _class_a_share),
    "risk": Quantity("chance not to buy within the horizon", _score("risk")),
    "buys_again": Quantity("chance to buy within the horizon, by the model alone", _score("buys_again")),
    "expected_value_minor": Quantity("expected spend of the next 52 weeks, discounted", _score("expected_value_minor")),
    "value_at_risk_minor": Quantity("risk x expected value", _score("value_at_risk_minor")),
    "spend_drop": Quantity("share by which a week's spend fell, 12 weeks against the 24 before", _score("spend_drop")),
    "visit_drop": Quantity("share by which purchase days fell, 12 weeks against the 24 before", _score("visit_drop")),
    "purchases": Quantity("purchases ever", _row("purchase_count"), buyers_only=False),
    "lines": Quantity("lines bought ever", _row("line_count"), buyers_only=False),
    "refunds": Quantity("refunds ever", _row("refund_count"), buyers_only=False),
    "interactions": Quantity("interactions ever", _row("interaction_count"), buyers_only=False),
    "coupon_redemptions": Quantity("coupons redeemed ever", _row("redemption_count"), buyers_only=False),
    "complaints": Quantity("complaints ever", _row("complaint_count"), buyers_only=False),
    "bought_minor": Quantity("bought ever", _row("bought_minor"), buyers_only=False),
    "refunded_minor": Quantity("refunded ever", _row("refunded_minor"), buyers_only=False),
    "known_days": Quantity("days since identity first saw the customer", _known_days, buyers_only=False),
})  # fmt: skip
"""What can be compared with a number."""

CHOICES = MappingProxyType({
    "rfm_cell": (CELLS, _score("cell")),
    "value_class": (CLASSES, _score("value_class")),
    "risk_band": (BANDS, _score("band")),
    "customer_type": (CUSTOMER_TYPES, _row("customer_type")),
    "need_segment": (NEED_SEGMENTS, _need),
})  # fmt: skip
"""What has one of a few values: their names by number, and the numbers."""

Number = Annotated[float, Field(allow_inf_nan=False)]


class Part(BaseModel):
    """Part of a rule: frozen, and closed to what it does not know, so that a misspelt word is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Comparison(Part):
    """A quantity within bounds; `within_days` counts purchase days of the newest so many days."""

    field: str
    at_least: Number | None = None
    above: Number | None = None
    at_most: Number | None = None
    below: Number | None = None
    within_days: Annotated[int, Field(ge=1, le=SPAN_DAYS)] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Comparison:
        if self.field not in QUANTITIES:
            raise ValueError(f"`{self.field}` cannot be compared with a number; what can: {', '.join(QUANTITIES)}")
        if not self.bounds():
            raise ValueError("needs at least one of at_least, above, at_most, below")
        if self.within_days is not None and self.field != "purchase_days":
            raise ValueError("within_days goes with purchase_days only")
        return self

    def bounds(self) -> dict[str, float]:
        """The bounds that are set."""
        return {name: bound for name in _COMPARE if (bound := getattr(self, name)) is not None}

    def values(self, view: View) -> Any:
        """The numbers compared."""
        if self.within_days is None:
            return QUANTITIES[self.field].read(view)
        rows, today = view.scores.rows, view.ask.today
        first = np.full(len(rows), today - self.within_days + 1)
        return count_days(view.state.bitmap[rows], view.state.last_day[rows].astype(np.int64), first, np.full(len(rows), today + 1))

    def holds(self, view: View) -> Mask:
        """For whom."""
        values = self.values(view)
        held = view.scores.bought if QUANTITIES[self.field].buyers_only else np.ones(len(values), dtype=bool)
        for name, bound in self.bounds().items():
            held = held & _COMPARE[name](values, bound)
        return held


_COMPARE: dict[str, Callable[[Any, float], Any]] = {
    "at_least": lambda values, bound: values >= bound,
    "above": lambda values, bound: values > bound,
    "at_most": lambda values, bound: values <= bound,
    "below": lambda values, bound: values < bound,
}


class OneOf(Part):
    """A field with one of these values."""

    field: str
    values: Annotated[tuple[str, ...], Field(min_length=1, max_length=20, alias="in")]

    @model_validator(mode="after")
    def _is_known(self) -> OneOf:
        if self.field not in CHOICES:
            raise ValueError(f"`{self.field}` has no list of values; what has: {', '.join(CHOICES)}")
        names = CHOICES[self.field][0]
        unknown = [value for value in self.values if value not in names]
        if unknown:
            raise ValueError(f"{self.field} is never {', '.join(unknown)}; it is one of {', '.join(names)}")
        return self

    def holds(self, view: View) -> Mask:
        """For whom."""
        names, read = CHOICES[self.field]
        held: Mask = np.array([name in self.values for name in names])[read(view)]
        return held


class Allowed(Part):
    """Who has agreed to this purpose on this channel, as `marketing/email`."""

    consent: str

    @model_validator(mode="after")
    def _is_known(self) -> Allowed:
        if self.consent not in CONSENTS:
            raise ValueError(f"consent is one of {', '.join(CONSENTS)}")
        return self

    def holds(self, view: View) -> Mask:
        """For whom."""
        held: Mask = (view.state.consents[view.scores.rows] & consent_bit(self.consent)) != 0
        return held


class AllOf(Part):
    """Every one of these rules."""

    rules: Annotated[tuple[Rule, ...], Field(min_length=1, alias="all")]

    def holds(self, view: View) -> Mask:
        """For whom."""
        held: Mask = np.logical_and.reduce([rule.holds(view) for rule in self.rules])
        return held


class AnyOf(Part):
    """At least one of these rules."""

    rules: Annotated[tuple[Rule, ...], Field(min_length=1, alias="any")]

    def holds(self, view: View) -> Mask:
        """For whom."""
        held: Mask = np.logical_or.reduce([rule.holds(view) for rule in self.rules])
        return held


class Not(Part):
    """Whoever this rule is not true of."""

    rule: Annotated[Rule, Field(alias="not")]

    def holds(self, view: View) -> Mask:
        """For whom."""
        held: Mask = ~self.rule.holds(view)
        return held


_KINDS: tuple[tuple[type[Part], str], ...] = (
    (AllOf, "all"), (AnyOf, "any"), (Not, "not"), (Allowed, "consent"), (OneOf, "in"), (Comparison, "field"),
)  # fmt: skip


def _kind(value: Any) -> str | None:
    if isinstance(value, dict):
        return next((kind for kind in ("all", "any", "not", "consent", "in", "field") if kind in value), None)
    return next((kind for model, kind in _KINDS if isinstance(value, model)), None)


Rule: TypeAlias = Annotated[
    Annotated[AllOf, Tag("all")]
    | Annotated[AnyOf, Tag("any")]
    | Annotated[Not, Tag("not")]
    | Annotated[Allowed, Tag("consent")]
    | Annotated[OneOf, Tag("in")]
    | Annotated[Comparison, Tag("field")],
    Discriminator(
        _kind,
        custom_error_type="no_rule",
        custom_error_message='a rule has one of the keys "all", "any", "not", "consent" or "field"',
    ),
]
AnyRule: TypeAlias = AllOf | AnyOf | Not | Allowed | OneOf | Comparison

for _model in (AllOf, AnyOf, Not):
    _model.model_rebuild()


def conditions_of(rule: AnyRule, depth: int = 1) -> Iterator[int]:
    """How deep each condition lies."""
    if isinstance(rule, AllOf | AnyOf):
        for each in rule.rules:
            yield from conditions_of(each, depth + 1)
    elif isinstance(rule, Not):
        yield from conditions_of(rule.rule, depth + 1)
    else:
        yield depth


def explain(rule: AnyRule, view: View) -> dict[str, Any]:
    """Why the rule holds for the first row of the view, or does not: the rule again, with each part's verdict and value."""
    holds = bool(rule.holds(view)[0])
    if isinstance(rule, AllOf | AnyOf):
        word = "all" if isinstance(rule, AllOf) else "any"
        return {word: [explain(each, view) for each in rule.rules], "holds": holds}
    if isinstance(rule, Not):
        return {"not": explain(rule.rule, view), "holds": holds}
    if isinstance(rule, OneOf):
        names, read = CHOICES[rule.field]
        return {"field": rule.field, "in": list(rule.values), "is": names[int(read(view)[0])], "holds": holds}
    if isinstance(rule, Allowed):
        return {"consent": rule.consent, "is": holds, "holds": holds}
    has_value = bool(view.scores.bought[0]) or not QUANTITIES[rule.field].buyers_only
    value = rule.values(view)[0].item() if has_value else None
    window = {"within_days": rule.within_days} if rule.within_days is not None else {}
    return {"field": rule.field, **window, **rule.bounds(), "is": value, "holds": holds}
