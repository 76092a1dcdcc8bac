"""Which port each part of the whole system listens on, on loopback."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

SERVICES = ("identity", "segmentation", "campaigns", "notifications")
"""In the order in which an event passes through them."""


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of `dear up`, in the order in which `--port-base` counts."""

    console: int = 8080
    identity: int = 8081
    segmentation: int = 8082
    campaigns: int = 8083
    notifications: int = 8084
    smtp: int = 8025
    mail: int = 8026
    broker: int = 9092
    database: int = 27017

    def of(self, name: str) -> int:
        """The port of a part, by its name."""
        port: int = asdict(self)[name]
        return port

    def url(self, service: str) -> str:
        """Where a service answers."""
        return f"http://127.0.0.1:{self.of(service)}"

    def taken(self, names: Iterable[str], is_listening: Callable[[int], bool]) -> list[str]:
        """The parts whose ports something listens on, as `name (port)`."""
        return [f"{name} ({self.of(name)})" for name in names if is_listening(self.of(name))]


PORT_COUNT = len(Ports.__dataclass_fields__)


def ports_from(base: int | None) -> Ports:
    """The usual ports, or `base` and those after it."""
    if base is None:
        return Ports()
    return Ports(*range(base, base + PORT_COUNT))
