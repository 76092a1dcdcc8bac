"""A key for each customer, by which their own words are sealed at rest. Destroying the key erases, backups included.

Each service keeps keys in its own database, wrapped by a master key that is in none. Without a master key nothing is sealed; what was
written before there was one stays readable, since nothing that is sealed here begins like JSON.
"""

from __future__ import annotations

import hmac
import logging
import os
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from shared.mongo import collection_named, find_by, insert_new, portions
from shared.remembered import Remembered

log = logging.getLogger(__name__)

SEALED = b"\x01"
"""The first byte of what is sealed, and the version of how."""
NONCE_BYTES = 12
CACHED_KEYS = 50_000
"""About 500 bytes each."""
KEYS = "profile_keys"

Texts = Iterable[tuple[str, str, bytes]]
"""Whose key, the text's name, and the text."""


class MasterKeyMissing(Exception):
    """Something is sealed, and the key to its key is not there, or is another one: set DEAR_MASTER_KEY to what it was."""


class Vault:
    """Seals and opens under the keys in one service's database; a bounded number of unwrapped ones is remembered."""

    def __init__(self, database: str, master_key: bytes | None) -> None:
        self._database = database
        self._master = AESGCM(hmac.digest(master_key, b"profile keys", "sha256")) if master_key else None
        self.forget()

    def forget(self) -> None:
        """Let go of all keys: some may have been destroyed."""
        self._keys: Remembered[AESGCM] = Remembered(CACHED_KEYS)

    def seal(self, texts: Texts) -> list[bytes]:
        """Seal texts, making keys for owners that have none. A text's name is bound to it."""
        listed = list(texts)
        if self._master is None:
            return [text for _, _, text in listed]
        keys = self._make_keys({owner for owner, _, _ in listed})
        return [self._sealed(keys[owner], name, text) for owner, name, text in listed]

    def _sealed(self, key: AESGCM, name: str, text: bytes) -> bytes:
        nonce = os.urandom(NONCE_BYTES)
        return SEALED + nonce + key.encrypt(nonce, text, name.encode())

    def open(self, texts: Texts) -> list[bytes | None]:
        """Open texts; None for one whose key was destroyed, or that is another text. Raises MasterKeyMissing."""
        listed = list(texts)
        keys = self._known_keys({owner for owner, _, text in listed if text.startswith(SEALED)})
        return [self._opened(keys.get(owner), owner, name, text) for owner, name, text in listed]

    def _opened(self, key: AESGCM | None, owner: str, name: str, text: bytes) -> bytes | None:
        if not text.startswith(SEALED):
            return text
        try:
            return _decrypted(key, name, text)
        except InvalidTag:
            # Remembered from before it was destroyed, and another was made since; or that is what it was sealed under.
            self.forget()
        try:
            return _decrypted(self._known_keys((owner,)).get(owner), name, text)
        except InvalidTag:
            log.error("a sealed text cannot be opened by the key of its owner")
            return None

    def destroy(self, owners: Iterable[str]) -> int:
        """Destroy the keys of these; returns how many had one."""
        destroyed: int = sum(self._collection.delete_many({"_id": {"$in": some}}).deleted_count for some in portions(owners))
        self.forget()
        return destroyed

    def _make_keys(self, owners: Collection[str]) -> Mapping[str, AESGCM]:
        known = self._known_keys(owners)
        if missing := set(owners) - known.keys():
            insert_new(self._collection, [{"_id": each, "wrapped": self._wrapped(each)} for each in missing])
            # Another process may have been first: what is in the database is the key.
            known = {**known, **self._known_keys(missing)}
        return known

    def _wrapped(self, owner: str) -> bytes:
        assert self._master is not None
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._master.encrypt(nonce, AESGCM.generate_key(256), owner.encode())

    def _known_keys(self, owners: Collection[str]) -> dict[str, AESGCM]:
        found = {owner: key for owner in owners if (key := self._keys.get(owner)) is not None}
        # Whoever forgets meanwhile takes another map: what was read before is not remembered then.
        remembered = self._keys
        if missing := set(owners) - found.keys():
            for each in find_by(self._collection, missing):
                found[each["_id"]] = key = self._unwrapped(each["_id"], bytes(each["wrapped"]))
                remembered.put(each["_id"], key)
        return found

    def _unwrapped(self, owner: str, wrapped: bytes) -> AESGCM:
        if self._master is None:
            raise MasterKeyMissing(f"DEAR_MASTER_KEY is not set, and {self._database} has texts that were sealed under one")
        try:
            return AESGCM(self._master.decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], owner.encode()))
        except InvalidTag as error:
            raise MasterKeyMissing(f"DEAR_MASTER_KEY is not the one that {self._database}'s texts were sealed under") from error

    @property
    def _collection(self) -> Any:
        return collection_named(self._database, KEYS)


def _decrypted(key: AESGCM | None, name: str, text: bytes) -> bytes | None:
    start = len(SEALED) + NONCE_BYTES
    return None if key is None else key.decrypt(text[len(SEALED) : start], text[start:], name.encode())


_in_use: dict[str, Vault] = {}


def use(database: str, master_key: bytes | None) -> Vault:
    """From now on this process seals what is in that database with this master key."""
    _in_use[database] = vault = Vault(database, master_key)
    return vault


def vault_of(database: str) -> Vault:
    """The vault of a database that this process uses."""
    return _in_use.get(database) or use(database, None)
