"""CloudEvents in binary mode are the same events as in structured mode."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.identity.domain.cloudevents import from_http, from_kafka
from services.identity.domain.events import SourceEvent, read_event
from services.identity.domain.rejects import Refusal, Refused, RejectReason
from services.identity.intake import read_batch
from shared.clock import WallClock
from shared.contracts.topics import PURCHASES
from shared.streaming.records import Batch, StoredRecord

DATA = {
    "reference": "loyalty_card:42",
    "store": "main street",
    "currency": "USD",
    "lines": [{"sku": "a", "quantity": 1, "amount_minor": 5}],
}
EVENT = {
    "specversion": "1.0",
    "id": "Euro \u20ac \U0001f600",
    "source": "till/1",
    "type": "dear.PurchaseRecorded",
    "time": "2026-03-01T12:00:00+07:00",
    "data": DATA,
}
BODY = json.dumps(DATA).encode()
JSON = ("content-type", b"application/json; charset=utf-8")


def kafka(**change: str | None) -> list[tuple[str, bytes | None]]:
    attributes = {name: value for name, value in EVENT.items() if name != "data"} | change
    return [JSON, *((f"ce_{name}", str(value).encode()) for name, value in attributes.items() if value is not None)]


def http(**change: str) -> list[tuple[bytes, bytes]]:
    attributes = {**EVENT, "id": "Euro%20%E2%82%AC%20%F0%9F%98%80", **change}
    return [
        (b"Content-Type", JSON[1]),
        *((f"Ce-{name}".encode(), str(value).encode()) for name, value in attributes.items() if name != "data"),
    ]


def read(raw: bytes | None) -> SourceEvent:
    event = read_event(raw, "USD")
    assert isinstance(event, SourceEvent), event
    return event


def test_all_modes_keep_the_same_bytes_under_the_same_hash() -> None:
    structured = read(json.dumps(EVENT).encode())
    for binary in (read(from_kafka(kafka(), BODY)), read(from_http(http(), BODY))):
        assert (binary.key, binary.value, binary.content_hash) == (structured.key, structured.value, structured.content_hash)


def test_extensions_are_let_go_as_in_structured_mode() -> None:
    extended = read(json.dumps({**EVENT, "traceparent": "00-1"}).encode())
    assert read(from_kafka([*kafka(), ("ce_traceparent", b"00-1"), ("other", None)], BODY)).content_hash == extended.content_hash


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ('"quoted \\"till\\""', 'quoted "till"'), ("%74ill", "till"), ("a%2525", "a%25"), ("%e2%82%ac", "\u20ac"), ("plain", "plain"),
        ('a"b c"d', "ab cd"),
    ],
)  # fmt: skip
def test_header_values_are_opened_and_decoded_once(written: str, meant: str) -> None:
    assert read(from_http(http(id=written), BODY)).id == meant


@pytest.mark.parametrize("written", [b"%C0%A0", b"%ED%A0%80", b"100%", b"%zz", b"%e2%82", b"\xe9", "\u20ac".encode()])
def test_header_values_that_are_not_utf_8_are_refused(written: bytes) -> None:
    headers = [each for each in http() if each[0] != b"Ce-id"]
    with pytest.raises(Refused) as refused:
        from_http([*headers, (b"ce-id", written)], BODY)
    assert refused.value.refusal.detail.startswith("ce-id: ")


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ([*kafka(id=None), ("ce_id", b"\xff")], "ce_id: UTF-8"),
        ([*kafka(), ("ce_id", b"2")], "ce_id: is there twice"),
        ([("content-type", b"application/avro"), *kafka()[1:]], "content-type: "),
        ([("content-type", b"application/cloudevents+avro")], "content-type: "),
        ([("content-type", b"\xff"), *kafka()[1:]], "content-type: UTF-8"),
    ],
)
def test_bad_headers_of_a_record_are_refused_with_their_name(headers: list[tuple[str, bytes | None]], said: str) -> None:
    with pytest.raises(Refused) as refused:
        from_kafka(headers, BODY)
    assert refused.value.refusal.detail.startswith(said)


@pytest.mark.parametrize("body", [b"", b"{", b'{"reference":null},"type":"dear.InteractionRecorded"', b"{}{}", b"nul", b"[" * 100_000])
def test_a_body_that_is_not_one_value_is_refused(body: bytes) -> None:
    with pytest.raises(Refused) as refused:
        from_kafka(kafka(), body)
    assert refused.value.refusal.reason is RejectReason.MALFORMED_JSON


def test_without_attributes_in_headers_an_event_is_in_the_body() -> None:
    assert from_http([(b"content-type", b"text/plain"), (b"ce-other", b"1")], BODY) is None
    assert from_kafka([("trace", b"1")], BODY) is None
    assert from_kafka([*kafka()[1:], ("Content-Type", b"Application/CloudEvents+JSON; charset=utf-8")], BODY) is None


def test_the_intake_reads_both_modes_and_parks_bad_headers_with_their_reason() -> None:
    structured = json.dumps(EVENT).encode()
    records = [
        StoredRecord(0, 0, None, structured),
        StoredRecord(1, 0, None, BODY, kafka()),  # type: ignore[arg-type]
        StoredRecord(2, 0, None, structured, [("content-type", b"application/cloudevents+json"), ("ce_id", b"\xff")]),
        StoredRecord(3, 0, None, BODY, kafka(type="dear.Unheard")),  # type: ignore[arg-type]
        StoredRecord(4, 0, None, None, kafka()),  # type: ignore[arg-type]
        StoredRecord(5, 0, None, BODY, kafka(source=None)),  # type: ignore[arg-type]
        StoredRecord(6, 0, None, BODY, [*kafka(), ("ce_time", b"")]),  # type: ignore[list-item]
        StoredRecord(7, 0, None, BODY, kafka(time=None)),  # type: ignore[arg-type]
    ]
    intake = read_batch(Batch(PURCHASES.name, "id", 0, records), "USD", (WallClock(),), {})
    assert [each.offset for each in intake.incoming] == [0, 1, 2]
    assert len({each.content_hash for each in intake.incoming}) == 1
    assert [(each.offset, each.reason) for each in intake.rejects] == [
        (3, "unknown_type"), (4, "malformed_json"), (5, "invalid"), (6, "invalid"), (7, "invalid"),
    ]  # fmt: skip


NAMES = st.sampled_from(["ce_id", "ce_source", "ce_type", "ce_time", "ce_specversion", "ce_sourcetime", "content-type", "CE_ID", "x", ""])
VALUES = st.binary(max_size=20) | st.sampled_from(
    [b"1.0", b"dear.PurchaseRecorded", b"2026-03-01T12:00:00Z", b"application/json", b'"a\\', b"%41"]
)


@given(st.lists(st.tuples(NAMES, st.none() | VALUES), max_size=8), st.binary(max_size=60) | st.just(BODY))
def test_no_headers_and_no_body_break_the_reading(headers: list[tuple[str, bytes | None]], body: bytes) -> None:
    as_http: Any = [(name.replace("_", "-").encode(), value or b"") for name, value in headers]
    for translate, given_headers in ((from_kafka, headers), (from_http, as_http)):
        with contextlib.suppress(Refused):
            raw = translate(given_headers, body)
            assert isinstance(read_event(body if raw is None else raw, "USD"), SourceEvent | Refusal)
