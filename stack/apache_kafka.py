"""Apache Kafka without a container: one node of it on loopback, for tests and for trying Dear on it."""

import argparse
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from stack.kafka_jars import JARS, ROOT, KafkaNotAvailable, fetch_jars, java_command, missing
from stack.process import free_port

__all__ = ["ApacheKafka", "KafkaNotAvailable", "answers", "apache_kafka"]

LOGGING = ROOT / "deploy" / "kafka-jars" / "log4j2.properties"


class ApacheKafka:
    """One broker that is also its own controller, on loopback, with everything it keeps in one directory.

    `start` may follow `stop` or `kill`: topics, offsets and topic ids are then the ones it had.
    """

    def __init__(self, data_dir: Path, port: int, *, controller_port: int | None = None, heap: str = "512m", jars_dir: Path = JARS) -> None:
        self.data_dir = data_dir.resolve()
        self.port = port
        self.controller_port = controller_port
        self.heap = heap
        self.jars_dir = jars_dir
        self.log = self.data_dir / "kafka.log"
        self._said_before_bytes = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap_servers(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self, timeout_seconds: float = 60.0) -> None:
        """Return once the broker lists itself as alive; raise KafkaNotAvailable with its last words if it does not."""
        if self.pid is not None:
            return
        if _listens(self.port):
            raise KafkaNotAvailable(f"Port {self.port} is taken by another process: choose another one.")
        self._write_properties()
        if not (self._logs / "meta.properties").exists():
            self._format()
        with self.log.open("ab") as log:
            self._said_before_bytes = log.tell()
            # A session of its own: Ctrl-C reaches us alone, and we stop the broker in order.
            self._process = subprocess.Popen(
                self._java("kafka.Kafka", str(self._properties)), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        try:
            self._wait_until_alive(time.monotonic() + timeout_seconds)
        except BaseException:
            self.kill()
            raise

    def stop(self, timeout_seconds: float = 20.0) -> None:
        """Ask it to leave, and end it when it has not left in time."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @property
    def _logs(self) -> Path:
        return self.data_dir / "logs"

    @property
    def _properties(self) -> Path:
        return self.data_dir / "server.properties"

    def _write_properties(self) -> None:
        self._logs.mkdir(parents=True, exist_ok=True)
        settings = server_settings(self._logs, self.port, self.controller_port or free_port())
        self._properties.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))

    def _format(self) -> None:
        # A fixed cluster id: the directory is the identity here, and a random one would have to be kept beside it.
        command = self._java(
            "kafka.tools.StorageTool", "format", "--cluster-id", "RGVhckVtYmVkZGVkS2Fma2E", "--config", str(self._properties)
        )
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if ran.returncode != 0:
            raise KafkaNotAvailable(f"Apache Kafka could not format {self._logs}: {(ran.stderr or ran.stdout).strip()[-500:]}")

    def _java(self, main: str, *arguments: str) -> list[str]:
        memory = ["-Xms64m", f"-Xmx{self.heap}", "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError"]
        classes = ["-cp", str(fetch_jars(self.jars_dir) / "*")]
        return [java_command(), *memory, "-Djava.awt.headless=true", f"-Dlog4j2.configurationFile={LOGGING}", *classes, main, *arguments]

    def _wait_until_alive(self, deadline: float) -> None:
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                raise KafkaNotAvailable(f"Apache Kafka left while starting; it said: {self._last_words()}")
            if answers(self.port):
                return
            time.sleep(0.1)
        raise KafkaNotAvailable(f"Apache Kafka did not answer on {self.bootstrap_servers} in time; it said: {self._last_words()}")

    def _last_words(self) -> str:
        said = self.log.read_bytes()[self._said_before_bytes :].decode(errors="replace")
        return said.strip()[-1500:] or "nothing"


def server_settings(logs: Path, port: int, controller_port: int) -> dict[str, object]:
    """The settings of a single node that starts fast, keeps little in memory and creates no topic unasked."""
    return {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "listeners": f"BROKER://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"BROKER://127.0.0.1:{port}",
        "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "BROKER",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": logs,
        "auto.create.topics.enable": "false",
        "group.initial.rebalance.delay.ms": 0,
        "default.replication.factor": 1,
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 8,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 4,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        # After a crash the node waits this long for its own old session; the default of 9 s only matters to clusters.
        "broker.session.timeout.ms": 4000,
        "broker.heartbeat.interval.ms": 500,
        "num.network.threads": 2,
        "num.io.threads": 4,
        # Taken from the heap as soon as the first compacted topic exists; the default is a quarter of ours.
        "log.cleaner.dedupe.buffer.size": 16 * 1024 * 1024,
    }


def answers(port: int) -> bool:
    """Whether a broker on this loopback port is up and counts at least one live broker: itself."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2.0) as connection:
            connection.sendall(_METADATA_REQUEST)
            size, _correlation_id, live_brokers_count = struct.unpack(">iii", _read_exactly(connection, 12))
    except (OSError, EOFError):
        return False
    return bool(size > 0 and live_brokers_count > 0)


# Kafka's Metadata request, version 1, for no topic: api key, version, correlation id, client id "dear", empty list.
_METADATA_REQUEST = struct.pack(">ihhih4si", 18, 3, 1, 1, 4, b"dear", 0)


def _read_exactly(connection: socket.socket, count: int) -> bytes:
    received = b""
    while len(received) < count:
        piece = connection.recv(count - len(received))
        if not piece:
            raise EOFError
        received += piece
    return received


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def apache_kafka(data_dir: Path, port: int) -> Iterator[str]:
    """The bootstrap servers of an Apache Kafka that runs as long as the block does."""
    broker = ApacheKafka(data_dir, port)
    broker.start()
    try:
        yield broker.bootstrap_servers
    finally:
        broker.stop()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m stack.apache_kafka", description="Run one Apache Kafka broker on loopback until SIGTERM."
    )
    parser.add_argument("--data-dir", type=Path, default=ROOT / "var" / "kafka", help="where it keeps its logs (default: var/kafka)")
    parser.add_argument("--port", type=int, default=19092, help="where it listens (default: 19092)")
    parser.add_argument("--check", action="store_true", help="only say whether Java and Maven are there; exit 1 when one is missing")
    options = parser.parse_args(arguments)
    if options.check:
        return _check()
    try:
        return _run(options.data_dir, options.port)
    except KafkaNotAvailable as problem:
        return _say(str(problem), failed=True)


def _check() -> int:
    problems = missing()
    return _say("\n".join(problems), failed=True) if problems else _say("Java and Maven are there.")


def _run(data_dir: Path, port: int) -> int:
    asked_to_leave = threading.Event()

    def leave(_signal: int, _frame: FrameType | None) -> None:
        asked_to_leave.set()

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)
    broker = ApacheKafka(data_dir, port)
    broker.start()
    try:
        _say(broker.bootstrap_servers)
        while not asked_to_leave.wait(0.5):
            if broker.pid is None:
                return _say(f"Apache Kafka left on its own; see {broker.log}.", failed=True)
    finally:
        broker.stop()
    return 0


def _say(words: str, *, failed: bool = False) -> int:
    stream = sys.stderr if failed else sys.stdout
    stream.write(words + "\n")
    stream.flush()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
