"""How long nothing is fetched, so that what comes meanwhile comes together."""

from __future__ import annotations

import pytest

from shared.streaming.transport import LONGEST_PAUSE_SECONDS, MANY_RECORDS, RESTS, SHORTEST_PAUSE_SECONDS, pause_after


@pytest.mark.parametrize(
    ("seconds", "pause"), [(0.0, SHORTEST_PAUSE_SECONDS), (0.05, RESTS * 0.05), (0.1, RESTS * 0.1), (9.0, LONGEST_PAUSE_SECONDS)]
)
def test_the_slower_few_records_are_handled_the_longer_is_the_pause_within_bounds(seconds: float, pause: float) -> None:
    assert pause_after(seconds, 1) == pause_after(seconds, MANY_RECORDS - 1) == pause


def test_where_many_wait_there_is_no_pause() -> None:
    assert pause_after(0.3, MANY_RECORDS) == 0.0
