"""The group's word that a worker owns its partitions."""

from __future__ import annotations

import pytest

from shared.streaming import leaving
from shared.streaming.leaving import EXIT_LOST, Lease


class _Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    clock = _Clock()
    monkeypatch.setattr(leaving, "elapsed", clock)
    return clock


def test_a_lease_lasts_one_session_from_the_moment_a_heartbeat_was_sent(clock: _Clock) -> None:
    lease = Lease(6)
    lease.hold()
    clock.now = 105.9
    assert not lease.is_stale()
    clock.now = 110.0
    lease.renew(asked_at=105.0)
    assert not lease.is_stale()
    clock.now = 111.1
    assert lease.is_stale()


def test_a_process_without_partitions_needs_no_lease(clock: _Clock) -> None:
    lease = Lease(6)
    clock.now = 1000.0
    assert not lease.is_stale()
    lease.hold()
    lease.release()
    clock.now = 2000.0
    lease.renew(asked_at=1999.0)
    assert not lease.is_stale()


def test_a_stale_lease_ends_the_process(clock: _Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    codes: list[int] = []
    monkeypatch.setattr(leaving.os, "_exit", codes.append)
    lease = Lease(6)
    lease.hold()
    lease.check()
    clock.now = 107.0
    lease.check()
    assert codes == [EXIT_LOST]
