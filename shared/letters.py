"""Dead letters: sealed under the key of whom they are about, found by what they mention, and gone when that one is erased.

Who parks a letter could not read it, so whom it is about is what the record's key names; a letter without a key has a key of its own.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Callable, Iterable, Sequence

import msgspec

from shared.contracts.dead_letters import EventParked
from shared.contracts.envelope import Event
from shared.contracts.topics import DEAD_LETTERS
from shared.mongo import in_store
from shared.streaming.records import Headers, Message, Publish, Record
from shared.vault import Vault

LONGEST_OWNER = 200
"""Bytes: what is longer is no id of ours."""

ReadLetters = Callable[[], AsyncIterator[Sequence[Record]]]
"""Everything that is in dead-letters-v1 now. Raises Unavailable."""
OwnerOf = Callable[[bytes | None], str | None]
"""Whose key a record with this key is sealed under; None where it names nobody."""
IsAbout = Callable[[bytes], bool]
"""Does this text mention somebody?"""


class Content(msgspec.Struct, array_like=True, frozen=True):
    """What a letter keeps for itself: what was wrong, which may quote it, and the record."""

    detail: str
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()

    def texts(self) -> list[bytes]:
        """Everything in it that somebody may have written."""
        return [self.detail.encode(), self.key or b"", self.value or b"", *(value for _, value in self.headers)]


_write = msgspec.msgpack.Encoder().encode
_read = msgspec.msgpack.Decoder(Content).decode


class Letters:
    """What one group has parked. Other groups' letters are closed to it: each seals under keys in its own database."""

    def __init__(self, group: str, vault: Vault, read_letters: ReadLetters, owner_of: OwnerOf | None = None) -> None:
        self._group, self._vault, self._read, self._owner_of = group, vault, read_letters, owner_of or _named_by_key

    async def seal(self, parked: Sequence[EventParked]) -> Sequence[EventParked]:
        """The letters as they are published. Raises Unavailable and MasterKeyMissing."""
        return await in_store(self._sealed, parked)

    def _sealed(self, parked: Sequence[EventParked]) -> list[EventParked]:
        contents = [_content(each) for each in parked]
        owners = [self._owner_of(content.key) or each.name for each, content in zip(parked, contents, strict=True)]
        plain = [(owner, each.name, _write(content)) for owner, each, content in zip(owners, parked, contents, strict=True)]
        return [
            each if text is written else _closed(each, owner, text)
            for each, (owner, _, written), text in zip(parked, plain, self._vault.seal(plain), strict=True)
        ]

    async def about(self, is_about: IsAbout) -> list[EventParked]:
        """The letters that mention somebody, and those that nobody can read any more. Raises Unavailable and MasterKeyMissing."""
        newest: dict[bytes | None, bytes | None] = {}
        async for records in self._read():
            newest.update((record.key, record.value) for record in records)
        letters = [Event[EventParked].model_validate_json(value).data for value in newest.values() if value is not None]
        ours = [each for each in letters if each.group == self._group]
        opened = await in_store(open_letters, self._vault, ours)
        return [each for each, content in zip(ours, opened, strict=True) if content is None or any(map(is_about, content.texts()))]

    async def erase(self, letters: Sequence[EventParked], owners: Iterable[str], publish: Publish) -> None:
        """Take letters away and destroy the keys of these owners, whose letters may lie in copies. Raises Unavailable."""
        of_their_own = [each.name for each in letters if each.sealed_for == each.name]
        # The keys first: whoever dies before the tombstones finds letters that nobody can open, and takes those away.
        await in_store(self._vault.destroy, [*owners, *of_their_own])
        await publish(DEAD_LETTERS, [Message(each.name.encode(), None) for each in letters])


def open_letters(vault: Vault, letters: Sequence[EventParked]) -> list[Content | None]:
    """What letters of one group hold; None where the key was destroyed. Raises MasterKeyMissing."""
    sealed = [(each.sealed_for or "", each.name, b64decode(each.sealed_base64 or "")) for each in letters]
    opened = vault.open(sealed)
    return [
        _content(each) if each.sealed_base64 is None else None if text is None else _read(text)
        for each, text in zip(letters, opened, strict=True)
    ]


def _named_by_key(key: bytes | None) -> str | None:
    """Topics among services are keyed by the ids of profiles and customers."""
    return key.decode(errors="replace") if key and len(key) <= LONGEST_OWNER else None


def _content(letter: EventParked) -> Content:
    headers: Headers = [(name, b64decode(value)) for name, value in letter.headers]
    return Content(letter.detail, _bytes(letter.key_base64), _bytes(letter.value_base64), headers)


def _closed(letter: EventParked, owner: str, text: bytes) -> EventParked:
    empty = {"detail": "", "key_base64": None, "value_base64": None, "headers": ()}
    return letter.model_copy(update={**empty, "sealed_for": owner, "sealed_base64": b64encode(text).decode()})


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else b64decode(text)
