"""Signs of defection: what a shopkeeper would point at, each with a strength from 0 to 1."""

from __future__ import annotations

from enum import StrEnum

import numpy as np

from services.segmentation.domain.arrays import Floats, Integers
from services.segmentation.domain.models.calibration import UNTAUGHT, Calibration
from services.segmentation.domain.names import COMPLAINT, EMAIL_CLICKED, EMAIL_OPENED, EMAIL_SENT, REFUNDS, code_of
from services.segmentation.domain.state import money
from services.segmentation.domain.state.days import count_days
from services.segmentation.domain.state.rows import CustomerState

RECENT_BUCKETS, BEFORE_BUCKETS = 3, 6
RECENT_DAYS, BEFORE_DAYS = 84, 168
_ENOUGH_DAYS = 84
"""Less history before the recent twelve weeks than this says nothing about a fall."""
_RETURNS_COUNT_DOUBLE = 2.0
_LAST_RESORT = 0.25
"""What is there for every customer is named only where no plainer sign is."""


class Sign(StrEnum):
    """Why somebody is thought to be leaving; the order is that of the columns of strengths."""

    OVERDUE = "overdue"
    FALLING_SPEND = "falling_spend"
    FEWER_VISITS = "fewer_visits"
    LONG_SILENCE = "long_silence"
    BOUGHT_ONCE = "bought_once"
    COMPLAINED = "complained"
    RETURNS = "returns"
    NARROWER_BASKET = "narrower_basket"
    EMAIL_SILENCE = "email_silence"
    BUYS_RARELY = "buys_rarely"
    MAY_HAVE_LEFT = "may_have_left"
    FEW_VISITS_LATELY = "few_visits_lately"


SIGNS = tuple(Sign)
_NAMED = SIGNS.index(Sign.FEW_VISITS_LATELY)
"""Signs from here on are only learned from: too vague to be a reason."""
_IN_MODEL = np.array([sign in (Sign.OVERDUE, Sign.LONG_SILENCE, Sign.BOUGHT_ONCE, Sign.BUYS_RARELY, Sign.MAY_HAVE_LEFT) for sign in SIGNS])
"""What the model's own risk already rests on: a reason as far as that risk is one."""
_RECENT_WEEKS, _LATELY_WEEKS = 12, 26
_MAILS_THAT_SAY_SOMETHING = 3


def falling_spend(buckets: Integers, first_day: Integers, today: Integers) -> Floats:
    """By how much a week's spend in the newest three 4-week buckets lies below the six before; 0 where it does not, or history is short.

    `buckets` has the running bucket in column 0, of which only the days so far count.
    """
    recent_days = (RECENT_BUCKETS - 1) * money.BUCKET_DAYS + today % money.BUCKET_DAYS + 1
    before_days = np.clip(today + 1 - recent_days - first_day, 0, BEFORE_BUCKETS * money.BUCKET_DAYS)
    recent = buckets[:, :RECENT_BUCKETS].sum(axis=1)
    before = buckets[:, RECENT_BUCKETS : RECENT_BUCKETS + BEFORE_BUCKETS].sum(axis=1)
    return _drop(recent, recent_days, before, before_days)


def fewer_visits(state: CustomerState, rows: Integers, today: Integers) -> Floats:
    """By how much the purchase days of the last 84 days lie below the rate of the 168 before."""
    bitmap, last = state.bitmap[rows], state.last_day[rows].astype(np.int64)
    turn = today - RECENT_DAYS + 1
    recent = recent_visits(state, rows, today, RECENT_DAYS)
    before = count_days(bitmap, last, turn - BEFORE_DAYS, turn)
    return _drop(recent, np.full(len(rows), RECENT_DAYS), before, np.clip(turn - state.first_day[rows], 0, BEFORE_DAYS))


def recent_visits(state: CustomerState, rows: Integers, today: Integers, days: int) -> Integers:
    """How many of the last `days` days were purchase days."""
    return count_days(state.bitmap[rows], state.last_day[rows].astype(np.int64), today - days + 1, today + 1)


def _drop(recent: Integers, recent_days: Integers, before: Integers, before_days: Integers) -> Floats:
    judged = (before > 0) & (before_days >= _ENOUGH_DAYS)
    rate_before = np.where(judged, before, 1) / np.maximum(before_days, 1)
    return np.where(judged, np.clip(1.0 - np.maximum(recent, 0) / recent_days / rate_before, 0.0, 1.0), 0.0)


