"""Where everything that asks about customers looks: rows as they are, or, of a customer with several profiles, what these add up to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from services.segmentation.copies import Copies
from services.segmentation.domain.arrays import Bytes, Integers, hex_from_ids
from services.segmentation.domain.rules import View
from services.segmentation.domain.scoring import Question, score
from services.segmentation.domain.state import CustomerState


@dataclass(frozen=True, slots=True)
class Seen:
    """Rows of a partition, and where the numbers of their customers are: their own, or those that all their profiles add up to."""

    rows: Integers
    """In the partition: what has a membership, and marks."""
    places: Integers | slice
    """Among those that were asked for."""
    state: CustomerState
    at: Integers
    """In that state."""

    def part(self, places: Integers) -> Seen:
        """The same of some of them."""
        return Seen(self.rows[places], places, self.state, self.at[places])

    def view(self, ask: Question, needs: Bytes | None = None) -> View:
        """What rules look at."""
        return View(self.state, score(self.state, self.at, ask), ask, needs)


def look_at(state: CustomerState, copies: Copies, rows: Integers, only_customers: bool) -> list[Seen]:
    """Rows of a partition in one part or two: those that are seen as they are, and those that are joined for the occasion.

    With `only_customers`, who is part of another customer is left out, and whose other profiles' rows are not all here; otherwise
    these are seen as they are.
    """
    merged = state.merged
    if not merged:
        return [Seen(rows, slice(None), state, rows)]
    absorbed, joint = merged.absorbed(rows), np.flatnonzero(merged.with_others(rows))
    if not len(joint) and not absorbed.any():
        return [Seen(rows, slice(None), state, rows)]
    ids = hex_from_ids(state.ids[rows[joint]])
    are_whole = [copies.are_whole(each, merged.others(row)) for each, row in zip(ids, rows[joint].tolist(), strict=True)]
    whole = joint[np.array(are_whole, dtype=bool)]
    is_apart = absorbed if only_customers else np.zeros(len(rows), dtype=bool)
    is_apart[joint if only_customers else whole] = True
    alone = np.flatnonzero(~is_apart)
    found = [Seen(rows[alone], alone, state, rows[alone])]
    if len(whole):
        joined = copies.joined(state, rows[whole])
        found.append(Seen(rows[whole], whole, joined, joined.every_row()))
    return found
