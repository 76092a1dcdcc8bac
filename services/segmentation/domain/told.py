"""What others are told of customers: their scores, what they need, and which bonds they have. Gathered for those who are told of."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from services.segmentation.domain.affinities import decayed
from services.segmentation.domain.arrays import Floats, Integers
from services.segmentation.domain.bonds import bonds_of
from services.segmentation.domain.names import NEED
from services.segmentation.domain.need_labels import NEED_SEGMENTS
from services.segmentation.domain.scoring import ScoreBatch, as_contract
from services.segmentation.domain.state.rows import BOUGHT, DONE, CustomerState

MOST_NEEDS, MOST_STATED = 3, 5
_LONGEST = 256


def told(state: CustomerState, scores: ScoreBatch, model: str) -> list[dict[str, Any]]:
    """For each row the fields of `shared.contracts.scores.Scores`, ready for JSON."""
    rows = scores.rows
    labels = [NEED_SEGMENTS[label] if label else None for label in state.need[rows].tolist()]
    columns = (labels, needs(state, rows, scores.today), stated_needs(state, rows, scores.today), map(bonds_of, state.bonds[rows].tolist()))
    return [
        {**values, "need_segment": label, "needs": bought, "stated_needs": stated, "bonds": bonds}
        for values, label, bought, stated, bonds in zip(as_contract(scores, model), *columns, strict=True)
    ]


def needs(state: CustomerState, rows: Integers, today: Integers) -> list[tuple[str, ...]]:
    """By row: the categories with most lines, older ones counting less; of equals the first by code."""
    entries, places = state.bought.of_rows(rows)
    weights = decayed(state, entries, BOUGHT.period_of(today)[places])
    found = _strongest(state.bought.keys[entries, 1].astype(np.int64), places, weights, MOST_NEEDS, len(rows))
    return [tuple(state.names[code][:_LONGEST] for code in codes if code in state.names) for codes in found]


def stated_needs(state: CustomerState, rows: Integers, today: Integers) -> list[tuple[str, ...]]:
    """By row: the needs stated within the last 52 weeks, newest first; of equals the first by code."""
    texts = {code: text.removeprefix(NEED)[:_LONGEST] for code, text in state.names.items() if text.startswith(NEED) and text != NEED}
    if not texts:
        return [()] * len(rows)
    entries, places = state.done.of_rows(rows)
    names = state.done.keys[entries, 1].astype(np.int64)
    wanted = np.isin(names, list(texts))
    entries, places, names = entries[wanted], places[wanted], names[wanted]
    ages = np.where(state.done.held[entries] > 0, state.done.ages(entries, DONE.period_of(today)[places]), DONE.periods)
    newness = DONE.periods - ages.min(axis=1, initial=DONE.periods).astype(np.float64)
    found = _strongest(names, places, newness, MOST_STATED, len(rows))
    return [tuple(texts[code] for code in codes) for codes in found]


def _strongest(names: Integers, places: Integers, weights: Floats, most: int, length: int) -> list[list[int]]:
    """By place: the names that weigh most, and anything at all."""
    there = np.flatnonzero(weights > 0)
    order = there[np.lexsort((names[there], -weights[there], places[there]))]
    counts = np.bincount(places[order], minlength=length)
    rank = np.arange(len(order)) - (np.cumsum(counts) - counts)[places[order]]
    chosen = names[order[rank < most]].tolist()
    ends = np.cumsum(np.minimum(counts, most)).tolist()
    return [chosen[start:end] for start, end in pairwise([0, *ends])]
