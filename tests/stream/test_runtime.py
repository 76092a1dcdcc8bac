"""One process of a service from start to end: what it says, when it is ready, how it leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from shared.contracts.topics import PURCHASES, TOPICS
from shared.kafka_admin import apply_topics
from shared.streaming.leaving import EXIT_LOST
from stack.embedded import Broker, Database
from stack.process import free_port
from tests.stream.harness import ROOT, committed, wait_until


class Toy:
    """The toy service in a process, with a broker and a database of its own that may come later and go."""

    def __init__(self, folder: Path, role: str = "all") -> None:
        self.broker, self.database = Broker(folder, free_port()), Database(folder, free_port())
        self.diary, self.log, self.port, self.role = folder / "diary", folder / "log", free_port(), role
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {
            "KAFKA_BOOTSTRAP_SERVERS": self.broker.bootstrap_servers,
            "MONGODB_URI": self.database.uri,
            "DEAR_PORT": str(self.port),
            "DEAR_CLOCK": "replay",
            "TOY_DIARY": str(self.diary),
        }

    def start(self, **environment: str) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.stream.toy", self.role],
                cwd=ROOT,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment, **environment},
            )
        return self.process

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.broker.stop()
        self.database.stop()

    def said(self) -> list[str]:
        return self.log.read_text().splitlines()

    def notes(self) -> list[str]:
        return self.diary.read_text().splitlines() if self.diary.exists() else []

    def answers(self, path: str, status: int) -> bool:
        try:
            return httpx.get(self.url + path).status_code == status
        except httpx.HTTPError:
            return False


@pytest.fixture
def toy(tmp_path: Path) -> Iterator[Toy]:
    toy = Toy(tmp_path)
    yield toy
    toy.stop()


def test_invalid_settings_end_the_process_with_one_line_that_names_them(toy: Toy) -> None:
    assert toy.start(DEAR_PORT="http", DEAR_CLOCK="sundial").wait(30) == 78
    (line,) = toy.said()
    assert line.startswith("dear toy: invalid settings: ")
    assert "DEAR_PORT: " in line
    assert "DEAR_CLOCK: " in line


def test_missing_topics_end_the_process_with_what_to_do(toy: Toy) -> None:
    toy.broker.start()
    assert toy.start().wait(30) == 1
    assert toy.said()[-1].endswith("run: dear topics apply")


def test_a_port_that_is_taken_ends_the_process(toy: Toy) -> None:
    toy.broker.start()
    assert toy.start(DEAR_PORT=str(toy.broker.port)).wait(30) == 1
    assert f"cannot listen on 127.0.0.1:{toy.broker.port}" in toy.said()[-1]


def test_the_life_of_a_process(toy: Toy) -> None:
    """One start for many facts: each costs seconds."""
    toy.start()
    wait_until(lambda: toy.answers("/health/ready", 503))
    assert toy.answers("/health/live", 200), "waiting for a broker is not death"
    refused = httpx.post(f"{toy.url}/v1/purchases/early", content=b"{}")
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    toy.broker.start()
    apply_topics(toy.broker.bootstrap_servers)
    toy.database.start()
    wait_until(lambda: toy.answers("/health/ready", 200))

    assert httpx.post(f"{toy.url}/v1/purchases/one", content=b"{}").status_code == 200
    wait_until(lambda: "handled one" in toy.notes())
    wait_until(lambda: "tick" in toy.notes())
    _check_http(toy)
    _check_clock(toy)
    assert httpx.get(f"{toy.url}/v1/audit").json()["entries"] == []

    os.kill(toy.process.pid, signal.SIGTERM)
    assert toy.process.wait(30) == 0, toy.said()
    assert toy.notes()[0] == f"start {len(TOPICS)}"
    assert toy.notes()[-1] == "stop"
    assert sum(committed(toy.broker.bootstrap_servers, "toy", PURCHASES).values()) == 1

    toy.start()
    wait_until(lambda: toy.answers("/health/ready", 200))
    assert httpx.get(f"{toy.url}/v1/clock").json()["now"] == "1970-01-01T01:00:00+00:00", "the clock is kept in the database"
    [read] = httpx.get(f"{toy.url}/v1/audit").json()["entries"]
    assert (read["who"], read["route"]) == ("open", "/v1/audit"), "what waits for the audit log is written on the way out"
    _check_lost_broker(toy)


def _check_http(toy: Toy) -> None:
    too_large = httpx.post(f"{toy.url}/v1/purchases/big", content=b" " * 1_000_001)
    chunked = httpx.post(f"{toy.url}/v1/purchases/big", content=(b" " * 50_000 for _ in range(21)))
    lost = httpx.get(f"{toy.url}/v1/nowhere")
    broken = httpx.get(f"{toy.url}/v1/broken")
    answers = (too_large, chunked, lost, broken)
    assert [answer.status_code for answer in answers] == [413, 413, 404, 500]
    assert {answer.headers["content-type"] for answer in answers} == {"application/problem+json"}
    assert not any("telephone number" in line for line in toy.said()), "a failure's message may quote a customer"
    assert any("ZeroDivisionError at app.py" in line for line in toy.said())
    metrics = httpx.get(f"{toy.url}/metrics").text
    assert 'dear_http_requests_total{method="POST",route="/v1/purchases/{key}",status="200"} 1.0' in metrics
    assert 'dear_stream_events_total{topic="purchases-v1"} 1.0' in metrics
    assert "dear_ready 1.0" in metrics


def _check_clock(toy: Toy) -> None:
    assert httpx.post(f"{toy.url}/v1/clock", json={"advance_seconds": -1}).status_code == 422
    answer = httpx.post(f"{toy.url}/v1/clock", json={"advance_seconds": 3600})
    assert answer.json() == {"mode": "replay", "now": "1970-01-01T01:00:00+00:00"}


def _check_lost_broker(toy: Toy) -> None:
    """The embedded broker forgets everything when it dies: other topic ids, and a worker that must not go on with its positions."""
    toy.broker.kill()
    wait_until(lambda: toy.answers("/health/ready", 503))
    assert httpx.post(f"{toy.url}/v1/purchases/lost", content=b"{}", timeout=30).status_code == 503
    assert toy.process.poll() is None, "an outage is waited for"
    toy.broker.start()
    apply_topics(toy.broker.bootstrap_servers)
    assert toy.process.wait(40) == EXIT_LOST, toy.said()
    assert "was recreated" in toy.said()[-1]


def test_a_live_clock_does_not_move(tmp_path: Path, broker: str, database: str) -> None:
    toy = Toy(tmp_path, "api")
    toy.start(KAFKA_BOOTSTRAP_SERVERS=broker, MONGODB_URI=database, DEAR_CLOCK="live")
    try:
        wait_until(lambda: toy.answers("/health/ready", 200))
        assert httpx.post(f"{toy.url}/v1/clock", json={"advance_seconds": 1}).status_code == 409
        assert toy.notes() == [f"start {len(TOPICS)}"], "the api role starts its service, and runs neither timers nor the stream"
    finally:
        toy.process.send_signal(signal.SIGTERM)
        assert toy.process.wait(20) == 0
        toy.stop()


def test_an_answer_that_would_go_on_for_ever_is_ended_when_the_process_leaves(tmp_path: Path, broker: str, database: str) -> None:
    toy = Toy(tmp_path, "api")
    toy.start(KAFKA_BOOTSTRAP_SERVERS=broker, MONGODB_URI=database)
    try:
        wait_until(lambda: toy.answers("/health/ready", 200))
        with httpx.stream("GET", f"{toy.url}/v1/endless", timeout=30) as answer:
            words = answer.iter_text()
            assert next(words) == "begun "
            toy.process.send_signal(signal.SIGTERM)
            # Were it broken off instead, this would be a protocol error.
            assert "".join(words) == "ended"
        assert toy.process.wait(20) == 0
    finally:
        toy.stop()


def test_a_worker_answers_health_and_metrics_and_nothing_else(tmp_path: Path, broker: str, database: str) -> None:
    toy = Toy(tmp_path, "worker")
    toy.start(KAFKA_BOOTSTRAP_SERVERS=broker, MONGODB_URI=database)
    try:
        wait_until(lambda: toy.answers("/health/ready", 200))
        assert toy.answers("/metrics", 200)
        assert httpx.post(f"{toy.url}/v1/purchases/one", content=b"{}").status_code == 404
    finally:
        toy.stop()
