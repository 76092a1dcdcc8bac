"""Workers in processes of their own: killed, stopped, strangled, broken."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

from shared.contracts.topics import Topic
from shared.streaming.leaving import EXIT_LOST, EXIT_STUCK
from tests.stream.harness import WorkerProcess, committed, ends, messages, new_topic, parked_by, publishing, unique, values, wait_until


def _publish(broker: str, topic: Topic, count: int, first: int = 0) -> None:
    async def send() -> None:
        async with publishing(broker) as publisher:
            await publisher.publish(topic, messages(count, first=first))

    asyncio.run(send())


def test_killing_one_of_two_workers_under_load_loses_nothing(broker: str, tmp_path: Path) -> None:
    topic, group, effects = new_topic(broker), unique("killed"), tmp_path / "effects"
    with (
        WorkerProcess(broker, group, topic, "records_effects", effects, seconds=0.05) as first,
        WorkerProcess(broker, group, topic, "records_effects", effects, seconds=0.05) as second,
    ):
        total = 0
        # Both have to join and to get partitions, on a machine that may be busy.
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and len({line.split()[3] for line in first.lines()}) < 2:
            _publish(broker, topic, 300, first=total)
            total += 300
        second.process.kill()
        _publish(broker, topic, 300, first=total)
        total += 300
        wait_until(lambda: len({line.split()[2] for line in first.lines()}) == total, 30)
        first.process.send_signal(signal.SIGTERM)
        assert first.wait() == 0, first.said()
    assert {line.split()[3] for line in first.lines()} == {str(first.process.pid), str(second.process.pid)}, "both worked"
    assert len({tuple(line.split()[:2]) for line in first.lines()}) == total
    assert committed(broker, group, topic) == ends(topic, messages(total)), "a drained worker has committed everything"


def test_a_worker_that_was_stopped_for_longer_than_its_session_leaves_before_it_publishes(broker: str, tmp_path: Path) -> None:
    topic, target, group, effects = new_topic(broker), new_topic(broker), unique("paused"), tmp_path / "effects"
    _publish(broker, topic, 1)
    with WorkerProcess(broker, group, topic, "publishes_slowly", effects, target=target.name, seconds=20) as paused:
        wait_until(lambda: any(line.startswith("began") for line in paused.lines()))
        # Long enough for a commit, and far from the handler's end: what is not applied yet must not be in it.
        time.sleep(1.5)
        os.kill(paused.process.pid, signal.SIGSTOP)
        with WorkerProcess(broker, group, topic, "publishes_slowly", effects, target=target.name, seconds=0) as successor:
            wait_until(lambda: f"published {successor.process.pid}" in successor.lines(), 60)
            os.kill(paused.process.pid, signal.SIGCONT)
            assert paused.wait() == EXIT_LOST, paused.said()
            assert values(broker, target) == [str(successor.process.pid).encode()]


def test_a_handler_that_nothing_passes_leaves_and_commits_nothing(broker: str, tmp_path: Path) -> None:
    topic, group = new_topic(broker), unique("broken")
    _publish(broker, topic, 50)
    with WorkerProcess(broker, group, topic, "fails_on_everything", tmp_path / "effects") as worker:
        assert worker.wait() == EXIT_STUCK
        assert "nothing passes the handler" in worker.said()
    assert committed(broker, group, topic) == {}
    assert parked_by(broker, group) == []


def test_too_many_parked_events_stop_the_worker(broker: str, tmp_path: Path) -> None:
    topic, group = new_topic(broker), unique("flood")
    _publish(broker, topic, 200)
    with WorkerProcess(broker, group, topic, "rejects_everything", tmp_path / "effects", park_limit=60) as worker:
        assert worker.wait() == EXIT_STUCK
        assert "DEAR_PARK_LIMIT" in worker.said()
    assert 0 < len(parked_by(broker, group)) <= 60


def test_a_worker_that_stands_still_ends_itself(broker: str, tmp_path: Path) -> None:
    """A handler that hangs, and one that blocks the event loop so that only another thread can notice."""
    topic, groups = new_topic(broker), (unique("hangs"), unique("blocks"))
    _publish(broker, topic, 1)
    with (
        WorkerProcess(broker, groups[0], topic, "never_returns", tmp_path / "hangs", stall_seconds=6) as hanging,
        WorkerProcess(broker, groups[1], topic, "blocks_the_event_loop", tmp_path / "blocks", stall_seconds=6) as blocking,
    ):
        assert hanging.wait() == EXIT_STUCK
        assert blocking.wait() == EXIT_STUCK
        assert hanging.lines() == ["hangs"]
        assert blocking.lines() == ["blocks"]
