"""How much of the processor a peer used: its own threads, the children it waited for and those that still run."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def cpu_seconds() -> float:
    """User and system time of this process and everything below it, so far."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(of.ru_utime + of.ru_stime for of in used) + sum(ticks(pid) for pid in _descendants(os.getpid())) / os.sysconf("SC_CLK_TCK")


def _descendants(pid: int) -> Iterator[int]:
    """Children that live, and theirs; none where the kernel does not list them."""
    for listed in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, listed.read_text().split()):
                yield child
                yield from _descendants(child)


def ticks(pid: int) -> int:
    """User and system clock ticks of a process with the children it waited for; 0 when it is gone."""
    with suppress(OSError):
        # After the name, which may hold spaces: the 14th to 17th fields of the line are utime, stime, cutime, cstime.
        return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]))
    return 0
