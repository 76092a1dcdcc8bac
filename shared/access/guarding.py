"""What must be set before a process may listen to more than its own machine."""

from __future__ import annotations

import ipaddress

from shared.operator_error import OperatorError
from shared.settings import Settings


def check_guarded(settings: Settings) -> None:
    """Without anything to check keys by, a service is for this machine only. Raises OperatorError."""
    if settings.pepper is None and not settings.ingest_write_keys and not is_loopback(settings.host):
        raise OperatorError(
            f"It would listen on {settings.host} and could check no key, so anybody could read and send. "
            "Set DEAR_KEY_PEPPER to a secret of your own, the same for every service (openssl rand -hex 32), and make keys with "
            "`dear keys create`; or set DEAR_HOST to 127.0.0.1. With DEAR_INGEST_WRITE_KEYS alone, only the ingest edge opens."
        )


def is_loopback(host: str) -> bool:
    """Can only this machine reach it?"""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
