"""What segmentation tells about customers."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from shared.contracts.envelope import Contract, EventData, Minor, Name, ProfileId, Time

Cause = Literal["event", "time", "model", "rule"]
"""Why memberships changed: something happened, time passed, a refit judges otherwise, or the segment's rule is another."""

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Day = Annotated[str, Field(pattern=r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$")]
"""A calendar day, UTC."""
SignedMinor = Annotated[int, Field(ge=-(10**15), le=10**15)]


class Scores(Contract):
    """One customer's scores at one moment. Money in minor units, times in days, probabilities in [0, 1]."""

    recency_days: Annotated[int, Field(ge=0)] | None
    """Days since the newest purchase; null for a prospect who never bought."""
    frequency: Annotated[int, Field(ge=0)]
    """Purchase days after the first."""
    monetary_minor: SignedMinor
    """Mean spend of a purchase day, net of refunds."""
    rfm_cell: Name
    value_class: Name
    buys_again: Share
    """P(at least one purchase within the horizon)."""
    risk: Share
    """1 - buys_again, shifted by the signs."""
    risk_band: Name
    expected_value_minor: Minor
    value_at_risk_minor: Minor
    realised_minor: SignedMinor = 0
    """Net spend ever."""
    realised_margin_minor: SignedMinor | None = None
    """What is left of it after unit costs, of the lines whose cost is known; null where no cost is known of anything."""
    expected_margin_minor: SignedMinor | None = None
    """What is left of `expected_value_minor` after unit costs, by the customer's own margin and everybody's."""
    reasons: tuple[Name, ...]
    """The two strongest reasons for the risk, strongest first."""
    model: Name
    next_purchase_on: Day | None = None
    """When the next purchase is due if the customer has not left: as likely before as after. Null for who never bought, where only
    ranks are known, and where it lies more than ten years off."""
    need_segment: Name | None = None
    """`need_1` to `need_8`: with whom the customer has in common what is bought. Null before there is a need model, and for who bought
    nothing that it knows."""
    needs: tuple[Name, ...] = ()
    """Up to three categories that the customer buys most lines of, strongest first; older lines count less."""
    stated_needs: tuple[Name, ...] = ()
    """Up to five needs that the customer has stated within a year, in surveys or otherwise, newest first."""
    bonds: tuple[Name, ...] = ()
    """Which of the four bonds the customer has: financial, social, customization, structural."""


class ScoresComputed(EventData):
    """A customer's scores changed."""

    event_type: ClassVar[str] = "dear.ScoresComputed"

    customer_id: ProfileId
    as_of: Time
    scores: Scores


class SegmentEntered(EventData):
    """A customer came to satisfy a segment's rule. `change_number` counts the customer's memberships' changes."""

    event_type: ClassVar[str] = "dear.SegmentEntered"

    customer_id: ProfileId
    segment: Name
    change_number: Annotated[int, Field(ge=1)]
    caused_at: Time
    """The time of what caused it: an event's own time, or the clock where only time passed."""
    cause: Cause = "event"
    """A change that only a refit caused is nobody's doing: it starts nothing."""
    scores: Scores


class SegmentLeft(EventData):
    """A customer ceased to satisfy a segment's rule."""

    event_type: ClassVar[str] = "dear.SegmentLeft"

    customer_id: ProfileId
    segment: Name
    change_number: Annotated[int, Field(ge=1)]
    caused_at: Time
    cause: Cause = "event"
    scores: Scores


class ScoringModelPublished(EventData):
    """A fitted model that every segmentation worker scores with from now on."""

    event_type: ClassVar[str] = "dear.ScoringModelPublished"

    model: Name
    version: Annotated[int, Field(ge=1)]
    parameters: dict[Name, float]
    """Of BG/NBD (r, alpha, a, b; weeks), gamma-gamma (p, q, v; minor units), the signs (intercept, slope, `sign.<name>`; log-odds) and the
    season (`season.00` to `season.12`: how many times the horizon counts that begins with each thirteenth of the year)."""
    fitted_at: Time
    data_from: str = ""
    data_until: str = ""
    """The first and last day of the purchases that it was fitted to."""
    customers: Annotated[int, Field(ge=0)] = 0
    back_test: dict[Name, float] = Field(default_factory=dict)
    """How it did on the newest window whose outcome is known: auc, brier, calibration, total_error, and what was in use then beside it."""


class NeedSegment(Contract):
    """People who buy alike."""

    number: Annotated[int, Field(ge=1, le=8)]
    """Stays what it is from model to model; the segment `need_<number>` holds these customers."""
    name: Name
    """What they buy more of than others."""
    categories: tuple[Name, ...] = ()
    """What tells them apart, strongest first."""
    share: Share
    """Of the customers with any purchase of a known category, when the model was fitted."""
    centre: Annotated[tuple[float, ...], Field(max_length=20)]
    """By direction."""


class NeedModelPublished(EventData):
    """A fitted need model that every segmentation worker finds customers' need segments with from now on.

    A customer's decayed lines by category, as logarithms (log 1 + x) times `weights` and brought to length 1, times `directions`, lie
    nearest to one of the centres.
    """

    event_type: ClassVar[str] = "dear.NeedModelPublished"

    version: Annotated[int, Field(ge=1)]
    fitted_at: Time
    customers: Annotated[int, Field(ge=0)]
    """Who have bought anything of these categories."""
    categories: Annotated[tuple[Name, ...], Field(max_length=64)]
    weights: Annotated[tuple[float, ...], Field(max_length=64)]
    """By category: how rare it is."""
    directions: Annotated[tuple[Annotated[tuple[float, ...], Field(max_length=20)], ...], Field(max_length=64)]
    """By category: its part in each direction."""
    segments: Annotated[tuple[NeedSegment, ...], Field(min_length=1, max_length=8)]


class ValuesSpread(Contract):
    """How values are spread over customers, in bins: each holds the values above the one before it, up to and including its own."""

    upto: tuple[int, ...]
    """Ascending."""
    count: tuple[int, ...]
    """Customers in each bin."""
    total_minor: tuple[int, ...] = ()
    """What they add up to, where the values are money; less than nothing counts as nothing."""
    hidden_count: Annotated[float, Field(ge=0.0)] = 0.0
    """Below any value lie at most so many customers more than the bins up to it say."""
    hidden_total_minor: Annotated[float, Field(ge=0.0)] = 0.0


class BuyersSpread(Contract):
    """The buyers of one kind."""

    recency_days: ValuesSpread
    purchase_days: ValuesSpread
    year_spend_minor: ValuesSpread
    """Net spend of the last 52 weeks."""
    day_spend_minor: Annotated[int, Field(ge=0)]
    """The sum over buyers of what a purchase day brings."""
    longest_days: Annotated[int, Field(ge=0)]
    """Since the first purchase of all."""


class MarketSampled(EventData):
    """How the buyers of one partition were spread when they were last re-scored: from all partitions every worker has the same market."""

    event_type: ClassVar[str] = "dear.MarketSampled"

    partition: Annotated[int, Field(ge=0)]
    generation: Annotated[int, Field(ge=0)]
    """Of the partition's owner: what an earlier one still says changes nothing."""
    as_of: Time
    consumers: BuyersSpread
    traders: BuyersSpread
