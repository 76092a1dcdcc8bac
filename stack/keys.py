"""`dear keys`: API keys made, listed and revoked, by asking identity with the credential that the pepper gives."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.access.keys import service_key
from shared.operator_error import OperatorError
from shared.settings import Settings
from stack.data_directory import OPERATOR, DataDirectory
from stack.http import ask, introduce


class NoPepper(OperatorError):
    """Nothing here says who we are."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What `dear keys create` is told."""

    scopes: tuple[str, ...]
    name: str | None
    expires_in_days: float | None
    rate: int | None


def create_key(data_dir: Path, identity: str | None, wanted: Wanted, as_json: bool) -> int:
    """Make a key and show it, this once."""
    asked: dict[str, Any] = {"scopes": list(wanted.scopes)}
    asked |= {name: value for name in ("name", "expires_in_days", "rate") if (value := getattr(wanted, name)) is not None}
    made = ask(f"{_identity(data_dir, identity)}/v1/keys", asked)
    if as_json:
        sys.stdout.write(json.dumps(made) + "\n")
        return 0
    sys.stdout.write(f"{made['key']}\n")
    until = made["expires_at"] or "revoked"
    sys.stderr.write(
        f"{made['name']}: {', '.join(made['scopes'])}; {made['rate']} requests a second; until {until}. It is not shown again.\n"
    )
    return 0


def list_keys(data_dir: Path, identity: str | None, as_json: bool) -> int:
    """Show every key that was ever made, without its secret."""
    keys = ask(f"{_identity(data_dir, identity)}/v1/keys")["keys"]
    if as_json:
        sys.stdout.write(json.dumps(keys) + "\n")
        return 0
    for key in keys:
        state = "active" if key["active"] else f"revoked {key['revoked_at']}" if key["revoked_at"] else "expired"
        until = f"until {key['expires_at']}" if key["expires_at"] else ""
        sys.stdout.write(f"{key['id']}  {key['name']:24}  {state:8}  {key['rate']}/s  {','.join(key['scopes'])}  {until}\n")
    if not keys:
        sys.stdout.write("There are no keys: what listens on this machine only is open to it.\n")
    return 0


def revoke_key(data_dir: Path, identity: str | None, key_id: str, as_json: bool) -> int:
    """End a key."""
    ended = ask(f"{_identity(data_dir, identity)}/v1/keys/{_id(key_id)}", method="DELETE")
    sys.stdout.write(json.dumps(ended) + "\n" if as_json else f"{ended['id']} of {ended['name']} was revoked {ended['revoked_at']}.\n")
    return 0


def _id(text: str) -> str:
    """The id, also of somebody who gives the whole key."""
    return text.split("_")[1] if text.startswith("dear_") and text.count("_") >= 2 else text


def _identity(data_dir: Path, identity: str | None) -> str:
    """Where identity answers; from now on we have a name there. Raises NotRunning and NoPepper."""
    directory = DataDirectory(data_dir)
    url: str = identity.rstrip("/") if identity else directory.read_up()["services"]["identity"]
    if not introduce_operator(directory, [url]):
        raise NoPepper(f"{directory.path} holds no key-pepper: set DEAR_KEY_PEPPER to what the services have, or name their --data-dir.")
    return url


def introduce_operator(directory: DataDirectory, urls: Iterable[str]) -> bool:
    """Give us a name at these addresses; False where nothing here says who we are."""
    pepper = Settings(key_pepper=os.environ.get("DEAR_KEY_PEPPER")).pepper or directory.read_pepper()
    if pepper is not None:
        introduce(urls, service_key(pepper, OPERATOR))
    return pepper is not None
