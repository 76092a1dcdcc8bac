"""The grammar of segment rules: conditions on scores, rows, windows and consent, joined by all, any and not; evaluated as masks."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from services.segmentation.domain.arrays import Floats, Mask
from services.segmentation.domain.bonds import BONDS
from services.segmentation.domain.models.rfm import CELLS
from services.segmentation.domain.models.value_curve import CLASSES
from services.segmentation.domain.names import NEED, OFFER, code_of
from services.segmentation.domain.need_labels import NEED_SEGMENTS
from services.segmentation.domain.scoring import BANDS, Question, ScoreBatch, class_a_minor
from services.segmentation.domain.state.consents import CONSENTS, consent_bit
from services.segmentation.domain.state.days import SPAN_DAYS, count_days
from services.segmentation.domain.state.rows import BOUGHT, DONE, CustomerState

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
    share: Floats = view.scores.year_worth_minor / np.maximum(class_a_minor(view.scores, view.ask.market), 1)
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
    "year_worth_minor": Quantity("what value classes go by: a year's net spend, or the profit in it", _score("year_worth_minor")),
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
Word = Annotated[str, Field(min_length=1, max_length=256)]


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


class Counted(Part):
    """How often something happened in the last weeks, of which the running one counts as far as it is; once or more where no bound is set.

    Weeks are those of seven days since 1970-01-01.
    """

    within_weeks: Annotated[int, Field(ge=1, le=DONE.periods)] = DONE.periods
    at_least: Number | None = None
    above: Number | None = None
    at_most: Number | None = None
    below: Number | None = None

    def bounds(self) -> dict[str, float]:
        """The bounds."""
        said = {name: bound for name in _COMPARE if (bound := getattr(self, name)) is not None}
        return said or {"at_least": 1}

    @abstractmethod
    def name(self) -> str:
        """What is counted, as rows name it."""

    def values(self, view: View) -> Any:
        """The counts."""
        week = view.ask.today // DONE.period_days
        return view.state.done.counts(view.scores.rows, code_of(self.name()), week - self.within_weeks + 1, week)

    def holds(self, view: View) -> Mask:
        """For whom."""
        values = self.values(view)
        held: Mask = np.logical_and.reduce([_COMPARE[name](values, bound) for name, bound in self.bounds().items()])
        return held


class Happened(Counted):
    """How often the customer did this: an interaction's kind, or `(refund)`."""

    event: Word

    def name(self) -> str:
        return self.event


class Offered(Counted):
    """In how many weeks this program made the customer an offer."""

    program: Word

    def name(self) -> str:
        return f"{OFFER}{self.program}"


class Stated(Counted):
    """How often the customer said, in a survey or so, that this is what he looks for."""

    need: Word

    def name(self) -> str:
        return f"{NEED}{self.need}"


class Bought(Counted):
    """How many lines of this category the customer bought in the last weeks, four of which are the smallest step."""

    category: Word
    within_weeks: Annotated[int, Field(ge=4, le=52, multiple_of=4)] = 52

    def name(self) -> str:
        return self.category

    def values(self, view: View) -> Any:
        period, periods = view.ask.today // BOUGHT.period_days, self.within_weeks * 7 // BOUGHT.period_days
        return view.state.bought.counts(view.scores.rows, code_of(self.category), period - periods + 1, period)


class Bonded(Part):
    """Who is tied to us by this bond."""

    bond: Literal[BONDS]  # type: ignore[valid-type]

    def holds(self, view: View) -> Mask:
        """For whom."""
        held: Mask = (view.state.bonds[view.scores.rows] >> BONDS.index(self.bond) & 1) == 1
        return held


