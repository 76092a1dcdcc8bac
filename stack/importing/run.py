"""`dear import`: a file into the stream, a verdict for each row, and nothing twice.

Every event has an id of its own making (`drafts`), so identity knows a second import of the same rows for repeats. A verdict is
written once the broker has acknowledged what it accepts; killed in between, the rows without a verdict are sent again.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

from shared.clock import Clock, WallClock
from shared.contracts.topics import CUSTOMER_UPDATES, INTERACTIONS, PURCHASES
from shared.kafka_admin import describe, sender, wait_for_broker
from shared.settings import Settings
from stack.broker_address import broker_address
from stack.importing.guessing import guess_mapping, spelled_out
from stack.importing.judging import Judge, Judged
from stack.importing.log import VerdictLog
from stack.importing.mapping import (
    FileLayout,
    Given,
    ImportMapping,
    Kind,
    MappingError,
    PurchasesMapping,
    check_mapping,
    load_mapping,
    mapped_columns,
)
from stack.importing.reading import NdjsonTable, Table, open_table
from stack.importing.seen import remembering
from stack.importing.units import units_of
from stack.importing.verdicts import RowStatus, RowVerdict

FLUSH_EVERY = 5000
RECENT = timedelta(days=30)
"""As far back as the windows of the programs that Dear comes with."""


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What `dear import` was told."""

    kind: Kind
    file: Path
    mapping: Path | None = None
    source: str | None = None
    as_of: str | None = None
    verdicts: Path | None = None
    dry_run: bool = False
    as_json: bool = False
    data_dir: Path = Path("var")
    kafka: str | None = None


class Out(Protocol):
    """Where events go."""

    def send(self, topic: str, key: bytes | None, value: bytes) -> None: ...
    def flush(self) -> None: ...


class Nowhere:
    """Where the events of a dry run go."""

    def send(self, topic: str, key: bytes | None, value: bytes) -> None:
        """Nothing is sent."""

    def flush(self) -> None:
        """Nothing waits."""


@dataclass(slots=True)
class Imported:
    """What an import came to, besides its verdicts."""

    events: int = 0
    anonymous: int = 0
    recent: int = 0
    """Events of the last 30 days: programs may answer them."""
    resumed_after: int = 0


@dataclass(slots=True)
class _Waiting:
    """Verdicts that are true once everything sent was acknowledged."""

    log: VerdictLog
    out: Out
    verdicts: list[RowVerdict] = field(default_factory=list)

    def add(self, judged: Judged) -> None:
        for event in judged.outgoing:
            self.out.send(event.topic, event.key, event.value)
        self.verdicts += judged.verdicts
        if len(self.verdicts) >= FLUSH_EVERY:
            self.settle()

    def settle(self) -> None:
        self.out.flush()
        self.log.add(self.verdicts)
        self.verdicts.clear()


def import_rows(
    table: Table, mapping: ImportMapping, log: VerdictLog, out: Out, *, currency: str, wall: Clock, advance: Callable[[int], None]
) -> Imported:
    """Send what the rows say and log a verdict for each. Raises BrokerAway, after which the same call goes on."""
    imported = Imported(resumed_after=log.done)
    waiting = _Waiting(log, out)
    judged_rows, since = 0, wall.now() - RECENT
    with remembering() as seen:
        judge = Judge(mapping.source, currency, wall, seen)
        for unit in units_of(table, mapping, seen, advance):
            judged = judge.judge(unit)
            judged_rows += len(judged.verdicts)
            if judged_rows <= log.done:
                judged = Judged((), judged.verdicts)
            imported.events += len(judged.outgoing)
            imported.anonymous += sum(event.is_anonymous for event in judged.outgoing)
            imported.recent += sum(event.at > since for event in judged.outgoing)
            waiting.add(judged)
        waiting.settle()
    return imported


def run_import(options: ImportOptions) -> int:
    """Import a file and say what became of it; 1 where a row was refused."""
    mapping, table = prepare(options)
    path = options.verdicts or options.file.with_name(f"{options.file.name}.{'dry-run' if options.dry_run else 'verdicts'}.ndjson")
    with (
        _destination(options) as (out, into),
        _progress(options, table) as advance,
        VerdictLog(path, None if options.dry_run else _begun(options, mapping, into)) as log,
    ):
        imported = import_rows(table, mapping, log, out, currency=Settings().reporting_currency, wall=WallClock(), advance=advance)
    _report(options, imported, log)
    return int(any(status is RowStatus.REFUSED for status, _ in log.counts))


def prepare(options: ImportOptions) -> tuple[ImportMapping, Table]:
    """The mapping that is meant, checked against the file. Raises MappingError."""
    written = load_mapping(options.mapping, options.kind) if options.mapping else {}
    layout = FileLayout.model_validate(written.get("file", {})) if _is_layout(written) else FileLayout()
    table = open_table(options.file, layout)
    if options.mapping is None:
        written = guess_mapping(table, options.kind)
    written = written | _told(options)
    if options.mapping is None:
        _say_guesses(options, written)
    mapping = check_mapping(written, options.kind, str(options.mapping or f"what was guessed from the columns of {options.file}"))
    if isinstance(mapping, PurchasesMapping) and mapping.currency is None:
        mapping = mapping.model_copy(update={"currency": Given(value=Settings().reporting_currency)})
    table = open_table(options.file, mapping.file)
    _check_columns(mapping, table, options)
    return mapping, table


