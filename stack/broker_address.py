"""Which broker a command means."""

from __future__ import annotations

from pathlib import Path

from stack.data_directory import DataDirectory


def broker_address(data_dir: Path, kafka: str | None) -> str:
    """The one named, or the running stack's. Raises NotRunning."""
    if kafka:
        return kafka
    address: str = DataDirectory(data_dir).read_up()["kafka"]
    return address
