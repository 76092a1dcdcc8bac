"""The whole system on this machine: starts its parts in order, keeps them alive, and stops them in order."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared.access.keys import service_key
from shared.clock import ClockMode
from shared.operator_error import OperatorError
from shared.streaming.progress import TAKES_NOTHING_NEW
from stack.clocks import Followers
from stack.data_directory import OPERATOR, DataDirectory
from stack.embedded import Broker, Database, MailSink
from stack.http import introduce
from stack.memory import MEGABYTE, memory_bytes
from stack.ports import SERVICES, Ports
from stack.process import Child, ProcessFailed, is_listening

QUICK_DEATH_SECONDS = 20.0
QUICK_DEATHS_MAX = 6
BACKOFF_SECONDS = (0.1, 0.5, 1.0, 2.0, 5.0)
READY_TIMEOUT_SECONDS = 120.0
CLOSE_SECONDS = 10.0
DRAIN_SECONDS = 20.0
SERVICE_STOP_SECONDS = 20.0
LOG_BYTES_MAX = 20 * MEGABYTE
BROKER_WARNING_BYTES = 2048 * MEGABYTE
BROKER_WARNING_STEP_BYTES = 512 * MEGABYTE
MEMORY_CHECK_SECONDS = 10.0

Say = Callable[[str], None]


class PortTaken(OperatorError):
    """A port that a part needs is in use; the message says which, and what to do."""


@dataclass(frozen=True, slots=True)
class Options:
    """What `dear up` is told. `kafka` and `mongodb` name the user's own instead of the embedded ones."""

    data_dir: Path
    ports: Ports = field(default_factory=Ports)
    clock: ClockMode | None = None
    kafka: str | None = None
    mongodb: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    """More environment variables for the services."""