def narrower_basket(state: CustomerState, rows: Integers, day: int) -> Floats:
    """By how much the categories of a 4-week period fell, the newest three against the six before; periods without any do not count."""
    if "breadth" not in state.optional:
        return np.zeros(len(rows))
    newest = state.optional["breadth_newest"][rows].astype(np.int64)
    held = money.by_age(state.optional["breadth"][rows].astype(np.int64), newest, np.full(len(rows), day // money.BUCKET_DAYS))
    recent, before = held[:, :RECENT_BUCKETS], held[:, RECENT_BUCKETS : RECENT_BUCKETS + BEFORE_BUCKETS]
    came, came_before = (recent > 0).sum(axis=1), (before > 0).sum(axis=1)
    usual = before.sum(axis=1) / np.maximum(came_before, 1)
    now = recent.sum(axis=1) / np.maximum(came, 1)
    return np.where((came > 0) & (came_before > 1), np.clip(1.0 - now / np.maximum(usual, 1), 0.0, 1.0), 0.0)


def email_silence(state: CustomerState, rows: Integers, day: int) -> Floats:
    """How many mails of twelve weeks were all left unopened, from 0 (too few, or one was opened) towards 1."""
    sent = _done(state, rows, day, _RECENT_WEEKS, EMAIL_SENT)
    silence = np.where(sent >= _MAILS_THAT_SAY_SOMETHING, sent / (sent + _MAILS_THAT_SAY_SOMETHING), 0.0)
    asked = np.flatnonzero(silence)
    silence[asked] *= _done(state, rows[asked], day, _RECENT_WEEKS, EMAIL_OPENED, EMAIL_CLICKED) == 0
    return silence


def _done(state: CustomerState, rows: Integers, day: int, weeks: int, *names: str) -> Integers:
    """How often in the last weeks, of which the running one counts as far as it is."""
    week = day // 7
    counted: Integers = np.sum([state.done.counts(rows, code_of(name), week - weeks + 1, week) for name in names], axis=0, dtype=np.int64)
    return counted


def _returns(state: CustomerState, rows: Integers, today: Integers, day: int) -> Floats:
    refunds = _done(state, rows, day, _LATELY_WEEKS, REFUNDS)
    if not refunds.any():
        return np.zeros(len(rows))
    visits = recent_visits(state, rows, today, _LATELY_WEEKS * 7)
    share: Floats = np.clip(_RETURNS_COUNT_DOUBLE * refunds / np.maximum(refunds + visits, 1), 0.0, 1.0)
    return share


def strengths(
    state: CustomerState,
    rows: Integers,
    *,
    day: int,
    today: Integers,
    silence: Floats,
    pauses: Floats,
    alive: Floats,
    recency: Integers,
    spend_drop: Floats,
    visit_drop: Floats,
    visits: Integers,
    horizon_days: int,
) -> Floats:
    """Shape (n, signs); every buyer has at least two, because nobody is sure to buy and who bought twice may leave after each purchase.

    `day` is the day asked about, `today` the same by row, but never before a row's newest purchase; `visits` are those within the horizon
    before today. The model's probabilities: of so long a `silence` and of a `pauses` for the whole horizon of who still lives, and to be
    `alive`.
    """
    return np.stack(
        [
            1.0 - silence,
            spend_drop,
            visit_drop,
            np.minimum(recency / horizon_days, 1.0),
            np.where(state.day_count[rows] == 1, 0.5, 0.0),
            np.where(_done(state, rows, day, _LATELY_WEEKS, COMPLAINT) > 0, 0.75, 0.0),
            _returns(state, rows, today, day),
            narrower_basket(state, rows, day),
            email_silence(state, rows, day),
            _LAST_RESORT * pauses,
            _LAST_RESORT * (1.0 - alive),
            1.0 / (1.0 + visits),
        ],
        axis=1,
    )


def grounds(strengths: Floats, calibration: Calibration) -> Floats:
    """How much each sign speaks for the risk: as strong as it is, and as outcomes have taught where they did.

    What the model's own risk rests on counts as much as outcomes trust that risk. What they do not hold against anybody is no reason.
    """
    if calibration == UNTAUGHT:
        return strengths
    found: Floats = strengths * np.maximum(calibration.slope * _IN_MODEL + np.array(calibration.weights), 0.0)
    return found


def two_strongest(grounds: Floats) -> list[tuple[str, ...]]:
    """The names of each row's two strongest signs, strongest first; a sign without strength is none."""
    named = grounds[:, :_NAMED]
    order = np.argsort(-named, axis=1, kind="stable")[:, :2]
    held = np.take_along_axis(named, order, axis=1) > 0
    rows = zip(order.tolist(), held.tolist(), strict=True)
    return [tuple(SIGNS[sign] for sign, holds in zip(row, hold, strict=True) if holds) for row, hold in rows]
