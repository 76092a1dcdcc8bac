"""Signs of life: what moved last, and whether the process can take work."""

from __future__ import annotations

import time

from shared.streaming.metrics import READY

TAKES_NOTHING_NEW = "it takes nothing new: Dear is being stopped"
"""What `/health/ready` says once nothing more can be accepted by a process; whoever stops everything waits for it."""


class Progress:
    """Beats whenever something moved: a batch settled, a recovery went on, an outage was waited for.

    `ready` is false while the process waits for something it needs; each reason is remembered until it is over.
    """

    def __init__(self) -> None:
        self._beaten_at = time.monotonic()
        self._waiting: dict[str, str] = {"starting": "the process is starting"}
        READY.set(0)

    def beat(self) -> None:
        """Something moved."""
        self._beaten_at = time.monotonic()

    def silent_seconds(self) -> float:
        """How long nothing moved."""
        return time.monotonic() - self._beaten_at

    def wait_for(self, what: str, why: str) -> bool:
        """Not ready, because of `what`. Is that news?"""
        news = what not in self._waiting
        self._waiting[what] = why
        READY.set(0)
        return news

    def done(self, what: str) -> bool:
        """That is over. Is that news?"""
        news = self._waiting.pop(what, None) is not None
        READY.set(0 if self._waiting else 1)
        return news

    @property
    def ready(self) -> bool:
        """Can the process take work?"""
        return not self._waiting

    @property
    def reasons(self) -> list[str]:
        """What the process waits for."""
        return list(self._waiting.values())
