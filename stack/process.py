"""One child process: started with its own log, asked to leave, ended with us whatever happens to us."""

from __future__ import annotations

import atexit
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import IO

from shared.operator_error import OperatorError

LAST_WORDS_BYTES = 1500
FREE_PORTS = range(20_000, 32_000)
"""Below those that systems give to outgoing connections, any of which may take a port at any moment."""
_claims: dict[int, socket.socket] = {}


class ProcessFailed(OperatorError):
    """A child process did not start or left; the message carries its last words and names its log."""


class Child:
    """A child process that can be started, awaited, stopped, killed and started again.

    It is in a session of its own, so that Ctrl-C reaches only us and we stop it in order.
    """

    def __init__(self, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.command = list(command)
        self.log = log
        self.environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id while it lives."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def exit_code(self) -> int | None:
        """What it left with; None while it lives or before it started. Negative: the signal that ended it."""
        return None if self._process is None else self._process.poll()

    def start(self) -> None:
        """Start it unless it lives. Its output is appended to its log."""
        if self.pid is not None:
            return
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment},
                start_new_session=True,
            )
        undertaker.remember(self._process.pid)

    def wait_until(self, ready: Callable[[], bool], timeout_seconds: float) -> None:
        """Return once `ready` says so; raise ProcessFailed if the child leaves or takes too long."""
        deadline = time.monotonic() + timeout_seconds
        while not ready():
            if self.pid is None:
                raise ProcessFailed(
                    f"{self.name} left while starting (exit code {self.exit_code}); it said: {self.last_words()}\nLog: {self.log}"
                )
            if time.monotonic() > deadline:
                raise ProcessFailed(
                    f"{self.name} was not ready within {timeout_seconds:.0f} s; it said: {self.last_words()}\nLog: {self.log}"
                )
            time.sleep(0.05)

    def terminate(self) -> None:
        """Ask it to leave, without waiting."""
        if self._process is not None and self.pid is not None:
            self._process.terminate()

    def signal(self, number: int) -> None:
        """Send it a signal, if it lives."""
        if self._process is not None and self.pid is not None:
            self._process.send_signal(number)

    def stop(self, timeout_seconds: float = 10.0) -> bool:
        """Ask it to leave and end it when it has not left in time; True if it left by itself."""
        if self._process is None:
            return True
        self.terminate()
        try:
            self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return False
        undertaker.forget(self._process.pid)
        return True

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            undertaker.forget(self._process.pid)

    def reap(self) -> None:
        """Let go of a child that has left, so that its process id may be another's."""
        if self._process is not None and self._process.poll() is not None:
            undertaker.forget(self._process.pid)

    def last_words(self) -> str:
        """The end of its log."""
        with suppress(OSError), self.log.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - LAST_WORDS_BYTES))
            return log.read().decode(errors="replace").strip() or "nothing"
        return "nothing"


class Undertaker:
    """Ends our children when we die without a chance to, `kill -9` included: a shell that waits for the end of a pipe that only we hold.

    A shell costs one megabyte and works on every Unix; Linux's parent-death signal is bound to the thread that forked.
    """

    SCRIPT = """
        while read -r what pid; do
            case $what in
                +) pids="$pids $pid" ;;
                -) kept=; for each in $pids; do [ "$each" = "$pid" ] || kept="$kept $each"; done; pids=$kept ;;
            esac
        done
        [ -z "$pids" ] || { kill -TERM $pids; sleep 2; kill -KILL $pids; } 2>/dev/null
    """

    def __init__(self) -> None:
        self._pipe: IO[bytes] | None = None
        self._owner = 0
        self._lock = threading.Lock()

    def remember(self, pid: int) -> None:
        """From now on that process ends with us."""
        self._say(f"+ {pid}\n")

    def forget(self, pid: int) -> None:
        """It has ended."""
        self._say(f"- {pid}\n")

    def _say(self, words: str) -> None:
        with self._lock, suppress(BrokenPipeError):
            if self._pipe is None or self._owner != os.getpid():
                self._pipe, self._owner = self._start(), os.getpid()
            self._pipe.write(words.encode())
            self._pipe.flush()

    def _start(self) -> IO[bytes]:
        shell = subprocess.Popen(
            ["/bin/sh", "-c", self.SCRIPT],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        # Signals meant for us must not end it before us.
        assert shell.stdin is not None
        atexit.register(_close, shell)
        return shell.stdin


def _close(shell: subprocess.Popen[bytes]) -> None:
    with suppress(OSError):
        if shell.stdin is not None:
            shell.stdin.close()


undertaker = Undertaker()


def is_alive(pid: int) -> bool:
    """Is there a process with that id?"""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def end(pid: int, signal_number: int = signal.SIGTERM) -> None:
    """Send a signal to a process that may have gone."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal_number)


def is_listening(port: int) -> bool:
    """Does something on this machine accept connections on that loopback port?"""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """A loopback port that nothing listens on now, and that no other process of ours is given while this one lives."""
    return free_port_base(1)


def free_port_base(count: int = 9) -> int:
    """The first of `count` consecutive such ports."""
    first = FREE_PORTS.start + os.getpid() * 97 % (len(FREE_PORTS) - count)
    for base in chain(range(first, FREE_PORTS.stop - count), range(FREE_PORTS.start, first)):
        ports = range(base, base + count)
        if _claims.keys().isdisjoint(ports) and all(map(_can_bind, ports)) and _claim(ports):
            return base
    raise ProcessFailed(f"no {count} consecutive free ports on 127.0.0.1")


def _claim(ports: Sequence[int]) -> bool:
    """Take the ports' names, which end with this process: between a look at a port and its use another process may look, too."""
    claims = {port: socket.socket(socket.AF_UNIX) for port in ports}
    try:
        for port, claim in claims.items():
            # Names that are no files are Linux's; elsewhere only this process keeps its own ports apart.
            if sys.platform == "linux":
                claim.bind(f"\0dear-port-{port}")
    except OSError:
        for claim in claims.values():
            claim.close()
        return False
    _claims.update(claims)
    return True


def _can_bind(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
