"""Asking the services over HTTP, as an operator's tool does: small JSON answers, one clear error."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from typing import IO, Any
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
    request = urllib.request.Request(url, data, _headers(url, "application/json"), method=method)  # noqa: S310 - our own address
    try:
        with urllib.request.urlopen(request, timeout=timeout_seconds) as answer:  # noqa: S310
            said = answer.read()
            return json.loads(said) if said else None
    except urllib.error.HTTPError as error:
        raise ServiceAway(f"{url} answered {error.code}: {_detail(error.read())}") from error
    except (OSError, ValueError) as error:
        raise ServiceAway(f"{url} did not answer: {error}") from error


def _headers(url: str, accept: str) -> dict[str, str]:
    headers = {"Content-Type": "application/json", "Accept": accept}
    if credential := _credentials.get(urlsplit(url).netloc):
        headers["Authorization"] = f"Bearer {credential}"
    return headers


def _detail(body: bytes) -> str:
    try:
        return str(json.loads(body)["detail"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace")[:200]


class RowAnswer:
    """A stream of rows: `head` first, then iterate, once. Raises ServiceAway, also in the middle and where the end is missing."""

    def __init__(self, url: str, answer: IO[bytes]) -> None:
        self._url, self._answer = url, answer
        self.head: dict[str, Any] = self._next().get("head", {})

    def __iter__(self) -> Iterator[dict[str, Any]]:
        count = 0
        while "end" not in (row := self._next()):
            count += 1
            yield row
        if row["end"] != count:
            raise ServiceAway(f"{self._url} broke off: {count} rows of {row['end']}")

    def _next(self) -> dict[str, Any]:
        try:
            row: dict[str, Any] = json.loads(self._answer.readline())
        except (OSError, ValueError, HTTPException) as error:
            raise ServiceAway(f"{self._url} broke off: {error}") from error
        return row


@contextmanager
def ask_rows(url: str, body: object = None, timeout_seconds: float = 600.0) -> Iterator[RowAnswer]:
    """GET, or POST where there is a body, of a service's export. Raises ServiceAway."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, _headers(url, "application/x-ndjson"))  # noqa: S310
    try:
        answer = urllib.request.urlopen(request, timeout=timeout_seconds)  # noqa: S310
    except urllib.error.HTTPError as error:
        raise ServiceAway(f"{url} answered {error.code}: {_detail(error.read())}") from error
    except OSError as error:
        raise ServiceAway(f"{url} did not answer: {error}") from error
    with answer:
        yield RowAnswer(url, answer)
