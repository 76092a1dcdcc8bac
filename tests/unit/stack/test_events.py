"""A till's line becomes a record, or is told what is wrong with it."""

import json

import pytest

from stack.events import NotAnEvent, read_event, send_lines


def event(event_type="dear.PurchaseRecorded", **data):
    sale = {"reference": "loyalty_card:1", "store": "s", "currency": "USD", "lines": [{"sku": "a", "quantity": 1, "amount_minor": 100}]}
    body = {"specversion": "1.0", "id": "1", "source": "till", "type": event_type, "time": "2026-01-01T00:00:00Z", "data": {**sale, **data}}
    return json.dumps(body).encode()


class Outbox:
    """Takes what a sender would send."""

    def __init__(self):
        self.sent, self.flushed = [], 0

    def send(self, topic, key, value):
        self.sent.append((topic, key, value))

    def flush(self):
        self.flushed = len(self.sent)


def test_a_purchase_is_keyed_by_its_reference():
    outgoing = read_event(event())
    assert (outgoing.topic, outgoing.key, outgoing.value) == ("purchases-v1", b"loyalty_card:1", event())


def test_an_anonymous_sale_has_no_key():
    assert read_event(event(reference=None)).key is None


@pytest.mark.parametrize(
    ("kind", "data", "topic", "key"),
    [
        ("dear.InteractionRecorded", {"reference": "user:7", "kind": "ProductViewed"}, "interactions-v1", b"user:7"),
        ("dear.CustomerIdentified", {"references": ["email:a@b.c", "user:7"]}, "customer-updates-v1", b"email:a@b.c"),
        ("dear.PurchaseRefunded", {"amount_minor": 5}, "purchases-v1", b"loyalty_card:1"),
        (
            "dear.ConsentChanged",
            {"consents": [{"purpose": "marketing", "channel": "email", "granted": False}]},
            "customer-updates-v1",
            b"loyalty_card:1",
        ),
    ],
)
def test_each_type_goes_where_the_map_says(kind, data, topic, key):
    outgoing = read_event(event(kind, **data))
    assert (outgoing.topic, outgoing.key) == (topic, key)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "not JSON"),
        (b"[]", "`type` is one of"),
        (b'{"type": "dear.Unheard"}', "`type` is one of dear.ConsentChanged"),
        (event(lines=[]), "data.lines"),
        (event(lines=[{"sku": "a", "quantity": 1, "amount_minor": -1}]), "amount_minor"),
        (event(reference="nonsense"), "data.reference"),
        (event().replace(b'"reference": "loyalty_card:1", ', b""), "data.reference: Field required"),
    ],
)
def test_what_is_wrong_is_said(line, reason):
    with pytest.raises(NotAnEvent, match=reason):
        read_event(line)


def test_a_type_that_a_topic_does_not_carry_is_refused_there():
    with pytest.raises(NotAnEvent, match=r"`type` is one of dear\.InteractionRecorded"):
        read_event(event(), "interactions-v1")


def test_a_topic_that_is_no_way_in_is_refused():
    with pytest.raises(NotAnEvent, match="not to scores-v1"):
        read_event(event(), "scores-v1")


def test_neighbours_of_a_bad_line_are_sent_and_nothing_is_accepted_before_it_is_acknowledged():
    out = Outbox()
    verdicts = send_lines([event(), b"nonsense\n", b"\n", event()], out)
    first = next(verdicts)
    assert out.flushed == 2
    assert [(each.line, each.accepted) for each in (first, *verdicts)] == [(1, True), (2, False), (4, True)]
