"""`dear clock`: what time it is for each service, and letting time pass in a replay."""

from __future__ import annotations

import json
import re
import sys
import threading
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from stack.data_directory import DataDirectory
from stack.http import ServiceAway, ask

FOLLOW_EVERY_SECONDS = 0.5
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_duration(text: str) -> int:
    """Seconds of `24h`, `30m`, `10s`, `7d` or a plain number of seconds. Raises ValueError."""
    match = re.fullmatch(r"(\d+)([smhd]?)", text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no duration: write it as 24h, 30m, 10s or 7d")
    return int(match[1]) * _SECONDS[match[2] or "s"]


def show(data_dir: Path, as_json: bool) -> int:
    """Print each service's clock."""
    up = DataDirectory(data_dir).read_up()
    _print({name: ask(f"{url}/v1/clock") for name, url in up["services"].items()}, as_json)
    return 0


def advance(data_dir: Path, seconds: int, as_json: bool) -> int:
    """Let time pass for every service."""
    _print(advance_clocks(DataDirectory(data_dir).read_up(), seconds), as_json)
    return 0


def advance_clocks(up: dict[str, Any], seconds: int) -> dict[str, Any]:
    """Move every service's replay clock to one time, so far beyond the newest of them; service -> its clock.

    Raises ServiceAway, also where the clock is the wall's.
    """
    services: dict[str, str] = up["services"]
    until = max(_now(url) for url in services.values()) + timedelta(seconds=seconds)
    # Backwards, because the followers below only ever catch up with what is upstream.
    moved = {name: _move(url, until) for name, url in reversed(services.items())}
    return {name: moved[name] for name in services}


def _now(url: str) -> datetime:
    return datetime.fromisoformat(ask(f"{url}/v1/clock", timeout_seconds=5)["now"])


def _move(url: str, until: datetime) -> Any:
    missing = (until - _now(url)).total_seconds()
    return ask(f"{url}/v1/clock", {"advance_seconds": missing} if missing > 0 else None, timeout_seconds=5)


class Followers:
    """In a replay, time is the newest event seen, and notifications sees few: it follows the clock of campaigns, whose offers it sends."""

    LEADER, FOLLOWER = "campaigns", "notifications"

    def __init__(self, leader_url: str, follower_url: str) -> None:
        self._leader_url, self._follower_url = leader_url, follower_url
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def start(self) -> None:
        """Follow from now on."""
        self._thread.start()

    def stop(self) -> None:
        """No more."""
        self._done.set()
        if self._thread.is_alive():
            self._thread.join(10)

    def _follow(self) -> None:
        while not self._done.wait(FOLLOW_EVERY_SECONDS):
            with suppress(ServiceAway):
                _move(self._follower_url, _now(self._leader_url))


def _print(clocks: dict[str, Any], as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(clocks) + "\n")
        return
    for name, clock in clocks.items():
        sys.stdout.write(f"{name:14} {clock['now']}  ({clock['mode']})\n")
