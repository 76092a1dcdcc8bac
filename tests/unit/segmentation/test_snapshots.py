"""A copy of rows on disk is those rows, and nothing that still had to be told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from services.segmentation.domain.models.scoring_model import Market
from services.segmentation.domain.state import CustomerState, apply_events
from services.segmentation.owned import Owned
from services.segmentation.positions import Positions
from services.segmentation.recovery import Recovery
from services.segmentation.snapshots import Snapshot, take_snapshot
from tests.unit.segmentation.histories import FIRST_DAY, an_id, applied, as_batch, event, rows_by_id
from tests.unit.segmentation.test_joining import kinship


def test_a_snapshot_gives_every_row_what_it_had_whatever_the_order_of_ids() -> None:
    state = CustomerState()
    for number in (9, 1, 5):
        apply_events(state, as_batch([event(number, FIRST_DAY + number)]))
        state.done.add(np.array([state.count - 1]), np.array([4]), np.array([100 + number]))
    state.names[4] = "ProductViewed"
    state.merged.put(0, others=(an_id(5).hex(),))
    state.merged.put(2, home=an_id(9).hex())
    snapshot: Snapshot = take_snapshot(state, None, "log", 0)  # type: ignore[arg-type]
    assert rows_by_id(snapshot.state()) == rows_by_id(state)
    assert kinship(snapshot.state()) == kinship(state)
    before_merges = replace(snapshot, merged={})
    assert not before_merges.state().merged


def test_what_a_snapshot_has_was_told_whatever_number_was_said_to_be_published_last() -> None:
    """A late writer's row may carry a number that the partition's own record does not know as published; nothing waits all the same."""
    owned = Owned(0, applied([event(1, FIRST_DAY)]), Positions(), generation=1, change_number=2, published=1)
    owned.state.membership[0], owned.state.change_number[0] = 5, 2
    recovered = Recovery(take_snapshot(owned.state, owned.meta(Market()), "log", 0)).result()
    assert recovered is not None
    assert recovered.news == {}
