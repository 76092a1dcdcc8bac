"""What identity is told from outside."""

from __future__ import annotations

import ipaddress
from typing import Annotated

from pydantic import Field

from shared.operator_error import OperatorError
from shared.settings import Settings


class IdentitySettings(Settings):
    """Identity's own choices."""

    port: Annotated[int, Field(ge=1, le=65535)] = 8081
    reference_cache: Annotated[int, Field(ge=1000)] = 100_000
    """How many references a process keeps in memory; about 300 bytes each."""
    ingest_waiting_limit: Annotated[int, Field(ge=1)] = 10_000
    """Events that may wait for the broker in one process; whoever brings more is told to come again (429)."""


def check_ingest_is_guarded(settings: Settings) -> None:
    """An ingest edge without write keys is for this machine only. Raises OperatorError."""
    if settings.ingest_write_keys or _is_loopback(settings.host):
        return
    raise OperatorError(
        f"The ingest edge would listen on {settings.host} without write keys, so anybody could send events. "
        "Set DEAR_INGEST_WRITE_KEYS to one or more keys, or DEAR_HOST to 127.0.0.1."
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
