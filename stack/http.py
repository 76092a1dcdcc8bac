"""Asking the services over HTTP, as an operator's tool does: small JSON answers, one clear error."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from shared.operator_error import OperatorError


class ServiceAway(OperatorError):
    """A service did not answer, or answered with a problem; the message names the address and the reason."""


_credentials: dict[str, str] = {}
"""Address -> the credential that is shown there, and nowhere else."""


def introduce(urls: Iterable[str], credential: str) -> None:
    """Show this credential to the services at these addresses from now on."""
    _credentials.update(dict.fromkeys((urlsplit(url).netloc for url in urls), credential))


def ask(url: str, body: object = None, timeout_seconds: float = 30.0, method: str | None = None) -> Any:
    """GET, or POST where there is a body; the JSON answer. Raises ServiceAway."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if credential := _credentials.get(urlsplit(url).netloc):
        headers["Authorization"] = f"Bearer {credential}"
    request = urllib.request.Request(url, data, headers, method=method)  # noqa: S310 - our own address
    try:
        with urllib.request.urlopen(request, timeout=timeout_seconds) as answer:  # noqa: S310
            said = answer.read()
            return json.loads(said) if said else None
    except urllib.error.HTTPError as error:
        raise ServiceAway(f"{url} answered {error.code}: {_detail(error.read())}") from error
    except (OSError, ValueError) as error:
        raise ServiceAway(f"{url} did not answer: {error}") from error


def _detail(body: bytes) -> str:
    try:
        return str(json.loads(body)["detail"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace")[:200]
