"""How much memory a process holds: its proportional share where the kernel tells, its resident set elsewhere."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from pathlib import Path

MEGABYTE = 1024 * 1024


def memory_bytes(pid: int) -> int:
    """PSS on Linux, RSS elsewhere; 0 for a process that is gone."""
    with suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    ran = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, timeout=10, check=False)
    return int(ran.stdout.strip() or 0) * 1024
