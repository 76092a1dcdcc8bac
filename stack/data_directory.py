"""A data directory: who uses it now, which clock it was begun with, and where its running stack answers.

DataDirectoryError
├── InUse            another `dear up` or `dear demo` lives in it
├── OtherClock       it was begun with another clock
└── NotRunning       no stack is up in it
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from shared.access.keys import service_key
from shared.clock import ClockMode
from shared.operator_error import OperatorError
from stack.http import introduce
from stack.process import is_alive

OPERATOR = "operator"
"""How the `dear` command names itself to the services, and how their audit logs know it."""


PEPPER, MASTER_KEY = "key-pepper", "master-key"
"""The files of its secrets."""


class DataDirectoryError(OperatorError):
    """The data directory does not allow what was asked; the message says what to do."""


class InUse(DataDirectoryError):
    """Another process lives in it."""


class OtherClock(DataDirectoryError):
    """It was begun with another clock."""


class NotRunning(DataDirectoryError):
    """No stack is up in it."""

    exit_code = 3


class DataDirectory:
    """Everything that `dear` keeps lies below one path."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self._lock: IO[str] | None = None

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    def claim(self) -> None:
        """Take it for this process until `release` or its end. Raises InUse."""
        self.path.mkdir(parents=True, exist_ok=True)
        lock = (self.path / "lock").open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            lock.close()
            raise InUse(f"{self.path} is in use by another dear (process {holder}): stop it, or choose another --data-dir.") from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        self._lock = lock

    def release(self) -> None:
        """Let others have it."""
        self.forget_up()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def fix_clock(self, mode: ClockMode | None) -> ClockMode:
        """The clock it was begun with; the first call decides, `live` unless told otherwise. Raises OtherClock."""
        path = self.path / "clock.json"
        if path.exists():
            begun: ClockMode = json.loads(path.read_text())["mode"]
            if mode is not None and mode != begun:
                raise OtherClock(
                    f"{self.path} was begun with the {begun} clock and cannot go on with the {mode} one: "
                    f"leave out --clock, or choose another --data-dir."
                )
            return begun
        self.path.mkdir(parents=True, exist_ok=True)
        _write_json(path, {"mode": mode or "live"})
        return mode or "live"

    def read_pepper(self) -> bytes | None:
        """The secret that the keys of its stack are hashed with; None before the first start."""
        return self._read_secret(PEPPER)

    def make_pepper(self) -> str:
        """The same, made at the first start: for our eyes only."""
        return self._make_secret(PEPPER)

    def read_master_key(self) -> bytes | None:
        """What its stack's texts are sealed under; None before the first start."""
        return self._read_secret(MASTER_KEY)

    def make_master_key(self) -> str:
        """The secret that stands between erased references and whoever has the database; made at the first start, too."""
        return self._make_secret(MASTER_KEY)

    def _read_secret(self, name: str) -> bytes | None:
        try:
            return (self.path / name).read_text().strip().encode() or None
        except FileNotFoundError:
            return None

    def _make_secret(self, name: str) -> str:
        if kept := self._read_secret(name):
            return kept.decode()
        partial = self.path / f"{name}.partial"
        partial.unlink(missing_ok=True)
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self.path / name)
        return (self._read_secret(name) or b"").decode()

    def write_up(self, up: dict[str, Any]) -> None:
        """Say where the running stack answers."""
        _write_json(self.path / "up.json", up)

    def read_up(self) -> dict[str, Any]:
        """Where the running stack answers. Raises NotRunning."""
        path = self.path / "up.json"
        try:
            up: dict[str, Any] = json.loads(path.read_text())
        except FileNotFoundError:
            raise NotRunning(f"nothing is up in {self.path}: start it with `dear up`, or name its --data-dir.") from None
        if not is_alive(int(up["supervisor_pid"])):
            raise NotRunning(f"what was up in {self.path} has died (process {up['supervisor_pid']}): start it with `dear up`.")
        if pepper := self.read_pepper():
            introduce(up["services"].values(), service_key(pepper, OPERATOR))
        return up

    def forget_up(self) -> None:
        """Nothing is up any more."""
        with suppress(FileNotFoundError):
            (self.path / "up.json").unlink()


def _write_json(path: Path, content: dict[str, Any]) -> None:
    """Readers see the old file or the new one, never a half."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=2) + "\n")
    partial.replace(path)
