"""Leaving the process at once, and being allowed to act for a consumer group.

What cannot be applied, parked or trusted any more is left to the supervisor: a new process starts from what was committed.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from typing import NoReturn

log = logging.getLogger(__name__)

EXIT_STUCK = 70
"""A batch could be neither applied nor parked, or nothing moved (EX_SOFTWARE)."""
EXIT_LOST = 75
"""The group may have given our partitions to another, or the log is another one (EX_TEMPFAIL)."""


def leave(code: int, why: str) -> NoReturn:
    """End the process now, without draining: nothing that is in flight may be acknowledged."""
    log.critical("leaving the process (exit code %d): %s", code, why)
    for handler in logging.getLogger().handlers:
        handler.flush()
    sys.stderr.flush()
    os._exit(code)


def elapsed() -> float:
    """Seconds that also pass while the process is stopped or the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class Lease:
    """The group's word that this process owns its partitions; each successful heartbeat renews it for one session.

    A process that was paused for longer than the session has a successor, and must not overwrite what that one writes.
    """

    def __init__(self, session_seconds: float) -> None:
        self._session_seconds = session_seconds
        self._renewed_at: float | None = None

    def hold(self) -> None:
        """Partitions were assigned."""
        self._renewed_at = elapsed()

    def renew(self, asked_at: float) -> None:
        """A heartbeat that was sent at `asked_at` succeeded."""
        if self._renewed_at is not None:
            self._renewed_at = max(self._renewed_at, asked_at)

    def release(self) -> None:
        """No partition is held: there is nothing that a successor could own."""
        self._renewed_at = None

    def is_stale(self) -> bool:
        """Has the group been silent for longer than a session while we hold partitions?"""
        return self._renewed_at is not None and elapsed() - self._renewed_at > self._session_seconds

    def check(self) -> None:
        """Leave the process if it may have a successor."""
        if self.is_stale():
            leave(EXIT_LOST, f"no heartbeat within the session of {self._session_seconds:g} s: another worker may own our partitions")
