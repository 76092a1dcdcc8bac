"""`dear export`: every table from its service over HTTP, then all files at once into place."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from shared.operator_error import OperatorError
from stack.data_directory import DataDirectory
from stack.exporting.tables import NAMES, TABLES, ExportTable
from stack.exporting.writing import MANIFEST, partial_of, put_in_place, write_table
from stack.http import RowAnswer, ask_rows
from stack.keys import introduce_operator

OVERLAP = timedelta(minutes=1)
"""Between increments of what is told apart by clocks: a row may come twice, none is missed."""


class BadExport(OperatorError):
    """The export was asked for in a way that cannot be done."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Since:
    """What an increment leaves out."""

    time: datetime | None = None
    positions: tuple[tuple[str, int, int], ...] | None = None
    """How far the export before had the logs."""


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What `dear export` was told."""

    to: Path
    only: tuple[str, ...] = NAMES
    since: str | None = None
    as_json: bool = False
    data_dir: Path = Path("var")
    urls: Mapping[str, str] = field(default_factory=dict)
    """Where services answer, instead of those that run in the data directory."""


def run_export(options: ExportOptions) -> int:
    """Write the tables and their manifest, and say what they hold."""
    tables = _chosen(options.only)
    since = read_since(options.since)
    urls = _urls(options, tables)
    for table in tables:
        table.schema()
    try:
        options.to.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadExport(f"{options.to} cannot be made: {error}") from error
    manifest = export(tables, urls, since, options.to, _bar(options.as_json))
    if options.as_json:
        sys.stdout.write(json.dumps(manifest) + "\n")
    else:
        for name, said in manifest["tables"].items():
            sys.stdout.write(f"{name:10} {said['rows']:>12,} rows  {options.to / said['file']}\n")
    return 0


def export(
    tables: tuple[ExportTable, ...], urls: Mapping[str, str], since: Since, directory: Path, bar: Callable[[str], Any]
) -> dict[str, Any]:
    """Write the tables; the manifest. The files of the last export stay until all new ones are whole. Raises ServiceAway."""
    manifest: dict[str, Any] = {"format": 1, "as_of": datetime.now(UTC).isoformat(), "since": _said(since), "tables": {}}
    try:
        for table in tables:
            with _asked(table, urls[table.service], since) as answer, bar(table.name) as advance:
                rows = write_table(table, answer, directory, advance)
            manifest["tables"][table.name] = _described(table, rows, answer.head)
        put_in_place(tables, manifest, directory)
    finally:
        for table in tables:
            partial_of(directory, table).unlink(missing_ok=True)
    return manifest


@contextmanager
def _asked(table: ExportTable, url: str, since: Since) -> Iterator[RowAnswer]:
    body = None
    query = ""
    if table.name == "events":
        # Positions say exactly what is new; times only where there are none.
        at = since.time.isoformat() if since.time and since.positions is None else None
        body = {"after": [list(position) for position in since.positions or ()], "since": at}
    elif table.grows and since.time is not None:
        query = "?" + urlencode({"since": since.time.isoformat()})
    with ask_rows(url + table.path + query, body) as answer:
        yield answer


def _described(table: ExportTable, rows: int, head: Mapping[str, Any]) -> dict[str, Any]:
    return {"file": f"{table.name}.parquet", "rows": rows, "key": list(table.key), "increment": table.grows, **head}


def _said(since: Since) -> str | None:
    return since.time.isoformat() if since.time else None


def read_since(text: str | None) -> Since:
    """A time, a day, or the directory of an earlier export, whose increments this one continues. Raises BadExport."""
    if text is None:
        return Since()
    manifest = Path(text) / MANIFEST
    if manifest.exists():
        said = json.loads(manifest.read_text())
        positions = said["tables"].get("events", {}).get("positions")
        return Since(datetime.fromisoformat(said["as_of"]) - OVERLAP, None if positions is None else tuple(map(tuple, positions)))
    try:
        at = datetime.combine(date.fromisoformat(text), time(), UTC) if len(text) <= len("2026-03-01") else datetime.fromisoformat(text)
    except ValueError:
        raise BadExport(f"--since {text}: a day, a time such as 2026-03-01T09:30:00Z, or the directory of an earlier export") from None
    if at.tzinfo is None:
        raise BadExport(f"--since {text}: add the time zone, such as Z or +07:00")
    return Since(at)


def _chosen(only: tuple[str, ...]) -> tuple[ExportTable, ...]:
    if unknown := [name for name in only if name not in NAMES]:
        raise BadExport(f"--only: there is no {', '.join(unknown)}; choose of {', '.join(NAMES)}")
    return tuple(table for table in TABLES if table.name in only)


def _urls(options: ExportOptions, tables: tuple[ExportTable, ...]) -> Mapping[str, str]:
    directory = DataDirectory(options.data_dir)
    introduce_operator(directory, options.urls.values())
    if all(table.service in options.urls for table in tables):
        return options.urls
    running: dict[str, str] = directory.read_up()["services"]
    return {**running, **options.urls}


def _bar(as_json: bool) -> Callable[[str], Any]:
    """Rows so far, on a terminal; nothing where a program reads."""

    @contextmanager
    def counting(name: str) -> Iterator[Callable[[int], None]]:
        if as_json or not sys.stderr.isatty():
            yield lambda more: None
            return
        from rich.console import Console
        from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (SpinnerColumn(), TextColumn(name), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task(name, total=None)
            yield lambda more: progress.advance(task, more)

    return counting
