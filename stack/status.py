"""`dear status`: is everything well?"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from shared.contracts.topics import topics_read_by
from shared.kafka_admin import KafkaAdminError, group_lag
from stack.data_directory import DataDirectory
from stack.http import ServiceAway, ask
from stack.memory import MEGABYTE, memory_bytes
from stack.supervisor import BROKER_WARNING_BYTES, is_ready

TOTALS = {
    "identity": "/v1/outcomes",
    "segmentation": "/v1/totals",
    "campaigns": "/v1/loyalty/summary",
    "notifications": "/v1/summary",
}
"""Where each service says what it has done."""


def status(up: dict[str, Any]) -> dict[str, Any]:
    """Health, lag, totals and memory of a running stack."""
    services = {name: _service(name, url, up["kafka"]) for name, url in up["services"].items()}
    memory = {name: memory_bytes(pid) for name, pid in up["pids"].items()}
    return {
        "well": all(service["ready"] for service in services.values()) and memory.get("broker", 0) < BROKER_WARNING_BYTES,
        "services": services,
        "memory_bytes": memory | {"total": sum(memory.values())},
        "clock": up["clock"],
    }


def _service(name: str, url: str, kafka: str) -> dict[str, Any]:
    return {"ready": is_ready(url), "lag": _lag(name, kafka), "totals": _totals(name, url)}


def _lag(name: str, kafka: str) -> int | None:
    try:
        return group_lag(kafka, name, topics_read_by(name))
    except KafkaAdminError:
        return None


def _totals(name: str, url: str) -> Any:
    try:
        return ask(url + TOTALS[name], timeout_seconds=5)
    except ServiceAway as error:
        return {"away": str(error)}


def print_status(data_dir: Path, as_json: bool) -> int:
    """Print it; 1 where something is not well."""
    found = status(DataDirectory(data_dir).read_up())
    if as_json:
        sys.stdout.write(json.dumps(found) + "\n")
        return int(not found["well"])
    for name, service in found["services"].items():
        lag = "unknown" if service["lag"] is None else f"{service['lag']:,}"
        sys.stdout.write(f"{name:14} {'ready' if service['ready'] else 'NOT READY':9}  lag {lag:>7}  {_memory(found, name)}\n")
        sys.stdout.write(f"{'':14} {json.dumps(service['totals'])}\n")
    for name in found["memory_bytes"].keys() - found["services"].keys() - {"total"}:
        sys.stdout.write(f"{name:14} {'':22} {_memory(found, name)}\n")
    sys.stdout.write(f"{'together':14} {'':22} {_memory(found, 'total')}\n")
    return int(not found["well"])


def _memory(found: dict[str, Any], name: str) -> str:
    return f"{found['memory_bytes'].get(name, 0) / MEGABYTE:,.0f} MB"
