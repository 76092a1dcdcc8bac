"""What stack.apache_kafka says when a machine cannot run Apache Kafka, tried with stand-ins for java and mvn."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stack import apache_kafka, kafka_jars
from stack.apache_kafka import ApacheKafka, answers, server_settings
from stack.kafka_jars import KafkaNotAvailable, fetch_jars, java_command, missing

JAVA_17 = 'if [ "$1" = -version ]; then echo \'openjdk version "17.0.15" 2025-04-15\' >&2; fi'
Install = Callable[[str, str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts a shell script on a PATH that otherwise has only the shell's own tools."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.delenv("JAVA_HOME", raising=False)

    def put(name: str, script: str) -> None:
        (programs / name).write_text(f"#!/bin/sh\nexport PATH=/usr/bin:/bin\n{script}\n")
        (programs / name).chmod(0o755)

    return put


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.usefixtures("install")
def test_a_bare_machine_is_told_everything_that_is_missing() -> None:
    java, maven = missing()
    assert java.startswith("Java 17 not found")
    assert "install a JDK 17" in java
    assert maven.startswith("Maven not found")


def test_a_machine_with_both_misses_nothing(install: Install) -> None:
    install("java", JAVA_17)
    install("mvn", "")
    assert missing() == []


def test_an_old_java_is_named(install: Install) -> None:
    install("java", "echo 'openjdk version \"11.0.2\" 2019-01-15' >&2")
    with pytest.raises(KafkaNotAvailable, match="is Java 11; install a JDK 17"):
        java_command()


def test_a_java_home_without_java_is_named(install: Install, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install("java", JAVA_17)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "nowhere"))
    with pytest.raises(KafkaNotAvailable, match="not found in JAVA_HOME"):
        java_command()


def test_a_failed_download_says_why_and_leaves_nothing_behind(install: Install, tmp_path: Path) -> None:
    install("mvn", "echo '[ERROR] Could not transfer artifact: Unknown host'; exit 1")
    with pytest.raises(KafkaNotAvailable, match=r"could not be fetched\. Maven says: .*Unknown host"):
        fetch_jars(tmp_path / "jars")
    assert list((tmp_path / "jars").iterdir()) == []


def test_jars_are_fetched_once(install: Install, tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    install(
        "mvn",
        f'echo called >> {calls}; for a; do case $a in -DoutputDirectory=*) mkdir -p "${{a#*=}}"; touch "${{a#*=}}/kafka.jar";; esac; done',
    )
    first = fetch_jars(tmp_path / "jars")
    assert [jar.name for jar in first.iterdir()] == ["kafka.jar"]
    assert fetch_jars(tmp_path / "jars") == first
    assert calls.read_text() == "called\n"


def test_jars_are_fetched_again_for_another_version(install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install("mvn", 'for a; do case $a in -DoutputDirectory=*) mkdir -p "${a#*=}";; esac; done')
    first = fetch_jars(tmp_path / "jars")
    other = tmp_path / "pom.xml"
    other.write_text("<project/>")
    monkeypatch.setattr(kafka_jars, "POM", other)
    assert fetch_jars(tmp_path / "jars") != first


def test_a_broker_that_leaves_while_starting_is_quoted(install: Install, tmp_path: Path, free_port: int) -> None:
    install("java", JAVA_17 + '; case "$*" in *kafka.Kafka*) echo "the disk is full"; exit 1;; esac')
    install("mvn", 'for a; do case $a in -DoutputDirectory=*) mkdir -p "${a#*=}";; esac; done')
    broker = ApacheKafka(tmp_path / "kafka", free_port, jars_dir=tmp_path / "jars")
    with pytest.raises(KafkaNotAvailable, match="the disk is full"):
        broker.start(timeout_seconds=10)
    assert broker.pid is None


def test_a_broker_that_never_answers_is_not_left_running(install: Install, tmp_path: Path, free_port: int) -> None:
    install("java", JAVA_17 + '; case "$*" in *kafka.Kafka*) exec sleep 60;; esac')
    install("mvn", 'for a; do case $a in -DoutputDirectory=*) mkdir -p "${a#*=}";; esac; done')
    broker = ApacheKafka(tmp_path / "kafka", free_port, jars_dir=tmp_path / "jars")
    with pytest.raises(KafkaNotAvailable, match="did not answer"):
        broker.start(timeout_seconds=0.3)
    assert broker.pid is None


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(KafkaNotAvailable, match=f"Port {port} is taken"):
            ApacheKafka(tmp_path, port).start()


def test_the_broker_listens_on_loopback_only_and_creates_no_topic_unasked(tmp_path: Path) -> None:
    settings = server_settings(tmp_path, 19092, 19093)
    addresses = [listener.split("://")[1] for listener in str(settings["listeners"]).split(",")]
    assert addresses == ["127.0.0.1:19092", "127.0.0.1:19093"]
    assert settings["auto.create.topics.enable"] == "false"


@pytest.fixture
def broker_that_counts(free_port: int) -> Iterator[Callable[[int], int]]:
    """A server that answers one Metadata request with so many live brokers."""
    servers: list[socket.socket] = []

    def serve(live_brokers_count: int) -> int:
        server = socket.create_server(("127.0.0.1", free_port))
        servers.append(server)

        def answer() -> None:
            connection, _address = server.accept()
            with connection:
                request = connection.recv(100)
                _size, api_key, version, correlation_id = struct.unpack(">ihhi", request[:12])
                assert (api_key, version) == (3, 1)
                connection.sendall(struct.pack(">iii", 8, correlation_id, live_brokers_count))

        threading.Thread(target=answer, daemon=True).start()
        return free_port

    yield serve
    for server in servers:
        server.close()


def test_a_broker_answers_once_it_counts_itself_alive(broker_that_counts: Callable[[int], int]) -> None:
    assert answers(broker_that_counts(1))


def test_a_broker_that_is_still_fenced_does_not_answer_yet(broker_that_counts: Callable[[int], int]) -> None:
    assert not answers(broker_that_counts(0))


def test_nothing_answers_on_a_closed_port(free_port: int) -> None:
    assert not answers(free_port)


def test_the_check_command_fails_where_something_is_missing(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    assert apache_kafka.main(["--check"]) == 1
    assert "Java 17 not found" in capsys.readouterr().err
    install("java", JAVA_17)
    install("mvn", "")
    assert apache_kafka.main(["--check"]) == 0
