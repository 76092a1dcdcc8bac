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
from dataclasses import dataclass, field
from typing import Any, Protocol

from services.identity.domain.references import Naming
from shared.clock import Clock, WallClock
from shared.contracts.topics import CUSTOMER_UPDATES, INTERACTIONS, PURCHASES
from shared.kafka_admin import describe, sender, wait_for_broker
from stack.broker_address import broker_address
from stack.importing.judging import Judge, Judged
from stack.importing.log import VerdictLog
from stack.importing.mapping import ImportMapping, MappingError
from stack.importing.options import ImportOptions, settings_of
from stack.importing.preparing import prepare
from stack.importing.report import RECENT, Imported, print_report
from stack.importing.seen import remembering
from stack.importing.tables import Table
from stack.importing.units import units_of
from stack.importing.verdicts import RowStatus, RowVerdict

FLUSH_EVERY = 5000


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
class _Waiting:
    """Verdicts that are true once everything sent was acknowledged."""

    log: VerdictLog
    out: Out
    verdicts: list[RowVerdict] = field(default_factory=list)

    def add(self, judged: Judged) -> None:
        for each in judged.outgoing:
            self.out.send(each.topic, each.key, each.value)
        self.verdicts += judged.verdicts
        if len(self.verdicts) >= FLUSH_EVERY:
            self.settle()

    def settle(self) -> None:
        self.out.flush()
        self.log.add(self.verdicts)
        self.verdicts.clear()


def import_rows(
    table: Table,
    mapping: ImportMapping,
    log: VerdictLog,
    out: Out,
    *,
    currency: str,
    naming: Naming,
    wall: Clock,
    advance: Callable[[int], None],
) -> Imported:
    """Send what the rows say and log a verdict for each. Raises BrokerAway, after which the same call goes on."""
    imported = Imported(resumed_after=log.done)
    waiting = _Waiting(log, out)
    judged_rows, since = 0, wall.now() - RECENT
    with remembering() as seen:
        judge = Judge(mapping.source, currency, naming, wall, seen)
        for unit in units_of(table, mapping, seen, advance):
            judged = judge.judge(unit)
            judged_rows += len(judged.verdicts)
            if judged.outgoing:
                imported.totals.count(each.event for each in judged.outgoing)
                imported.totals.count_named(unit, {each.column for each in judged.verdicts[0].dropped}, mapping.references)
            if judged_rows <= log.done:
                judged = Judged((), judged.verdicts)
            imported.events += len(judged.outgoing)
            imported.anonymous += sum(not each.event.references for each in judged.outgoing)
            imported.recent += sum(each.event.at > since for each in judged.outgoing)
            waiting.add(judged)
        waiting.settle()
    return imported


def run_import(options: ImportOptions) -> int:
    """Import a file and say what became of it; 1 where a row was refused."""
    settings, wall = settings_of(), WallClock()
    mapping, table = prepare(options, settings.reporting_currency, wall)
    path = options.verdicts or options.file.with_name(f"{options.file.name}.{'dry-run' if options.dry_run else 'verdicts'}.ndjson")
    with (
        _destination(options) as (out, into),
        _progress(options, table) as advance,
        VerdictLog(path, None if options.dry_run else _begun(options, mapping, into)) as log,
    ):
        imported = import_rows(
            table, mapping, log, out, currency=settings.reporting_currency, naming=settings.naming, wall=wall, advance=advance
        )
    print_report(imported, log, options.dry_run, options.as_json)
    return int(any(status is RowStatus.REFUSED for status, _ in log.counts))


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
