"""CloudEvents in binary mode: attributes in headers, data in the body, as the same event in structured mode."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import msgspec

from services.identity.domain.reading import invalid, write_json
from services.identity.domain.rejects import Refused, RejectReason

STRUCTURED_PREFIX = "application/cloudevents"
"""What the content type of an event begins with whose attributes are in the body."""
STRUCTURED = "application/cloudevents+json"

_ATTRIBUTES = ("specversion", "id", "source", "type", "time", "sourcetime")
"""What is read; other extensions are let go, as in the body of an event in structured mode."""
_TELLING = ("specversion", "id", "source", "type")
_JSON = re.compile(r"application/(?:[\w.+-]+\+)?json")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")
_PERCENT = re.compile(rb"%([0-9A-Fa-f]{2})")
_raw = msgspec.json.Decoder(msgspec.Raw)


def media_type(content_type: str) -> str:
    """A content type without its parameters."""
    return content_type.partition(";")[0].strip().lower()


def from_http(headers: Iterable[tuple[bytes, bytes]], body: bytes) -> bytes | None:
    """A request in binary mode as an event in CloudEvents' JSON; None where its headers carry no event. Raises Refused."""
    pairs = [(name.decode("latin-1").lower(), value) for name, value in headers]
    return _structured(pairs, "ce-", body, _percent_decoded)


def from_kafka(headers: Iterable[tuple[str, bytes | None]], body: bytes) -> bytes | None:
    """A record in binary mode as an event in CloudEvents' JSON; None where the record is one already. Raises Refused."""
    pairs = [(name.lower(), value or b"") for name, value in headers]
    declared = media_type(_content_type(pairs))
    if declared.startswith(STRUCTURED_PREFIX):
        if declared != STRUCTURED:
            raise invalid("content-type", f"{STRUCTURED} is the only format of events that is read")
        return None
    return _structured(pairs, "ce_", body, _utf8)


Pairs = list[tuple[str, bytes]]


def _structured(pairs: Pairs, prefix: str, body: bytes, read: Callable[[str, bytes], str]) -> bytes | None:
    if not any(name == prefix + each for name, _ in pairs for each in _TELLING):
        return None
    if content_type := media_type(_content_type(pairs)):
        _check_is_json(content_type)
    event: dict[str, object] = {}
    for name, value in pairs:
        attribute = name.removeprefix(prefix)
        if attribute == name or attribute not in _ATTRIBUTES:
            continue
        if attribute in event:
            raise invalid(name, "is there twice")
        event[attribute] = read(name, value)
    return write_json(event | {"data": _data(body)})


def _content_type(pairs: Pairs) -> str:
    return next((_utf8(name, value) for name, value in pairs if name == "content-type"), "")


def _check_is_json(content_type: str) -> None:
    if not _JSON.fullmatch(content_type):
        raise invalid("content-type", "application/json is expected: the data of events is JSON")


def _data(body: bytes) -> msgspec.Raw:
    """One JSON value and nothing after it: what follows would become attributes of the event."""
    try:
        return _raw.decode(body)
    except (ValueError, RecursionError) as error:
        raise Refused(RejectReason.MALFORMED_JSON, f"data: not JSON: {error}" if body else "data: empty") from error


def _utf8(name: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise invalid(name, "UTF-8 is expected") from error


def _percent_decoded(name: str, value: bytes) -> str:
    """As the HTTP binding says: quoted strings are opened, then one round of percent-decoding, strictly UTF-8."""
    try:
        text = value.decode("ascii")
    except UnicodeDecodeError as error:
        raise invalid(name, "characters beyond ASCII are percent-encoded") from error
    opened = _QUOTED.sub(lambda quoted: _ESCAPED.sub(r"\1", quoted[1]), text).encode()
    if opened.count(b"%") != len(_PERCENT.findall(opened)):
        raise invalid(name, "a percent sign is written %25")
    return _utf8(name, _PERCENT.sub(lambda found: bytes.fromhex(found[1].decode()), opened))
