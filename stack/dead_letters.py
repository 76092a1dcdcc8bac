"""`dear dead-letters`: what a worker set aside, why, and how it gets back into the stream."""

from __future__ import annotations

import json
import sys
from base64 import b64decode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.contracts.dead_letters import EventParked
from shared.contracts.envelope import Event
from shared.contracts.topics import DEAD_LETTERS
from shared.kafka_admin import Sender, read_topic, sender, wait_for_broker
from shared.operator_error import OperatorError
from shared.streaming.records import Headers
from shared.streaming.settling import REPLAY_HEADER, REPLAY_OF_HEADER
from stack.broker_address import broker_address

Letters = Mapping[str, EventParked]
"""By what `list` names them: group/topic id/partition/offset."""


class NoSuchLetter(OperatorError):
    """Nothing is parked under that name."""


class NothingChosen(OperatorError):
    """Neither letters nor options say what is meant."""


def parked(bootstrap: str) -> dict[str, EventParked]:
    """What is parked now: the newest record of each key, without those put back or given up."""
    found: dict[str, EventParked] = {}
    for item in read_topic(bootstrap, DEAD_LETTERS):
        name = (item.record.key or b"").decode(errors="replace")
        if item.record.value is None:
            found.pop(name, None)
        else:
            found[name] = Event[EventParked].model_validate_json(item.record.value).data
    return found


def replay(letters: Letters, out: Sender) -> None:
    """Send each record again, as it was, addressed to the group that parked it; then take the letter away."""
    for letter in letters.values():
        headers = [*original_headers(letter), (REPLAY_HEADER, letter.group.encode()), (REPLAY_OF_HEADER, _first_parked_at(letter))]
        key, value = _bytes(letter.key_base64), _bytes(letter.value_base64)
        out.send(letter.topic, key, value, headers=headers, partition=letter.partition)
    # A letter may only go once the record that it stands for is in the log again.
    out.flush()
    purge(letters, out)


def purge(letters: Iterable[str], out: Sender) -> None:
    """Take letters away."""
    for name in letters:
        out.send(DEAD_LETTERS.name, name.encode(), None)
    out.flush()


def original_headers(letter: EventParked) -> Headers:
    """The record's own headers, without what an earlier replay added."""
    return [(name, b64decode(value)) for name, value in letter.headers if name not in (REPLAY_HEADER, REPLAY_OF_HEADER)]


def _first_parked_at(letter: EventParked) -> bytes:
    """An event that is still wrong is parked again elsewhere, and is still the same event."""
    again = next((b64decode(value) for name, value in letter.headers if name == REPLAY_OF_HEADER), None)
    return again or f"{letter.topic_id}/{letter.partition}/{letter.offset}".encode()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else b64decode(text)


@dataclass(frozen=True, slots=True)
class Choice:
    """Which letters are meant: those named, or all that the rest describes."""

    names: tuple[str, ...] = ()
    group: str | None = None
    reason: str | None = None
    everything: bool = False

    def of(self, letters: Letters) -> dict[str, EventParked]:
        """The letters that are meant. Raises NoSuchLetter and NothingChosen."""
        if missing := [name for name in self.names if name not in letters]:
            raise NoSuchLetter(f"not parked: {', '.join(missing)}. `dear dead-letters list` shows what is.")
        if not self.names and not self.everything and self.group is None and self.reason is None:
            raise NothingChosen("name the letters, or choose them with --group, --reason or --all.")
        return {name: letter for name, letter in letters.items() if self._means(name, letter)}

    def _means(self, name: str, letter: EventParked) -> bool:
        named = not self.names or name in self.names
        return named and self.group in (None, letter.group) and self.reason in (None, letter.reason)


def list_letters(data_dir: Path, kafka: str | None, choice: Choice, as_json: bool) -> int:
    """Print what is parked."""
    letters = choice.of(_parked(data_dir, kafka))
    if as_json:
        sys.stdout.write(json.dumps([_summary(name, letter) for name, letter in letters.items()]) + "\n")
        return 0
    for name, letter in letters.items():
        sys.stdout.write(f"{name}\n  {letter.topic}  {letter.parked_at:%Y-%m-%d %H:%M:%S}  {letter.reason}: {letter.detail}\n")
    sys.stdout.write(f"{len(letters)} parked\n")
    return 0


def show_letter(data_dir: Path, kafka: str | None, name: str) -> int:
    """Print one letter, whole."""
    letter = Choice((name,)).of(_parked(data_dir, kafka))[name]
    headers = {header: value.decode(errors="replace") for header, value in original_headers(letter)}
    body = {**_summary(name, letter), "key": _text(letter.key_base64), "headers": headers, "value": _text(letter.value_base64)}
    sys.stdout.write(json.dumps(body, indent=2, ensure_ascii=False) + "\n")
    return 0


def replay_letters(data_dir: Path, kafka: str | None, choice: Choice, as_json: bool) -> int:
    """Put the chosen letters back into the stream."""
    bootstrap = broker_address(data_dir, kafka)
    letters = choice.of(_parked(data_dir, kafka))
    with sender(bootstrap) as out:
        replay(letters, out)
    return _done("replayed", letters, as_json)


def purge_letters(data_dir: Path, kafka: str | None, choice: Choice, as_json: bool) -> int:
    """Give the chosen letters up."""
    bootstrap = broker_address(data_dir, kafka)
    letters = choice.of(_parked(data_dir, kafka))
    with sender(bootstrap) as out:
        purge(letters, out)
    return _done("purged", letters, as_json)


def _parked(data_dir: Path, kafka: str | None) -> dict[str, EventParked]:
    bootstrap = broker_address(data_dir, kafka)
    wait_for_broker(bootstrap, timeout_seconds=5)
    return parked(bootstrap)


def _summary(name: str, letter: EventParked) -> dict[str, Any]:
    return {"letter": name, **letter.model_dump(mode="json", exclude={"key_base64", "value_base64", "headers"})}


def _text(encoded: str | None) -> str | None:
    return None if encoded is None else b64decode(encoded).decode(errors="replace")


def _done(what: str, letters: Letters, as_json: bool) -> int:
    sys.stdout.write(json.dumps({what: list(letters)}) + "\n" if as_json else f"{len(letters)} {what}\n")
    return 0
