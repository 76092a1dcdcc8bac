"""`dear up`: the whole system in the foreground."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from shared.clock import ClockMode
from stack.ports import ports_from
from stack.supervisor import Options, Supervisor


def options(data_dir: Path, port_base: int | None, clock: ClockMode | None) -> Options:
    """The options of the command line, with the user's own broker and database where the environment names them."""
    return Options(
        data_dir,
        ports_from(port_base),
        clock,
        kafka=os.environ.get("KAFKA_BOOTSTRAP_SERVERS") or None,
        mongodb=os.environ.get("MONGODB_URI") or None,
    )


def run_up(data_dir: Path, port_base: int | None, clock: ClockMode | None) -> None:
    """Start everything, say where it answers, keep it alive until SIGTERM or Ctrl-C, then drain and stop it."""
    supervisor = Supervisor(options(data_dir, port_base, clock), say)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: _asked_to_leave(supervisor))
    say(f"starting in {supervisor.directory.path} ...")
    up = supervisor.start()
    sys.stdout.write(json.dumps(up, indent=2) + "\n")
    sys.stdout.flush()
    say(f"ready after {up['ready_seconds']} s; Ctrl-C drains and stops everything.")
    try:
        supervisor.run()
    finally:
        say("draining and stopping ...")
        supervisor.stop()
        say("stopped.")


def _asked_to_leave(supervisor: Supervisor) -> None:
    # While it starts there is nothing to drain: leaving through the exception stops what was started.
    if not supervisor.is_up:
        raise KeyboardInterrupt
    supervisor.leave()


def say(words: str) -> None:
    """To the operator; standard output is for the answer."""
    sys.stderr.write(f"dear: {words}\n")
    sys.stderr.flush()
