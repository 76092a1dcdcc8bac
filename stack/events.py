"""`dear events send`: events from a file, as a till sends them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from pydantic import ValidationError

from shared.contracts.customers import ConsentChanged, CustomerIdentified
from shared.contracts.envelope import Event, EventData
from shared.contracts.interactions import InteractionRecorded
from shared.contracts.products import ProductPublished
from shared.contracts.purchases import PurchaseRecorded, PurchaseRefunded
from shared.contracts.topics import CUSTOMER_UPDATES, INTERACTIONS, PRODUCTS, PURCHASES, Topic
from shared.kafka_admin import Sender, sender, wait_for_broker
from stack.broker_address import broker_address

WAYS_IN: tuple[Topic, ...] = (PURCHASES, INTERACTIONS, CUSTOMER_UPDATES, PRODUCTS)
FLUSH_EVERY = 5000


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one line; `reason` says what to change."""

    line: int
    accepted: bool
    topic: str | None = None
    id: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A valid event and where it goes."""

    topic: str
    id: str
    key: bytes | None
    value: bytes


class NotAnEvent(ValueError):
    """The line is no event that a till may send; the message says why."""


def read_event(line: bytes, topic_name: str | None = None) -> Outgoing:
    """Validate one CloudEvent and say where it goes. Raises NotAnEvent."""
    try:
        envelope: dict[str, Any] = json.loads(line)
        kind, topic = _kinds(topic_name)[envelope["type"]]
    except ValueError as error:
        raise NotAnEvent(f"not JSON: {error}") from None
    except (KeyError, TypeError):
        raise NotAnEvent(f"`type` is one of {', '.join(sorted(_kinds(topic_name)))}") from None
    try:
        event = Event[kind].model_validate_json(line)  # type: ignore[valid-type]
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()[:3])
        raise NotAnEvent(faults) from None
    return Outgoing(topic.name, event.id, _key(event.data), line.strip())


def _kinds(topic_name: str | None) -> dict[str, tuple[type[EventData], Topic]]:
    ways = [topic for topic in WAYS_IN if topic_name in (None, topic.name)]
    if not ways:
        raise NotAnEvent(f"events go to {', '.join(topic.name for topic in WAYS_IN)}, not to {topic_name}")
    return {kind.event_type: (kind, topic) for topic in ways for kind in topic.carries}


def _key(data: EventData) -> bytes | None:
    """The customer reference that the map keys by; an anonymous sale has none and may lie anywhere."""
    match data:
        case PurchaseRecorded() | PurchaseRefunded() | InteractionRecorded() | ConsentChanged():
            text = data.reference
        case CustomerIdentified():
            text = data.references[0]
        case ProductPublished():
            text = data.sku
        case _:
            raise NotAnEvent(f"{data.event_type} does not come from outside")
    return None if text is None else text.encode()


def send_lines(lines: Iterable[bytes], out: Sender, topic_name: str | None = None) -> Iterator[Verdict]:
    """Send each valid line; verdicts come once the broker has acknowledged what they accept."""
    waiting: list[Verdict] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            event = read_event(line, topic_name)
        except NotAnEvent as error:
            waiting.append(Verdict(number, accepted=False, reason=str(error)))
        else:
            out.send(event.topic, event.key, event.value)
            waiting.append(Verdict(number, accepted=True, topic=event.topic, id=event.id))
        if len(waiting) >= FLUSH_EVERY:
            out.flush()
            yield from waiting
            waiting = []
    out.flush()
    yield from waiting


def send_file(file: Path, topic_name: str | None, data_dir: Path, kafka: str | None, as_json: bool) -> int:
    """Send a file and print the verdicts; 1 where an event was refused."""
    bootstrap = broker_address(data_dir, kafka)
    wait_for_broker(bootstrap, timeout_seconds=5)
    accepted = refused = 0
    with _opened(file) as lines, sender(bootstrap) as out, _progress(file, as_json) as advance:
        for verdict in send_lines(lines, out, topic_name):
            accepted, refused = accepted + verdict.accepted, refused + (not verdict.accepted)
            advance()
            _print(verdict, as_json)
    if not as_json:
        sys.stdout.write(f"{accepted:,} accepted, {refused:,} refused\n")
    return int(refused > 0)


def _print(verdict: Verdict, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps({key: value for key, value in asdict(verdict).items() if value is not None}) + "\n")
    elif not verdict.accepted:
        sys.stdout.write(f"line {verdict.line}: {verdict.reason}\n")


@contextmanager
def _opened(file: Path) -> Iterator[IO[bytes]]:
    if str(file) == "-":
        yield sys.stdin.buffer
        return
    with file.open("rb") as opened:
        yield opened


@contextmanager
def _progress(file: Path, as_json: bool) -> Iterator[Any]:
    """A bar on a terminal; nothing where a program reads."""
    if as_json or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn(str(file)), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("send", total=None)
        yield lambda: progress.advance(task)
