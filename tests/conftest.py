"""What tests stand on: a real broker and a real database on free ports, shared by the whole session."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from shared.kafka_admin import apply_topics
from stack import process
from stack.apache_kafka import ApacheKafka, missing
from stack.embedded import Broker, Database

# How long one example takes says more about the machine than about us. CI looks at the same ones each time, and outside the unit part at
# more of them (Makefile).
settings.register_profile(
    "dear",
    deadline=None,
    max_examples=int(os.environ.get("DEAR_TEST_EXAMPLES", "25")),
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=bool(os.environ.get("CI")),
)
settings.load_profile("dear")

TEST_BROKER = os.environ.get("DEAR_TEST_BROKER", "tansu")


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap servers of a broker that has the topics of the map: the embedded one, or Apache Kafka when DEAR_TEST_BROKER=kafka."""
    data_dir = tmp_path_factory.mktemp("broker")
    running = _apache_kafka(data_dir) if TEST_BROKER == "kafka" else Broker(data_dir, process.free_port())
    running.start()
    try:
        apply_topics(running.bootstrap_servers)
        yield running.bootstrap_servers
    finally:
        running.stop()


def _apache_kafka(data_dir: Path) -> ApacheKafka:
    lacking = missing()
    if lacking and os.environ.get("CI"):
        pytest.fail(f"DEAR_TEST_BROKER=kafka, and Apache Kafka cannot run here: {' '.join(lacking)}")
    if lacking:
        pytest.skip(f"Apache Kafka cannot run here: {' '.join(lacking)}")
    return ApacheKafka(data_dir, process.free_port())


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URI of the embedded database."""
    running = Database(tmp_path_factory.mktemp("database"), process.free_port())
    running.start()
    try:
        yield running.uri
    finally:
        running.stop()


@pytest.fixture
def free_port() -> int:
    """A loopback port that nothing listens on now."""
    return process.free_port()
