"""`dear dead-letters`: what a worker set aside, why, and how it gets back into the stream."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.contracts.dead_letters import EventParked
from shared.contracts.envelope import Event
from shared.contracts.topics import DEAD_LETTERS
from shared.kafka_admin import Sender, read_topic, sender, wait_for_broker
from shared.letters import Content, open_letters
from shared.mongo import connect, disconnect, in_store
from shared.operator_error import OperatorError
from shared.streaming.errors import Unavailable
from shared.streaming.records import Headers
from shared.streaming.settling import REPLAY_HEADER, REPLAY_OF_HEADER
from shared.vault import MasterKeyMissing, Vault
from stack.broker_address import broker_address
from stack.data_directory import DataDirectory, NotRunning

Letters = Mapping[str, EventParked]
"""By what `list` names them: group/topic id/partition/offset."""


class CannotOpen(OperatorError):
    """Letters are sealed, and their keys are not at hand, or destroyed."""


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


@dataclass(frozen=True, slots=True)
class Keys:
    """Where the keys of sealed letters lie, and what unwraps them."""

    mongodb: str | None
    master_key: bytes | None

    def open(self, letters: Letters) -> dict[str, Content]:
        """What the letters hold, without those whose key was destroyed. Raises CannotOpen."""
        opened: dict[str, Content] = {}
        for group in {letter.group for letter in letters.values()}:
            theirs = {name: letter for name, letter in letters.items() if letter.group == group}
            found = zip(theirs, self._open(group, list(theirs.values())), strict=True)
            opened.update((name, content) for name, content in found if content is not None)
        return {name: opened[name] for name in letters if name in opened}

    def _open(self, group: str, letters: list[EventParked]) -> list[Content | None]:
        if all(each.sealed_base64 is None for each in letters):
            return open_letters(Vault(group, None), letters)
        if self.mongodb is None or self.master_key is None:
            raise CannotOpen(f"what {group} parked is sealed: set MONGODB_URI and DEAR_MASTER_KEY to what its workers have.")
        connect(group, self.mongodb)
        try:
            return asyncio.run(in_store(open_letters, Vault(group, self.master_key), letters))
        except Unavailable as away:
            raise CannotOpen(f"what {group} parked cannot be opened: the database does not answer; MONGODB_URI says where it is.") from away
        except MasterKeyMissing as error:
            raise CannotOpen(f"what {group} parked cannot be opened: {error}.") from error
        finally:
            disconnect(group)


def keys_at(data_dir: Path) -> Keys:
    """As the environment says, or else the stack that is up in the data directory."""
    directory = DataDirectory(data_dir)
    mongodb, master_key = os.environ.get("MONGODB_URI"), os.environ.get("DEAR_MASTER_KEY")
    # Where nothing is up, it is only to be hoped that nothing is sealed.
    with suppress(NotRunning):
        mongodb = mongodb or directory.read_up()["mongodb"]
    return Keys(mongodb or None, master_key.strip().encode() if master_key else directory.read_master_key())


def replay(letters: Letters, contents: Mapping[str, Content], out: Sender) -> None:
    """Send each record again, as it was, addressed to the group that parked it; then take the letter away. Raises CannotOpen."""
    if gone := [name for name in letters if name not in contents]:
        raise CannotOpen(f"about somebody who was erased: {', '.join(gone)}. `dear dead-letters purge` gives them up.")
    for name, letter in letters.items():
        content = contents[name]
        again = [(REPLAY_HEADER, letter.group.encode()), (REPLAY_OF_HEADER, _first_parked_at(letter, content))]
        out.send(letter.topic, content.key, content.value, headers=[*original_headers(content), *again], partition=letter.partition)
    # A letter may only go once the record that it stands for is in the log again.
    out.flush()
    purge(letters, out)


def purge(letters: Iterable[str], out: Sender) -> None:
    """Take letters away."""
    for name in letters:
        out.send(DEAD_LETTERS.name, name.encode(), None)
    out.flush()


def original_headers(content: Content) -> Headers:
    """The record's own headers, without what an earlier replay added."""
    return [(name, value) for name, value in content.headers if name not in (REPLAY_HEADER, REPLAY_OF_HEADER)]


def _first_parked_at(letter: EventParked, content: Content) -> bytes:
    """An event that is still wrong is parked again elsewhere, and is still the same event."""
    again = next((value for name, value in content.headers if name == REPLAY_OF_HEADER), None)
    return again or f"{letter.topic_id}/{letter.partition}/{letter.offset}".encode()


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
    """Print what is parked; what was wrong, too, where it can be opened."""
    letters = choice.of(_parked(data_dir, kafka))
    contents: dict[str, Content] = {}
    try:
        contents = keys_at(data_dir).open(letters)
    except CannotOpen as closed:
        sys.stderr.write(f"{closed}\n")
    if as_json:
        sys.stdout.write(json.dumps([_summary(name, letter, contents.get(name)) for name, letter in letters.items()]) + "\n")
        return 0
    for name, letter in letters.items():
        detail = contents[name].detail if name in contents else "(sealed)"
        sys.stdout.write(f"{name}\n  {letter.topic}  {letter.parked_at:%Y-%m-%d %H:%M:%S}  {letter.reason}: {detail}\n")
    sys.stdout.write(f"{len(letters)} parked\n")
    return 0


def show_letter(data_dir: Path, kafka: str | None, name: str) -> int:
    """Print one letter, whole."""
    letters = Choice((name,)).of(_parked(data_dir, kafka))
    content = keys_at(data_dir).open(letters).get(name)
    if content is None:
        raise CannotOpen(f"{name} is about somebody who was erased. `dear dead-letters purge` gives it up.")
    headers = {header: value.decode(errors="replace") for header, value in original_headers(content)}
    body = {**_summary(name, letters[name], content), "key": _text(content.key), "headers": headers, "value": _text(content.value)}
    sys.stdout.write(json.dumps(body, indent=2, ensure_ascii=False) + "\n")
    return 0


def replay_letters(data_dir: Path, kafka: str | None, choice: Choice, as_json: bool) -> int:
    """Put the chosen letters back into the stream."""
    bootstrap = broker_address(data_dir, kafka)
    letters = choice.of(_parked(data_dir, kafka))
    contents = keys_at(data_dir).open(letters)
    with sender(bootstrap) as out:
        replay(letters, contents, out)
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


def _summary(name: str, letter: EventParked, content: Content | None) -> dict[str, Any]:
    plain = letter.model_dump(mode="json", exclude={"detail", "key_base64", "value_base64", "headers", "sealed_for", "sealed_base64"})
    return {"letter": name, **plain, "detail": content.detail if content else None}


def _text(data: bytes | None) -> str | None:
    return None if data is None else data.decode(errors="replace")


def _done(what: str, letters: Letters, as_json: bool) -> int:
    sys.stdout.write(json.dumps({what: list(letters)}) + "\n" if as_json else f"{len(letters)} {what}\n")
    return 0
