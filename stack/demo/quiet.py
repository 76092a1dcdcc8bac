"""Waiting until everything that was sent has had all of its effects."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from shared.contracts.topics import topics_read_by
from shared.kafka_admin import KafkaAdminError, lag_watch
from shared.operator_error import OperatorError
from stack.http import ServiceAway, ask
from stack.ports import SERVICES

LOOK_EVERY_SECONDS = 0.3
MOVING = {
    "identity": "/v1/outcomes",
    "segmentation": "/v1/summary",
    "campaigns": "/v1/reports/offers",
    "notifications": "/v1/summary",
}
"""Where what timers do shows, and what is cheap to ask for: the rest is done when lag is zero."""
STILL_LOOKS = 3
"""Work that a timer does (scores, memberships, sends) shows as lag or in the totals within so many looks."""


class NotQuiet(OperatorError):
    """Something still moves, or does not move at all."""


def lags(kafka: str) -> dict[str, int] | None:
    """Each service's lag, in the order in which events pass through them; None where it cannot be told now."""
    try:
        with lag_watch(kafka, {service: topics_read_by(service) for service in SERVICES}) as watch:
            return watch.lags()
    except KafkaAdminError:
        return None


def has_passed(kafka: str) -> bool:
    """Has everything that was sent before the call passed through every service?"""
    found = lags(kafka)
    return found is not None and not any(found.values())


def totals(up: dict[str, Any]) -> dict[str, Any] | None:
    """What every service has done, by its own count; None where one is away."""
    try:
        return {name: ask(up["services"][name] + path) for name, path in MOVING.items()}
    except ServiceAway:
        return None


def wait_until_quiet(
    up: dict[str, Any], timeout_seconds: float, also: Callable[[], bool] = lambda: True, tick: Callable[[], None] = lambda: None
) -> float:
    """Return once lags are zero, the totals stand still and `also` holds; the answer is the moment at which that began (monotonic)."""
    deadline = time.monotonic() + timeout_seconds
    before, looks, since = None, 0, time.monotonic()
    while looks < STILL_LOOKS:
        now = time.monotonic()
        if now > deadline:
            raise NotQuiet(f"not settled after {timeout_seconds:.0f} s: lag {lags(up['kafka'])}. Logs: {up['data_dir']}/logs")
        found = _without_time(totals(up)) if has_passed(up["kafka"]) and also() else None
        still = found is not None and found == before
        looks = looks + 1 if still else 0
        since = since if still else now
        before = found
        tick()
        time.sleep(LOOK_EVERY_SECONDS)
    return since


def _without_time(found: Any) -> Any:
    """Totals say as of when they are; that moves although nothing else does."""
    if isinstance(found, dict):
        return {key: _without_time(value) for key, value in found.items() if key not in ("as_of", "applied")}
    return found
