"""API keys: made and shown once, listed without their secrets, revoked; and the roster by which the other services check them."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from services.identity.domain.keys import ACTIVE_MAX, KeyRecord, TooManyActive, revoked, with_key
from services.identity.store import keys as store
from shared.access.audit import current_trail
from shared.access.gate import caller_may, gate_of, needs
from shared.access.keys import ID_BYTES, SECRET_BYTES, Key, Roster, digest_of, presented
from shared.access.scopes import GRANTED, Scope
from shared.clock import Clock
from shared.mongo import in_store
from shared.problems import Problem

RATE = 100
NameOfKey = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]


class NewKey(BaseModel):
    """What a key is to be. Without a name it is named after itself, and has no second one to be replaced by."""

    model_config = ConfigDict(extra="forbid")

    name: NameOfKey | None = None
    scopes: Annotated[list[str], Field(min_length=1)]
    rate: Annotated[int, Field(ge=1, le=1_000_000)] = RATE
    """Requests a second."""
    expires_in_days: Annotated[float, Field(gt=0, le=3660)] | None = None

    @field_validator("scopes")
    @classmethod
    def _known(cls, scopes: list[str]) -> list[str]:
        if unknown := [scope for scope in scopes if scope not in GRANTED]:
            raise ValueError(f"{', '.join(unknown)}: there are {', '.join(GRANTED)}")
        return sorted(set(scopes))


async def roster() -> Roster:
    """Every key that was ever made. Raises Unavailable."""
    return Roster(tuple(_as_told(key) for _, key in await in_store(store.every)))


def _as_told(key: KeyRecord) -> Key:
    return Key(key.id, key.digest, key.scopes, key.rate, key.expires_at, key.revoked_at is not None)


def create_router(pepper: bytes | None, wall: Clock) -> APIRouter:
    """Keys are never made without one, not even where everything else is open: the first comes by the pepper itself."""
    router = APIRouter(prefix="/keys", tags=["keys"])
    guarded = [needs(Scope.KEYS, never_open=True)]

    @router.post("", status_code=201, dependencies=guarded, responses={409: {"description": "The name has two active keys."}})
    async def create(new: NewKey, request: Request) -> dict[str, Any]:
        """Make a key. The answer holds it whole, this once."""
        if pepper is None:
            raise Problem(409, "No pepper", "Set DEAR_KEY_PEPPER, the same for every service, and start again: keys are hashed with it.")
        if lacking := caller_may(request, new.scopes):
            raise Problem(403, "Scope missing", f"scopes: your own key lacks {', '.join(lacking)}, so it cannot give them.")
        key_id, secret = secrets.token_hex(ID_BYTES), secrets.token_hex(SECRET_BYTES)
        record = _record(new, key_id, digest_of(pepper, key_id, secret), _now(wall))
        name = new.name or f"key-{key_id}"
        try:
            await in_store(store.change, name, lambda keys: with_key(keys, record))
        except TooManyActive as full:
            ids = " and ".join(full.ids)
            detail = f"name: {name} has {ACTIVE_MAX} active keys, {ids}; revoke the one that is not used any more, or choose another name."
            raise Problem(409, "Two active keys", detail) from full
        await gate_of(request).keyring.refresh()
        return {**_shown(name, record, record.created_at), "key": presented(key_id, secret)}

    @router.get("", dependencies=guarded)
    async def list_keys() -> dict[str, Any]:
        """Every key that was ever made, without its secret."""
        now = _now(wall)
        return {"keys": [_shown(name, key, now) for name, key in await in_store(store.every)], "scopes": dict(GRANTED)}

    @router.delete("/{key_id}", dependencies=guarded, responses={404: {"description": "There is no such key."}})
    async def revoke(key_id: str, request: Request) -> dict[str, Any]:
        """End a key: in this process at once, in all others within five seconds. It stays in the list."""
        name = await in_store(store.name_of, key_id)
        if name is None:
            raise Problem(404, "No such key", f"There is no key {key_id!r}; GET /v1/keys lists them, by the part between the underscores.")
        now = _now(wall)
        after = await in_store(store.change, name, lambda keys: revoked(keys, key_id, now))
        await gate_of(request).keyring.refresh()
        return next(_shown(name, key, now) for key in after if key.id == key_id)

    @router.get("/roster", dependencies=[needs(Scope.INTERNAL, audited=False)], include_in_schema=False)
    async def tell_roster() -> Response:
        """Ids, keyed hashes and scopes, for services to check keys by themselves."""
        return Response(msgspec.json.encode(await roster()), media_type="application/json")

    return router


def _now(wall: Clock) -> datetime:
    """To the second, so that an answer says what the database will say."""
    return wall.now().replace(microsecond=0)


def _record(new: NewKey, key_id: str, digest: bytes, now: datetime) -> KeyRecord:
    expires_at = now + timedelta(days=new.expires_in_days) if new.expires_in_days is not None else None
    return KeyRecord(key_id, digest, tuple(new.scopes), new.rate, now, current_trail().who, expires_at)


def _shown(name: str, key: KeyRecord, now: datetime) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": name,
        "scopes": list(key.scopes),
        "rate": key.rate,
        "active": key.is_active(now),
        "created_at": key.created_at.isoformat(),
        "created_by": key.created_by,
        "expires_at": key.expires_at.isoformat() if key.expires_at else None,
        "revoked_at": key.revoked_at.isoformat() if key.revoked_at else None,
    }
