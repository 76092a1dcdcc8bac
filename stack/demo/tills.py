"""The tills: introduce everyone, then send every purchase and coupon in order of time, with a bounded number under way."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from shared.contracts.topics import LOYALTY, PURCHASES
from shared.kafka_admin import BrokerAway, Sender, follow_topic, sender
from shared.operator_error import OperatorError
from stack.demo.flight import Flight, Landings
from stack.demo.history import History, Moment
from stack.demo.quiet import has_passed
from stack.http import ServiceAway, ask

PEOPLE_PER_CALL = 200
LOOK_CLOSER_SECONDS = 3.0
STUCK_SECONDS = 180.0
OFTEN_SECONDS, SELDOM_SECONDS = 0.1, 2.0


class Stuck(OperatorError):
    """Purchases go in and nothing comes out."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the replay is."""

    landed: int
    moment: Moment


def introduce(up: dict[str, Any], history: History) -> None:
    """One `identify` for everyone, through the ingest edge. Raises ServiceAway, and Stuck where one is refused."""
    for people in _chunks(history.people, PEOPLE_PER_CALL):
        answer = ask(f"{up['services']['identity']}/v1/batch", {"batch": list(people)})
        refused = [item for item in answer.get("items", ()) if item.get("status", 202) >= 300]
        if refused:
            raise Stuck(f"identity refused {len(refused)} introduction(s): {refused[0]}")


def _chunks(people: tuple[dict[str, Any], ...], size: int) -> Iterator[tuple[dict[str, Any], ...]]:
    for start in range(0, len(people), size):
        yield people[start : start + size]


class Tills:
    """Replays the moments of a history."""

    def __init__(self, up: dict[str, Any], history: History, days_per_second: float | None = None) -> None:
        self._up, self._history, self._days_per_second = up, history, days_per_second
        self.flight = Flight()
        self._done = threading.Event()

    def replay(self, on_progress: Callable[[Progress], None] = lambda progress: None) -> None:
        """Send everything and return once every purchase has landed. Raises Stuck, BrokerAway."""
        with self._listening(), sender(self._up["kafka"]) as out:
            began = time.monotonic()
            for moment in self._history.moments:
                self._keep_pace(moment, began)
                self._send(moment, out, on_progress)
            out.flush()
            self._await_landing(on_progress)

    def _send(self, moment: Moment, out: Sender, on_progress: Callable[[Progress], None]) -> None:
        if moment.is_purchase:
            self._await_room(moment, lambda: on_progress(Progress(self.flight.landed_count, moment)))
        now_ms = time.time_ns() // 1_000_000
        if moment.is_purchase:
            self.flight.took_off(moment.id, moment.at, now_ms)
        out.send(moment.topic, moment.key, moment.value, timestamp_ms=now_ms)
        on_progress(Progress(self.flight.landed_count, moment))

    def _keep_pace(self, moment: Moment, began: float) -> None:
        if self._days_per_second is not None:
            days = (moment.at - self._history.moments[0].at).total_seconds() / 86400
            time.sleep(max(0.0, began + days / self._days_per_second - time.monotonic()))

    def _await_room(self, moment: Moment, tick: Callable[[], None]) -> None:
        patience = _Patience(self.flight)
        while not self.flight.wait_for_room(moment.at, 0.1):
            tick()
            self._look_closer(patience)

    def _await_landing(self, on_progress: Callable[[Progress], None]) -> None:
        patience = _Patience(self.flight)
        while self.flight.under_way:
            on_progress(Progress(self.flight.landed_count, self._history.moments[-1]))
            self._look_closer(patience)
            time.sleep(0.05)
        # Many land at once: whoever follows the progress hears of the last of them, too.
        on_progress(Progress(self.flight.landed_count, self._history.moments[-1]))

    def _look_closer(self, patience: _Patience) -> None:
        """Where nothing lands for a while: did all of it pass without a new entry, because it was sent before?"""
        if patience.is_worn() and has_passed(self._up["kafka"]):
            self.flight.all_landed()

    @contextmanager
    def _listening(self) -> Iterator[None]:
        ready = threading.Event()
        threads = [
            threading.Thread(target=self._listen, args=(ready,), daemon=True),
            threading.Thread(target=self._count_repeats, daemon=True),
        ]
        for thread in threads:
            thread.start()
        ready.wait(30)
        try:
            yield
        finally:
            self._done.set()
            for thread in threads:
                thread.join(10)

    def _listen(self, ready: threading.Event) -> None:
        landings = Landings(self.flight, self._history.source)
        while not self._done.is_set():
            with suppress(BrokerAway):
                for entry in follow_topic(self._up["kafka"], LOYALTY, self._done.is_set, ready.set):
                    if entry.record.value is not None:
                        landings.read(entry.record.value)

    def _count_repeats(self) -> None:
        """Only purchases are: coupons that were sent before, and mails that are told of twice after a crash, land nowhere."""
        before, pause = self._repeated(), SELDOM_SECONDS
        while not self._done.wait(pause):
            now = self._repeated()
            if before is None or now is None:
                before = now if before is None else before
                continue
            repeats = now - before
            self.flight.repeats_are(repeats)
            # Where nothing repeats, asking is only a load.
            pause = OFTEN_SECONDS if repeats > 0 else SELDOM_SECONDS

    def _repeated(self) -> int | None:
        with suppress(ServiceAway):
            return int(ask(f"{self._up['services']['identity']}/v1/outcomes?topic={PURCHASES.name}", timeout_seconds=5)["repeated"])
        return None


class _Patience:
    """How long nothing has landed."""

    def __init__(self, flight: Flight) -> None:
        self._flight = flight
        self._landed, self._since = flight.landed_count, time.monotonic()
        self._looked_at = self._since

    def is_worn(self) -> bool:
        """Is it time to look closer? Raises Stuck when it has been far too long."""
        now = time.monotonic()
        if self._flight.landed_count != self._landed:
            self._landed, self._since = self._flight.landed_count, now
        if now - self._since > STUCK_SECONDS:
            raise Stuck(
                f"{self._flight.under_way} purchases are under way and none has landed for {STUCK_SECONDS:.0f} s: look at the logs."
            )
        if now - max(self._since, self._looked_at) < LOOK_CLOSER_SECONDS:
            return False
        self._looked_at = now
        return True