class Life:
    """How a child has died so far, and so how soon it may live again."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self.started_at = 0.0
        self.quick_deaths = 0
        self.again_at: float | None = None
        self.restarts = 0

    def start(self) -> None:
        """Start the child now."""
        self.again_at = None
        self.started_at = time.monotonic()
        self.child.start()

    def died(self, now: float) -> float:
        """Note a death; the seconds to wait before the next start."""
        self.child.reap()
        self.quick_deaths = self.quick_deaths + 1 if now - self.started_at < QUICK_DEATH_SECONDS else 0
        self.restarts += 1
        wait = BACKOFF_SECONDS[min(self.quick_deaths, len(BACKOFF_SECONDS) - 1)]
        self.again_at = now + wait
        return wait


class Supervisor:
    """Broker, database, mail sink and the services, as child processes of this one."""

    def __init__(self, options: Options, say: Say) -> None:
        self.options = options
        self.ports = options.ports
        self.directory = DataDirectory(options.data_dir)
        self._say = say
        self._leave = threading.Event()
        self._paused = threading.Lock()
        self._ready_seconds = 0.0
        self._pepper = ""
        self._master_key = ""
        self._next_memory_check = 0.0
        self._warn_at_bytes = BROKER_WARNING_BYTES
        self.broker: Broker | None = None
        self.database: Database | None = None
        self.mail: MailSink | None = None
        self.services: dict[str, Life] = {}
        self._followers = Followers(self.ports.url(Followers.LEADER), self.ports.url(Followers.FOLLOWER))

    @property
    def kafka(self) -> str:
        """The bootstrap servers, embedded or the user's."""
        return self.options.kafka or f"127.0.0.1:{self.ports.broker}"

    @property
    def mongodb(self) -> str:
        """The database's URI, embedded or the user's."""
        return self.options.mongodb or f"mongodb://127.0.0.1:{self.ports.database}"

    @property
    def is_up(self) -> bool:
        """Has everything been ready once?"""
        return self._ready_seconds > 0

    def start(self) -> dict[str, Any]:
        """Start everything and return where it answers, as written to `up.json`. Raises DataDirectoryError, PortTaken, ProcessFailed."""
        began = time.monotonic()
        self.directory.claim()
        try:
            self.directory.forget_up()
            clock = self.directory.fix_clock(self.options.clock)
            self._pepper = os.environ.get("DEAR_KEY_PEPPER") or self.directory.make_pepper()
            self._master_key = os.environ.get("DEAR_MASTER_KEY") or self.directory.make_master_key()
            introduce([self.ports.url(name) for name in SERVICES], service_key(self._pepper.strip().encode(), OPERATOR))
            self._check_ports()
            self._start_embedded()
            self._start_services(clock)
            if clock == "replay":
                self._followers.start()
            self._ready_seconds = max(0.1, round(time.monotonic() - began, 1))
            return self._write_up()
        except BaseException:
            self._stop_all(drain=False)
            raise

    def run(self) -> None:
        """Keep everything alive until `leave` is called. Raises ProcessFailed when a part does not stay alive."""
        while not self._leave.wait(0.2):
            self.watch()

    def leave(self) -> None:
        """Make `run` return; safe in a signal handler."""
        self._leave.set()

    def stop(self) -> None:
        """Drain and stop everything: services first, then mail, broker and database."""
        self._leave.set()
        with self._paused:
            self._stop_all(drain=True)

    def watch(self) -> None:
        """Look once at every part and bring back what died."""
        with self._paused:
            if self._leave.is_set():
                return
            if self.broker is not None and self.broker.pid is None:
                self._broker_died()
            if self.database is not None and self.database.pid is None:
                self._embedded_died("database", self.database)
            if self.mail is not None and self.mail.pid is None:
                self._embedded_died("mail sink", self.mail)
            for name, life in self.services.items():
                self._watch_service(name, life)
            self._watch_memory()

    def _check_ports(self) -> None:
        names = ["smtp", "mail", *SERVICES, *([] if self.options.kafka else ["broker"]), *([] if self.options.mongodb else ["database"])]
        if taken := self.ports.taken(names, is_listening):
            raise PortTaken(
                f"in use on 127.0.0.1: {', '.join(taken)}. Stop what uses it, or choose other ports with --port-base N (N to N+8)."
            )

    def _start_embedded(self) -> None:
        path = self.directory.path
        if self.options.kafka is None:
            self.broker = Broker(path, self.ports.broker)
        if self.options.mongodb is None:
            self.database = Database(path, self.ports.database)
        self.mail = MailSink(path, self.ports.smtp, self.ports.mail)
        parts = [part for part in (self.broker, self.database, self.mail) if part is not None]
        for part in parts:
            _trim(part.child.log)
            part.launch()
        for part in parts:
            part.wait_ready()
        self._apply_topics()

    def _apply_topics(self) -> None:
        from shared.kafka_admin import apply_topics, check_topics, wait_for_broker

        wait_for_broker(self.kafka)
        check_topics(apply_topics(self.kafka))

    def _start_services(self, clock: ClockMode) -> None:
        for name in SERVICES:
            environment = {**self._environment(clock), "DEAR_PORT": str(self.ports.of(name)), **self.options.environment}
            child = Child(name, [sys.executable, "-m", "stack.cli", name, "all"], self.directory.logs / f"{name}.log", environment)
            _trim(child.log)
            self.services[name] = Life(child)
            self.services[name].start()
        for name, life in self.services.items():
            life.child.wait_until(lambda name=name: is_ready(self.ports.url(name)), READY_TIMEOUT_SECONDS)  # type: ignore[misc]

    def _environment(self, clock: ClockMode) -> dict[str, str]:
        return {
            "PYTHONUNBUFFERED": "1",
            "KAFKA_BOOTSTRAP_SERVERS": self.kafka,
            "MONGODB_URI": self.mongodb,
            "DEAR_HOST": "127.0.0.1",
            "DEAR_DATA_DIR": str(self.directory.path),
            "DEAR_CLOCK": clock,
            "DEAR_KEY_PEPPER": self._pepper,
            "DEAR_MASTER_KEY": self._master_key,
            "DEAR_IDENTITY_URL": self.ports.url("identity"),
            "DEAR_PUBLIC_URL": self.ports.url("notifications"),
            "DEAR_SMTP_HOST": "127.0.0.1",
            "DEAR_SMTP_PORT": str(self.ports.smtp),
        }

    def _write_up(self) -> dict[str, Any]:
        up = {
            "services": {name: self.ports.url(name) for name in SERVICES},
            "kafka": self.kafka,
            "mongodb": self.mongodb,
            "mail": f"http://127.0.0.1:{self.ports.mail}",
            "smtp": f"127.0.0.1:{self.ports.smtp}",
            "ready_seconds": self._ready_seconds,
            "data_dir": str(self.directory.path),
            "clock": self.directory.fix_clock(None),
            "supervisor_pid": os.getpid(),
            "pids": dict(self._pids()),
        }
        self.directory.write_up(up)
        return up

    def _pids(self) -> Iterator[tuple[str, int]]:
        children = [part.child for part in (self.broker, self.database, self.mail) if part is not None]
        for child in [*children, *(life.child for life in self.services.values())]:
            if child.pid is not None:
                yield child.name, child.pid

    def _watch_service(self, name: str, life: Life) -> None:
        if life.child.pid is not None:
            return
        now = time.monotonic()
        if life.again_at is None:
            wait = life.died(now)
            self._say(f"{name} left ({_how(life.child)}); starting it again in {wait} s. Log: {life.child.log}")
            self._give_up_on(name, life)
        elif now >= life.again_at:
            life.start()
            self._write_up()

    def _give_up_on(self, name: str, life: Life) -> None:
        if life.quick_deaths >= QUICK_DEATHS_MAX:
            raise ProcessFailed(
                f"{name} left {life.quick_deaths} times in a row within {QUICK_DEATH_SECONDS:.0f} s of its start; it said: "
                f"{life.child.last_words()}\nLog: {life.child.log}"
            )

    def _broker_died(self) -> None:
        """Its log is gone and no client is told: make the topics again and restart every worker, which then sees new topic ids."""
        assert self.broker is not None
        self._say(
            f"the embedded broker left ({_how(self.broker.child)}) and its log with it: starting it again, and every worker. "
            "Events that were accepted but not yet in the timeline are lost; their senders may send them again."
        )
        for life in self.services.values():
            life.child.kill()
        self.broker.start()
        self._apply_topics()
        for life in self.services.values():
            life.start()
        self._write_up()

    def _embedded_died(self, what: str, part: Database | MailSink) -> None:
        self._say(f"the embedded {what} left ({_how(part.child)}); starting it again. Log: {part.child.log}")
        part.start()
        self._write_up()

    def _watch_memory(self) -> None:
        if self.broker is None or time.monotonic() < self._next_memory_check:
            return
        self._next_memory_check = time.monotonic() + MEMORY_CHECK_SECONDS
        held = memory_bytes(self.broker.pid or 0)
        if held >= self._warn_at_bytes:
            self._warn_at_bytes = held + BROKER_WARNING_STEP_BYTES
            self._say(
                f"the embedded broker holds {held / MEGABYTE:,.0f} MB: it keeps every record in memory. "
                "Stop and start `dear up` (what was accepted is in the timeline; dead letters go, so look at them first), "
                "or set KAFKA_BOOTSTRAP_SERVERS to use Apache Kafka."
            )

    def _stop_all(self, drain: bool) -> None:
        """Nothing new, everything accepted into the timeline, then the services, and only then the log that ends with its broker."""
        drain = drain and self._has_services()
        if drain:
            self._close_to_requests()
            self._drain()
        self._followers.stop()
        for life in self.services.values():
            life.child.terminate()
        deadline = time.monotonic() + SERVICE_STOP_SECONDS
        for name, life in self.services.items():
            if not life.child.stop(max(0.1, deadline - time.monotonic())) and drain:
                self._say(f"{name} did not leave within {SERVICE_STOP_SECONDS:.0f} s and was ended. Log: {life.child.log}")
        if drain:
            self._say_what_is_left()
        for part in (self.mail, self.broker, self.database):
            if part is not None:
                part.stop()
        self.directory.release()

    def _has_services(self) -> bool:
        return any(life.child.pid is not None for life in self.services.values())

    def _close_to_requests(self) -> None:
        """Let no request bring anything new: what is accepted while we wait for the rest would go with the embedded broker's log."""
        deadline = time.monotonic() + CLOSE_SECONDS
        while (
            open_to := [life.child for name, life in self.services.items() if self._may_accept(name, life)]
        ) and time.monotonic() < deadline:
            for child in open_to:
                child.signal(signal.SIGUSR1)
            time.sleep(0.1)

    def _may_accept(self, name: str, life: Life) -> bool:
        # One that does not listen yet would not survive the signal, and accepts nothing.
        return life.child.pid is not None and is_listening(self.ports.of(name)) and not takes_nothing_new(self.ports.url(name))

    def _drain(self) -> None:
        """The embedded broker's log ends with it: let identity take what was accepted into the timeline first."""
        if self.broker is None:
            return
        identity, deadline = self.services["identity"].child, time.monotonic() + DRAIN_SECONDS
        while self.broker.pid and identity.pid and self._accepted_but_not_kept() != 0 and time.monotonic() < deadline:
            time.sleep(0.25)

    def _say_what_is_left(self) -> None:
        """Tills that write to the broker themselves cannot be told to wait: what they sent last may be in the log and nowhere else."""
        if self.broker is None:
            return
        left = self._accepted_but_not_kept()
        if left is None:
            self._say("the broker does not say how many accepted events are not in the timeline; those that are not go with its log.")
        elif left:
            self._say(
                f"up to {left} accepted events were not yet in the timeline and go with the embedded broker's log; "
                "their senders may send them again."
            )

    def _accepted_but_not_kept(self) -> int | None:
        """How many, or None where it cannot be told now."""
        from shared.contracts.topics import topics_read_by
        from shared.kafka_admin import KafkaAdminError, group_lag

        with suppress(KafkaAdminError):
            return group_lag(self.kafka, "identity", topics_read_by("identity"))
        return None


def takes_nothing_new(url: str) -> bool:
    """Does the service there say that no request can bring anything new?"""
    try:
        with urllib.request.urlopen(f"{url}/health/ready", timeout=2):  # noqa: S310 - our own address
            return False
    except urllib.error.HTTPError as answer:
        return TAKES_NOTHING_NEW.encode() in answer.read()
    except OSError:
        return False


def is_ready(url: str) -> bool:
    """Does the service there say that it can accept?"""
    with suppress(OSError, urllib.error.URLError), urllib.request.urlopen(f"{url}/health/ready", timeout=2) as answer:  # noqa: S310 - our own address
        return bool(answer.status == 200)
    return False


def _how(child: Child) -> str:
    code = child.exit_code
    return "unknown" if code is None else f"signal {-code}" if code < 0 else f"exit code {code}"


def _trim(log: Path) -> None:
    """A log that has grown large becomes the previous one."""
    with suppress(FileNotFoundError):
        if log.stat().st_size > LOG_BYTES_MAX:
            log.replace(log.with_suffix(".log.1"))
