"""Imports a file written by a test, and keeps what was sent and said."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from services.identity.domain.references import Naming
from shared.clock import WallClock
from stack.importing.log import VerdictLog
from stack.importing.mapping import Kind, check_mapping
from stack.importing.reading import open_table
from stack.importing.report import Imported
from stack.importing.run import import_rows

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SALES: dict[str, Any] = {
    "id": "receipt", "rows": "line", "time": "at", "store": {"value": "main"}, "currency": {"value": "USD"},
    "sku": "sku", "amount": "amount", "references": {"loyalty_card": "card"}, "file": {"time_zone": "UTC"},
}  # fmt: skip


class Noon(WallClock):
    """It is noon."""

    def now(self) -> datetime:
        return NOW


class BrokerGone(Exception):
    """The broker does not take any more."""


class Outbox:
    """Takes what a sender would send; `gone_after` so many records the broker is away, and what was not flushed is lost."""

    def __init__(self, gone_after: int | None = None) -> None:
        self.sent: list[tuple[str, bytes | None, dict[str, Any]]] = []
        self.flushed = 0
        self._gone_after = gone_after

    def send(self, topic: str, key: bytes | None, value: bytes) -> None:
        if self._gone_after is not None and len(self.sent) >= self._gone_after:
            raise BrokerGone
        self.sent.append((topic, key, json.loads(value)))

    def flush(self) -> None:
        self.flushed = len(self.sent)

    @property
    def events(self) -> list[dict[str, Any]]:
        return [event for _, _, event in self.sent]


class Desk:
    """One directory of files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.out = Outbox()
        self.imported = Imported()
        self.naming = Naming()

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.directory / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def bring(
        self, file: Path, kind: Kind, mapping: Mapping[str, Any], out: Outbox | None = None, begun: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Import the file; the verdicts."""
        self.out = out or Outbox()
        checked = check_mapping(mapping, kind, "the test")
        with VerdictLog(file.with_name(file.name + ".verdicts.ndjson"), begun) as log:
            self.imported = import_rows(
                open_table(file, checked.file),
                checked,
                log,
                self.out,
                currency="USD",
                naming=self.naming,
                wall=Noon(),
                advance=lambda done: None,
            )
        return [json.loads(line) for line in log.path.read_text().splitlines()]


def told(verdicts: list[dict[str, Any]]) -> list[tuple[int, str, str | None]]:
    """Row, reason (or status), column."""
    return [(each["row"], each.get("reason", each["status"]), each.get("column")) for each in verdicts]
