"""Waiting until everything that was sent has had all of its effects."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from shared.contracts.topics import topics_read_by
from shared.kafka_admin import KafkaAdminError, Standing, lag_watch
from shared.operator_error import OperatorError
from stack.http import ServiceAway, ask
from stack.ports import SERVICES

LOOK_EVERY_SECONDS = 0.3
STILL_LOOKS = 4
"""What timers do (scores, memberships, sends) shows as new records within so many looks."""
NOT_IN_TOPICS = {"identity": "/v1/outcomes", "segmentation": "/v1/summary"}
"""Where that shows which leads to no record; both are cheap to ask for."""


class NotQuiet(OperatorError):
    """Something still moves, or does not move at all."""


def standing(kafka: str) -> Standing | None:
    """Each service's lag, in the order in which events pass through them, and all records; None where it cannot be told now."""
    try:
        with lag_watch(kafka, {service: topics_read_by(service) for service in SERVICES}) as watch:
            return watch.look()
    except KafkaAdminError:
        return None


def has_passed(kafka: str) -> bool:
    """Has everything that was sent before the call passed through every service?"""
    found = standing(kafka)
    return found is not None and not any(found.lags.values())


def wait_until_quiet(
    up: dict[str, Any], timeout_seconds: float, also: Callable[[], bool] = lambda: True, tick: Callable[[], None] = lambda: None
) -> float:
    """Return once lags are zero, nothing new is told and then `also` holds; the answer is the moment at which that began (monotonic).

    Raises NotQuiet after so many seconds in which nothing moved and something was still missing.
    """
    looks, since, seen = 0, time.monotonic(), _look(up)
    moved_at = since
    while looks < STILL_LOOKS or not also():
        # What `also` asks may be dear: it is asked again after as long a silence.
        looks %= STILL_LOOKS
        tick()
        time.sleep(LOOK_EVERY_SECONDS)
        now, before, seen = time.monotonic(), seen, _look(up)
        if seen != before:
            moved_at = now
        if now - moved_at > timeout_seconds:
            raise NotQuiet(f"nothing moves and it is not settled after {timeout_seconds:.0f} s: {seen}. Logs: {up['data_dir']}/logs")
        still = seen is not None and seen == before and not any(seen.standing.lags.values())
        looks = looks + 1 if still else 0
        since = since if still else now
    return since


@dataclass(frozen=True, slots=True)
class _Seen:
    standing: Standing
    totals: Any


def _look(up: dict[str, Any]) -> _Seen | None:
    found = standing(up["kafka"])
    try:
        totals = {name: ask(up["services"][name] + path) for name, path in NOT_IN_TOPICS.items()}
    except ServiceAway:
        return None
    return None if found is None else _Seen(found, _without_time(totals))


def _without_time(found: Any) -> Any:
    """Totals say as of when they are; that moves although nothing else does."""
    if isinstance(found, dict):
        return {key: _without_time(value) for key, value in found.items() if key not in ("as_of", "applied")}
    return found
