"""`dear demo`: start everything, replay a shop's history, wait until all is settled, report, check, leave."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from shared.operator_error import OperatorError
from stack.clocks import advance_clocks
from stack.demo.history import History, cdnow, complete_journey
from stack.demo.progress import shown_progress
from stack.demo.quiet import wait_until_quiet
from stack.demo.report import Replayed, collect, differences, is_decided, is_known
from stack.demo.tables import print_report
from stack.demo.tills import Progress, Tills, introduce
from stack.http import ServiceAway
from stack.ports import SERVICES
from stack.process import end
from stack.supervisor import Supervisor
from stack.up import options, say

SETTLE_SECONDS = 300.0
DAY_HOURS, STEP_HOURS = 24, 8
"""In steps, because it has to be day at some step in every time zone."""
OPEN_INGEST = {"DEAR_INGEST_WRITE_KEYS": ""}
"""The demo's introductions come without a key; everything listens on loopback only."""
ENVIRONMENTS = {"complete-journey": OPEN_INGEST, "cdnow": {**OPEN_INGEST, "DEAR_SCORING_MODEL": "music"}}
HISTORIES: dict[str, Callable[[int | None], History]] = {"complete-journey": complete_journey, "cdnow": cdnow}


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What `dear demo` is told."""

    data_dir: Path
    data: str = "complete-journey"
    port_base: int | None = None
    stay: bool = False
    days_per_second: float | None = None
    limit: int | None = None
    kill_workers: bool = False


class OtherData(OperatorError):
    """The data directory holds the history of another shop."""


class Interrupted(OperatorError):
    """Somebody pressed Ctrl-C."""

    exit_code = 130


def run_demo(demo: DemoOptions) -> int:
    """Run the demo; 1 where a total is not what it must be."""
    supervisor = Supervisor(replace(options(demo.data_dir, demo.port_base, "replay"), environment=ENVIRONMENTS[demo.data]), say)
    with ThreadPoolExecutor(1) as reading:
        history_read = reading.submit(HISTORIES[demo.data], demo.limit)
        say(f"starting broker, database, mail and the four services in {supervisor.directory.path} ...")
        with supervised(supervisor, demo.data) as guard:
            say(f"ready after {guard.up['ready_seconds']} s.")
            history = history_read.result()
            replayed = replay(guard, history, demo)
            report = collect(guard.up, replayed)
            guard.check()
            path = supervisor.directory.path / "report.json"
            path.write_text(json.dumps(report.json, indent=2) + "\n")
            wrong = differences(report.json, asdict(history.expected()))
            print_report(report, history.source, wrong, path)
            if demo.stay:
                say("everything stays up; Ctrl-C drains and stops it.")
                guard.stay()
    return int(bool(wrong))


class Guard:
    """What the demo knows of the stack that it runs on: where it answers, and that it still lives."""

    def __init__(self, supervisor: Supervisor, up: dict[str, Any], watching: Future[None]) -> None:
        self.supervisor, self.up = supervisor, up
        self._watching = watching
        self.asked_to_leave = threading.Event()

    def check(self) -> None:
        """Raises what ended the watch over the parts, whatever it was, or Interrupted."""
        if self._watching.done():
            self._watching.result()
        if self.asked_to_leave.is_set():
            raise Interrupted("interrupted; what was replayed stays in the data directory, run it again to go on.")

    def stay(self) -> None:
        """Return when somebody wants to leave. Raises what ended the watch over the parts."""
        while not self.asked_to_leave.wait(0.5):
            if self._watching.done():
                self._watching.result()


@contextmanager
def supervised(supervisor: Supervisor, data: str) -> Iterator[Guard]:
    """The whole system, up and watched; drained and stopped afterwards."""
    up = supervisor.start()
    watcher = ThreadPoolExecutor(1, "watch")
    try:
        _keep_to(supervisor.directory.path, data)
        guard = Guard(supervisor, up, watcher.submit(supervisor.run))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: guard.asked_to_leave.set())
        yield guard
    finally:
        say("draining and stopping ...")
        supervisor.stop()
        watcher.shutdown()


def _keep_to(data_dir: Path, data: str) -> None:
    """One shop's history per data directory: the totals of two would be neither's."""
    note = data_dir / "demo.json"
    if note.exists() and (begun := json.loads(note.read_text())["data"]) != data:
        raise OtherData(f"{data_dir} holds the demo of {begun}: choose another --data-dir for {data}.")
    note.write_text(json.dumps({"data": data}) + "\n")


def replay(guard: Guard, history: History, demo: DemoOptions) -> Replayed:
    """Introduce everyone, replay every moment, let everything settle, let a night pass, and let it settle again."""
    up = guard.up
    wait_until_quiet(up, SETTLE_SECONDS, tick=guard.check)
    began = time.monotonic()
    if history.people:
        introduce(up, history)
        wait_until_quiet(up, SETTLE_SECONDS, also=lambda: is_known(up, len(history.people)), tick=guard.check)
        say(f"{len(history.people)} customers introduced in {time.monotonic() - began:.1f} s.")
    tills = Tills(up, history, demo.days_per_second)
    killer = Killer(guard.supervisor, len(history.moments)) if demo.kill_workers else None
    with shown_progress(history) as show:

        def on_progress(progress: Progress) -> None:
            guard.check()
            show(progress)
            if killer is not None:
                killer.look(progress.landed)

        tills.replay(on_progress)
    settled = wait_until_quiet(up, SETTLE_SECONDS, tick=guard.check)
    say("a day passes, so that what was put off until morning is decided ...")
    pass_a_day(up, SETTLE_SECONDS, tick=guard.check)
    return Replayed(len(history.people) + len(history.moments), settled - began, tills.flight.latencies_ms)


def pass_a_day(up: dict[str, Any], timeout_seconds: float, tick: Callable[[], None] = lambda: None) -> None:
    """Return when a day has passed and every offer is decided: one that was made in its last night waits for the next morning."""
    steps = DAY_HOURS // STEP_HOURS
    for step in range(2 * steps - 1):
        if step >= steps and is_decided(up):
            break
        _advance(up, STEP_HOURS)
        wait_until_quiet(up, timeout_seconds, tick=tick)
    wait_until_quiet(up, timeout_seconds, also=lambda: is_decided(up), tick=tick)


def _advance(up: dict[str, Any], hours: int) -> None:
    """Some hours pass everywhere. A service that was just killed is back in a moment."""
    for attempts_left in reversed(range(5)):
        try:
            advance_clocks(up, hours * 3600)
        except ServiceAway:
            if not attempts_left:
                raise
            time.sleep(2)
        else:
            return


class Killer:
    """Kills each service once, without warning, at a fifth, two fifths, ... of the way."""

    def __init__(self, supervisor: Supervisor, moment_count: int) -> None:
        self._supervisor = supervisor
        share = 1 / (len(SERVICES) + 1)
        self._plan = [(int(moment_count * share * (i + 1)), name) for i, name in enumerate(SERVICES)]

    def look(self, landed: int) -> None:
        """Kill who is due."""
        while self._plan and landed >= self._plan[0][0]:
            name = self._plan[0][1]
            pid = self._supervisor.services[name].child.pid
            if pid is None:
                # Away by itself: killed once it is back.
                return
            del self._plan[0]
            end(pid, signal.SIGKILL)
            say(f"killed {name} (process {pid}).")
