"""The whole system as child processes, on free ports, with the replay clock."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.clock import ClockMode
from stack.apache_kafka import ApacheKafka
from stack.demo.run import OPEN_INGEST
from stack.ports import SERVICES, ports_from
from stack.process import free_port, free_port_base
from stack.supervisor import Options, Supervisor
from tests.conftest import TEST_BROKER

RESCORE_SECONDS = 3


class System:
    """A whole system that a test may start, stop, and start again in the same data directory."""

    def __init__(self, data_dir: Path, clock: ClockMode = "replay", **environment: str) -> None:
        self.data_dir, self._clock, self._environment = data_dir, clock, {**OPEN_INGEST, **environment}
        self.said: list[str] = []
        self._kafka = ApacheKafka(data_dir / "kafka", free_port()) if TEST_BROKER == "kafka" else None
        self.supervisor: Supervisor | None = None
        self._watching: threading.Thread | None = None

    def start(self) -> dict[str, Any]:
        """Start everything; where it answers."""
        if self._kafka is not None:
            self._kafka.start()
        kafka = self._kafka.bootstrap_servers if self._kafka else None
        options = Options(self.data_dir, ports_from(free_port_base()), self._clock, kafka=kafka, environment=self._environment)
        self.supervisor = Supervisor(options, self.said.append)
        up = self.supervisor.start()
        self._watching = threading.Thread(target=self.supervisor.run, daemon=True)
        self._watching.start()
        return up

    def stop(self) -> None:
        """Drain and stop everything."""
        if self.supervisor is not None:
            self.supervisor.stop()
            if self._watching is not None:
                self._watching.join(30)
            self.supervisor = None

    def end(self) -> None:
        """Stop everything, the broker of a test on Apache Kafka too."""
        self.stop()
        if self._kafka is not None:
            self._kafka.stop()

    def pids(self) -> dict[str, int]:
        """The process of each service that lives."""
        return {name: life.child.pid for name, life in self.supervisor.services.items() if life.child.pid is not None}

    def last_words(self) -> str:
        """The end of every service's log, for a failure's message."""
        logs = [self.data_dir / "logs" / f"{name}.log" for name in SERVICES]
        return "\n".join(f"== {log}\n{log.read_text()[-1500:]}" for log in logs if log.exists())


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One system for a module's tests, which build on each other."""
    yield from running(System(tmp_path_factory.mktemp("system")))


@pytest.fixture(scope="module")
def live_system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """The same by the wall's clock, and everyone is re-scored often."""
    yield from running(System(tmp_path_factory.mktemp("system"), "live", DEAR_RESCORE_SECONDS=str(RESCORE_SECONDS)))


def running(system: System) -> Iterator[System]:
    """A system that is ended with its test, on a broker and a database of its own."""
    for name in ("KAFKA_BOOTSTRAP_SERVERS", "MONGODB_URI"):
        os.environ.pop(name, None)
    try:
        yield system
    finally:
        system.end()
