"""Purchase logs summarised the way the models want them; for fits and back-tests, where rows are not at hand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from services.segmentation.domain.arrays import Floats, Integers

DAYS_PER_WEEK = 7.0


@dataclass(frozen=True, slots=True)
class Histories:
    """One place a customer: repeat purchase days, weeks from first to newest and to the end, mean of the repeat days' spend."""

    x: Floats
    t_x: Floats
    age: Floats
    repeat_mean: Floats
    """0 for who never came back."""


def histories(customer: Integers, day: Integers, amount: Integers, end_day: int) -> Histories:
    """Summarise purchases up to and including `end_day`; purchases of one day are one. Amounts keep their unit."""
    seen = day <= end_day
    span = int(day.max()) + 1
    keys, place = np.unique(customer[seen] * span + day[seen], return_inverse=True)
    spend = np.zeros(len(keys))
    np.add.at(spend, place, amount[seen])
    who, when = keys // span, keys % span
    start = np.flatnonzero(np.r_[True, who[1:] != who[:-1]])
    days = np.diff(np.r_[start, len(who)])
    first, last = when[start], when[start + days - 1]
    repeat = np.add.reduceat(spend, start) - spend[start]
    x = (days - 1).astype(np.float64)
    mean = np.divide(repeat, x, out=np.zeros_like(repeat), where=x > 0)
    return Histories(x, (last - first) / DAYS_PER_WEEK, (end_day - first) / DAYS_PER_WEEK, mean)
