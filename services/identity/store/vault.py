"""A key for each profile, by which what the timeline has of their own words is sealed. Destroying the key erases, backups included.

Keys lie in a collection of their own, wrapped by a master key that is in no database. Without a master key nothing is sealed; what was
written before there was one stays readable, since an event that is not sealed begins like any JSON.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Collection, Iterable, Mapping

import mongoengine as me
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.identity.known import Remembered
from services.identity.store.bulk import collection_of, find_by_ids
from shared.mongo import insert_new, portions

SEALED = b"\x01"
"""The first byte of what is sealed, and the version of how."""
NONCE_BYTES = 12
CACHED_KEYS = 50_000
"""About 500 bytes each."""


class ProfileKeyDocument(me.Document):
    """The key of one profile, wrapped."""

    meta = {"db_alias": "identity", "collection": "profile_keys", "auto_create_index": False}  # noqa: RUF012 - mongoengine's way

    profile = me.StringField(primary_key=True)
    wrapped = me.BinaryField(required=True)


class MasterKeyMissing(Exception):
    """Something is sealed, and the key to its key is not there, or is another one: set DEAR_MASTER_KEY to what it was."""


class Vault:
    """Seals and opens. Keys that were unwrapped are remembered, a bounded number of them."""

    def __init__(self, master_key: bytes | None) -> None:
        self._master = AESGCM(hmac.digest(master_key, b"profile keys", "sha256")) if master_key else None
        self.forget()

    def forget(self) -> None:
        """Let go of all keys: some may have been destroyed."""
        self._keys: Remembered[AESGCM] = Remembered(CACHED_KEYS)

    def seal(self, texts: Iterable[tuple[str, str, bytes]]) -> list[bytes]:
        """Seal texts, each (profile, name of the text, text), making keys for profiles that have none. The name is bound to it."""
        listed = list(texts)
        if self._master is None:
            return [text for _, _, text in listed]
        keys = self._make_keys({profile for profile, _, _ in listed})
        return [self._sealed(keys[profile], name, text) for profile, name, text in listed]

    def _sealed(self, key: AESGCM, name: str, text: bytes) -> bytes:
        nonce = os.urandom(NONCE_BYTES)
        return SEALED + nonce + key.encrypt(nonce, text, name.encode())

    def open(self, texts: Iterable[tuple[str, str, bytes]]) -> list[bytes | None]:
        """Open texts, each (profile, name, text); None for one whose key was destroyed. Raises MasterKeyMissing."""
        listed = list(texts)
        keys = self._known_keys({profile for profile, _, text in listed if text.startswith(SEALED)})
        return [self._opened(keys.get(profile), name, text) for profile, name, text in listed]

    def _opened(self, key: AESGCM | None, name: str, text: bytes) -> bytes | None:
        if not text.startswith(SEALED):
            return text
        start = len(SEALED) + NONCE_BYTES
        return None if key is None else key.decrypt(text[len(SEALED) : start], text[start:], name.encode())

    def _make_keys(self, profiles: Collection[str]) -> Mapping[str, AESGCM]:
        known = self._known_keys(profiles)
        if missing := set(profiles) - known.keys():
            assert self._master is not None
            insert_new(collection_of(ProfileKeyDocument), [{"_id": each, "wrapped": self._wrapped(each)} for each in missing])
            # Another process may have been first: what is in the database is the key.
            known = {**known, **self._known_keys(missing)}
        return known

    def _wrapped(self, profile: str) -> bytes:
        assert self._master is not None
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._master.encrypt(nonce, AESGCM.generate_key(256), profile.encode())

    def _known_keys(self, profiles: Collection[str]) -> dict[str, AESGCM]:
        found = {profile: key for profile in profiles if (key := self._keys.get(profile)) is not None}
        for each in find_by_ids(collection_of(ProfileKeyDocument), set(profiles) - found.keys()):
            found[each["_id"]] = key = self._unwrapped(each["_id"], bytes(each["wrapped"]))
            self._keys.put(each["_id"], key)
        return found

    def _unwrapped(self, profile: str, wrapped: bytes) -> AESGCM:
        if self._master is None:
            raise MasterKeyMissing("DEAR_MASTER_KEY is not set, and the timeline has events that were sealed under one")
        try:
            return AESGCM(self._master.decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], profile.encode()))
        except InvalidTag as error:
            raise MasterKeyMissing("DEAR_MASTER_KEY is not the one that the timeline was sealed under") from error


_in_use = [Vault(None)]


def use(vault: Vault) -> None:
    """From now on this process seals and opens with it; a process has one database, and so one vault."""
    _in_use[0] = vault


def in_use() -> Vault:
    """The vault of this process."""
    return _in_use[0]


def destroy(profiles: Iterable[str]) -> int:
    """Destroy the keys of these profiles; returns how many had one."""
    collection = collection_of(ProfileKeyDocument)
    return sum(collection.delete_many({"_id": {"$in": some}}).deleted_count for some in portions(profiles))