class HasTrait(Part):
    """A trait of the profile with one of these values, or a number within bounds."""

    trait: Word
    values: Annotated[tuple[str | bool, ...], Field(max_length=50, alias="in")] = ()
    at_least: Number | None = None
    above: Number | None = None
    at_most: Number | None = None
    below: Number | None = None

    @model_validator(mode="after")
    def _says_something(self) -> HasTrait:
        if bool(self.values) == bool(self.bounds()):
            raise ValueError("needs either `in` with values, or at least one of at_least, above, at_most, below")
        return self

    def bounds(self) -> dict[str, float]:
        """The bounds that are set."""
        return {name: bound for name in _COMPARE if (bound := getattr(self, name)) is not None}

    def holds(self, view: View) -> Mask:
        """For whom; nobody where the trait is not known."""
        rows, column = view.scores.rows, view.state.traits.get(self.trait)
        if column is None:
            return np.zeros(len(rows), dtype=bool)
        if self.values:
            return column.is_one_of(rows, self.values)
        numbers = column.numbers(rows)
        held: Mask = np.logical_and.reduce([_COMPARE[name](numbers, bound) for name, bound in self.bounds().items()])
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
    (AllOf, "all"), (AnyOf, "any"), (Not, "not"), (Allowed, "consent"), (HasTrait, "trait"), (Happened, "event"), (Offered, "program"),
    (Stated, "need"), (Bought, "category"), (Bonded, "bond"), (OneOf, "in"), (Comparison, "field"),
)  # fmt: skip


def _kind(value: Any) -> str | None:
    if isinstance(value, dict):
        return next((kind for _, kind in _KINDS if kind in value), None)
    return next((kind for model, kind in _KINDS if isinstance(value, model)), None)


Rule: TypeAlias = Annotated[
    Annotated[AllOf, Tag("all")]
    | Annotated[AnyOf, Tag("any")]
    | Annotated[Not, Tag("not")]
    | Annotated[Allowed, Tag("consent")]
    | Annotated[HasTrait, Tag("trait")]
    | Annotated[Happened, Tag("event")]
    | Annotated[Offered, Tag("program")]
    | Annotated[Stated, Tag("need")]
    | Annotated[Bought, Tag("category")]
    | Annotated[Bonded, Tag("bond")]
    | Annotated[OneOf, Tag("in")]
    | Annotated[Comparison, Tag("field")],
    Discriminator(
        _kind,
        custom_error_type="no_rule",
        custom_error_message=f"a rule has one of the keys {', '.join(kind for _, kind in _KINDS if kind != 'in')}",
    ),
]
AnyRule: TypeAlias = AllOf | AnyOf | Not | Allowed | HasTrait | Happened | Offered | Stated | Bought | Bonded | OneOf | Comparison

for _model in (AllOf, AnyOf, Not):
    _model.model_rebuild()


def conditions_of(rule: AnyRule, depth: int = 1) -> Iterator[tuple[AnyRule, int]]:
    """Each condition, and how deep it lies."""
    if isinstance(rule, AllOf | AnyOf):
        for each in rule.rules:
            yield from conditions_of(each, depth + 1)
    elif isinstance(rule, Not):
        yield from conditions_of(rule.rule, depth + 1)
    else:
        yield rule, depth


def traits_of(rule: AnyRule | None) -> set[str]:
    """The traits that a rule names."""
    return {each.trait for each, _ in conditions_of(rule) if isinstance(each, HasTrait)} if rule is not None else set()


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
    if isinstance(rule, Bonded):
        return {"bond": rule.bond, "is": holds, "holds": holds}
    if isinstance(rule, HasTrait):
        column = view.state.traits.get(rule.trait)
        wanted = {"in": list(rule.values)} if rule.values else rule.bounds()
        return {"trait": rule.trait, **wanted, "is": column.value(int(view.scores.rows[0])) if column is not None else None, "holds": holds}
    if isinstance(rule, Counted):
        said = rule.model_dump(by_alias=True, include={"event", "program", "need", "category", "within_weeks"})
        return {**said, **rule.bounds(), "is": int(rule.values(view)[0]), "holds": holds}
    has_value = bool(view.scores.bought[0]) or not QUANTITIES[rule.field].buyers_only
    value = rule.values(view)[0].item() if has_value else None
    window = {"within_days": rule.within_days} if rule.within_days is not None else {}
    return {"field": rule.field, **window, **rule.bounds(), "is": value, "holds": holds}