def _is_layout(written: dict[str, Any]) -> bool:
    """A wrong one is explained when the whole mapping is checked."""
    try:
        FileLayout.model_validate(written.get("file", {}))
    except ValueError:
        return False
    return True


def _told(options: ImportOptions) -> dict[str, Any]:
    told: dict[str, Any] = {"source": options.source} if options.source else {}
    return told | ({"time": {"value": options.as_of}} if options.as_of else {})


def _say_guesses(options: ImportOptions, written: dict[str, Any]) -> None:
    sys.stderr.write(
        "No --mapping: guessed from the columns' names. Save it as a file to change it; `dear import example-mapping` shows more:\n"
    )
    for line in spelled_out(written):
        sys.stderr.write(f"  {line}\n")


def _check_columns(mapping: ImportMapping, table: Table, options: ImportOptions) -> None:
    """Every column that the mapping names is there; the ones it does not name are told."""
    columns = table.columns()
    wanted = mapped_columns(mapping)
    missing = [column for column in wanted if column not in columns and column.partition(".")[0] not in columns]
    if missing and not isinstance(table, NdjsonTable):
        raise MappingError(f"{options.file} has no column {', '.join(map(repr, missing))}; it has {', '.join(map(repr, columns))}")
    if missing:
        sys.stderr.write(f"note: the first rows have no {', '.join(map(repr, missing))}\n")
    used = {column.partition(".")[0] for column in wanted} | set(wanted)
    others = [column for column in columns if column not in used]
    takes_all = getattr(mapping, "other_traits", False) or getattr(mapping, "other_properties", False)
    if others and not takes_all and mapping.file.unknown_columns == "ignore":
        sys.stderr.write(f"note: not read: {', '.join(map(repr, others))}\n")


def _begun(options: ImportOptions, mapping: ImportMapping, into: dict[str, Any]) -> dict[str, Any]:
    """What an import that was cut off must have been of for this one to go on with it."""
    stat = options.file.stat()
    said = hashlib.sha256(json.dumps(mapping.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()
    return {"kind": options.kind, "mapping": said, "file": [stat.st_size, stat.st_mtime_ns], "into": into}


@contextmanager
def _destination(options: ImportOptions) -> Iterator[tuple[Out, dict[str, Any]]]:
    """The broker, and the ids of its topics: another broker, or one that lost its log, has not got what was sent before."""
    if options.dry_run:
        yield Nowhere(), {}
        return
    bootstrap = broker_address(options.data_dir, options.kafka)
    wait_for_broker(bootstrap, timeout_seconds=5)
    found = describe(bootstrap)
    into = {topic.name: found.get(topic.name, {}).get("topic_id") for topic in (PURCHASES, INTERACTIONS, CUSTOMER_UPDATES)}
    if None in into.values():
        raise MappingError(f"{bootstrap} lacks {', '.join(name for name, id in into.items() if id is None)}: run `dear topics apply`")
    with sender(bootstrap) as out:
        yield out, into


@contextmanager
def _progress(options: ImportOptions, table: Table) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal; nothing where a program reads."""
    if options.as_json or not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn(options.file.name), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("import", total=table.size)
        yield lambda done: progress.update(task, completed=done)


def _report(options: ImportOptions, imported: Imported, log: VerdictLog) -> None:
    totals = {status.value: sum(count for (each, _), count in log.counts.items() if each is status) for status in RowStatus}
    reasons = {reason: count for (_, reason), count in sorted(log.counts.items(), key=lambda item: -item[1]) if reason}
    if options.as_json:
        said = {"dry_run": options.dry_run, **totals, "reasons": reasons, **asdict(imported), "verdicts": str(log.path)}
        sys.stdout.write(json.dumps(said) + "\n")
        return
    _print_table(totals, reasons)
    sys.stdout.write(f"{'would send' if options.dry_run else 'sent'} {imported.events:,} events; verdicts in {log.path}\n")
    if imported.resumed_after:
        sys.stdout.write(f"went on after {imported.resumed_after:,} rows of an import that was cut off\n")
    if imported.recent:
        sys.stdout.write(f"{imported.recent:,} events are of the last {RECENT.days} days: programs may answer them\n")


def _print_table(totals: dict[str, int], reasons: dict[str, int]) -> None:
    from rich.console import Console
    from rich.table import Table as Printed

    table = Printed("rows", "", box=None, pad_edge=False)
    table.columns[0].justify = "right"
    for status, count in totals.items():
        table.add_row(f"{count:,}", status)
        if status == RowStatus.REFUSED:
            for reason, refused in reasons.items():
                table.add_row(f"{refused:,}", f"  {reason}")
    Console(file=sys.stdout, width=100).print(table)
