"""Read together or one by one, a batch says the same."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.segmentation.decoding import Decoded, Reading, _decode_each, decode
from services.segmentation.domain.names import EMAIL_SENT
from shared.streaming.records import Position, StoredRecord, origin_header

KEY = "0123456789abcdef" * 2
times = st.sampled_from(
    ["2026-01-05T00:00:00Z", "2026-01-05T23:59:59.123999+07:00", "1969-12-31T23:59:59Z", "2100-01-01T00:00:00Z", "soon"]
)
lines = st.lists(st.integers(0, 10**12).map(lambda amount: {"sku": "a", "quantity": 1, "amount_minor": amount}), max_size=3)
purchases = st.builds(
    lambda of, currency: ("dear.PurchaseRecorded", {"lines": of, "currency": currency}), lines, st.sampled_from(["USD", "USD", "THB"])
)
refunds = st.integers(0, 10**12).map(lambda amount: ("dear.PurchaseRefunded", {"amount_minor": amount, "currency": "USD"}))
interactions = st.sampled_from(["CouponRedeemed", "ComplaintMade", "PageViewed"]).map(
    lambda kind: ("dear.InteractionRecorded", {"kind": kind})
)
events = st.builds(
    lambda said, time, indent: json.dumps(
        {
            "specversion": "1.0",
            "id": "1",
            "source": "s",
            "type": said[0],
            "time": time,
            "data": {"reference": "user:1", "store": "1", **said[1]},
        },
        indent=indent,
    ).encode(),
    st.one_of(purchases, purchases, refunds, interactions),
    st.one_of(st.just("2026-01-05T00:00:00Z"), times),
    st.sampled_from([None, None, None, 1]),
)
values = st.one_of(events, events, events, st.sampled_from([None, b"", b"  ", b"{", b"{}\n{}", b"\xff"]))
keys = st.sampled_from([KEY.encode()] * 8 + [None, b"short", b"z" * 32])


def plain(decoded: Decoded) -> tuple[Any, ...]:
    batch = decoded.events
    columns = [getattr(batch, name).tolist() for name in ("ids", "kind", "at_ms", "amount_minor", "lines")]
    return columns, decoded.offsets, decoded.rejects, decoded.rejected_origins


@given(st.lists(st.tuples(keys, values), max_size=6))
def test_a_batch_says_the_same_read_together_or_one_by_one(told: list[tuple[bytes | None, bytes | None]]) -> None:
    records = [StoredRecord(n, 0, key, value, (origin_header(Position("log", 0, n), 0),)) for n, (key, value) in enumerate(told)]
    assert plain(decode(records, Reading("USD"))) == plain(_decode_each(records, Reading("USD")))


def test_silence_about_a_mail_counts_only_where_its_opening_could_have_been_seen() -> None:
    def system_of(**properties: Any) -> str:
        data = {"reference": "email:a@b.c", "kind": "EmailSent", "properties": {"program": "win_back", **properties}}
        event = {
            "specversion": "1.0",
            "id": "1",
            "source": "s",
            "type": "dear.InteractionRecorded",
            "time": "2026-01-05T00:00:00Z",
            "data": data,
        }
        batch = decode([StoredRecord(0, 0, KEY.encode(), json.dumps(event).encode())], Reading("USD")).events
        assert batch.name is not None
        return batch.texts[int(batch.name[0])]

    assert system_of() == system_of(tracked=True) == EMAIL_SENT
    assert system_of(tracked=False) != EMAIL_SENT
