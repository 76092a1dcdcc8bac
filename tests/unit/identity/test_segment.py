"""Segment's messages become our events."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.identity.domain.events import SourceEvent, read_event
from services.identity.domain.money import NoAmount, to_minor
from services.identity.domain.rejects import Refusal, Refused
from services.identity.domain.segment import MESSAGE_TYPES, Receipt, translate

HUGE = Decimal("1e999999999")
RECEIVED = datetime(2026, 3, 1, 12, tzinfo=UTC)
ORDER = {
    "type": "track",
    "event": "Order Completed",
    "messageId": "m-1",
    "userId": 7,
    "properties": {
        "affiliation": "web",
        "products": [
            {"product_id": "507f", "sku": "45790-32", "price": Decimal("19.99"), "quantity": 3, "category": "Games"},
            {"sku": "gift", "price": 0},
        ],
    },
}


def translated(message: dict[str, Any], kind: str = "track", sent_at: object = None) -> SourceEvent:
    event = read_event(translate(message, kind, Receipt(RECEIVED, sent_at, "USD")), "USD")
    assert isinstance(event, SourceEvent), event
    return event


def data(event: SourceEvent) -> dict[str, Any]:
    return dict(json.loads(event.value)["data"])


def test_an_order_is_a_purchase_to_the_cent() -> None:
    event = translated(ORDER)
    assert event.type == "dear.PurchaseRecorded"
    assert (event.source, event.id, event.references) == ("segment", "m-1", ("user:7",))
    lines = [(line["sku"], line["quantity"], line["amount_minor"], line["category"]) for line in data(event)["lines"]]
    assert lines == [("45790-32", 3, 5997, "Games"), ("gift", 1, 0, None)]
    assert data(event)["store"] == "web"


def test_the_old_name_of_an_order_is_a_purchase_too() -> None:
    assert translated({**ORDER, "event": "Completed Order"}).type == "dear.PurchaseRecorded"


def test_a_refund_is_a_refund() -> None:
    event = translated({"event": "Order Refunded", "userId": "7", "properties": {"total": "12.50", "currency": "usd"}})
    assert (event.type, data(event)["amount_minor"]) == ("dear.PurchaseRefunded", 1250)


def test_anything_else_is_an_interaction_whose_values_are_all_kept() -> None:
    properties = {"price": Decimal("9.90"), "tags": ["a", {"b": 1}], "seen": True, "note": None}
    event = translated({"event": "Product Viewed", "anonymousId": "dev-1", "properties": properties})
    assert event.references == ("anonymous:dev-1",)
    assert data(event)["properties"] == {"price": "9.90", "tags": '["a",{"b":1}]', "seen": True, "note": None}


def test_an_identify_gathers_references_traits_wishes_and_consents() -> None:
    consents = [{"purpose": "marketing", "channel": "email", "granted": True}]
    traits = {"email": "A@b.c", "phone": "+66 81 234 5678", "loyalty_card": 42, "name": "Ann", "language": "th", "consents": consents}
    event = translated({"userId": "u", "anonymousId": "d", "traits": traits}, "identify")
    assert event.references == ("user:u", "loyalty_card:42", "email:a@b.c", "phone:+66812345678", "anonymous:d")
    assert (data(event)["traits"], data(event)["language"], data(event)["consents"]) == ({"name": "Ann"}, "th", consents)


def test_a_cancelled_order_is_money_given_back_by_its_total_or_by_its_products() -> None:
    properties = {"order_id": "50314b8e", "products": ORDER["properties"]["products"]}  # type: ignore[index]
    for said, minor in (({"total": Decimal("30.00")}, 3000), ({"revenue": 25}, 2500), ({}, 5997)):
        event = translated({"event": "Order Cancelled", "userId": "7", "properties": {**properties, **said}})
        assert (event.type, data(event)["amount_minor"]) == ("dear.PurchaseRefunded", minor)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Product Viewed", "ProductViewed"), ("Viewed Product", "ProductViewed"), ("Checkout Step Viewed", "CheckoutStepViewed"),
        ("Added Product", "ProductAdded"), ("ComplaintMade", "ComplaintMade"),
        ("clicked a button", "clicked a button"), ("3D Seen", "3D Seen"),
    ],
)  # fmt: skip
def test_what_happened_is_spelled_as_our_interactions_are(name: str, kind: str) -> None:
    assert data(translated({"event": name, "userId": "7"}))["kind"] == kind


@pytest.mark.parametrize(("call", "kind"), [("page", "PageViewed"), ("screen", "ScreenViewed")])
def test_a_page_or_screen_is_an_interaction(call: str, kind: str) -> None:
    message = {"anonymousId": "d", "name": "Home", "category": "Docs", "properties": {"url": "https://a.example/", "name": "ignored"}}
    event = translated(message, call)
    assert (event.type, event.references, data(event)["kind"]) == ("dear.InteractionRecorded", ("anonymous:d",), kind)
    assert data(event)["properties"] == {"name": "Home", "category": "Docs", "url": "https://a.example/"}


def test_a_group_makes_the_firm_known_of_the_person_and_changes_nobody() -> None:
    traits = {"name": "Initech", "employees": 329, "plan": {"name": "enterprise"}, "id": "twice"}
    event = translated({"userId": "u", "anonymousId": "d", "groupId": 42, "traits": traits}, "group")
    assert (event.type, event.references) == ("dear.CustomerIdentified", ("user:u", "anonymous:d"))
    firm = {"company": "Initech", "company_id": "42", "company_employees": 329, "company_plan": '{"name":"enterprise"}'}
    assert data(event)["traits"] == firm


@pytest.mark.parametrize(
    ("previous", "reference"),
    [("old", "user:old"), (7, "user:7"), ("5F2E1C0B-7a55-4f3e-9c1d-000000000001", "anonymous:5F2E1C0B-7a55-4f3e-9c1d-000000000001")],
)
def test_an_alias_carries_both_names_of_one_person(previous: object, reference: str) -> None:
    event = translated({"userId": "new", "previousId": previous}, "alias")
    assert (event.type, event.references) == ("dear.CustomerIdentified", ("user:new", reference))


def test_an_alias_without_a_previous_id_means_the_device() -> None:
    assert translated({"userId": "new", "anonymousId": "d"}, "alias").references == ("user:new", "anonymous:d")


@pytest.mark.parametrize(
    ("message", "kind", "said"),
    [
        ({}, "track", "event"),
        ({"event": "Seen"}, "track", "userId"),
        ({"traits": {"name": "Ann"}}, "identify", "userId"),
        ({**ORDER, "properties": {}}, "track", "properties/products"),
        ({**ORDER, "properties": {"products": [{"sku": "a", "price": "x"}]}}, "track", "properties/products/0/price"),
        ({**ORDER, "properties": {"products": [{"sku": "a", "price": Decimal("0.005")}]}}, "track", "properties/products/0/price"),
        ({**ORDER, "properties": {"products": [{"sku": "a", "price": 1, "quantity": 1.5}]}}, "track", "properties/products/0/quantity"),
        ({**ORDER, "properties": {"products": [{"price": 1}]}}, "track", "properties/products/0"),
        ({**ORDER, "properties": []}, "track", "properties"),
        ({**ORDER, "properties": {"products": [{"sku": "a", "price": 1, "quantity": -1}]}}, "track", "properties/products/0/quantity"),
        ({**ORDER, "properties": {"products": [{"sku": "a", "price": 1, "quantity": HUGE}]}}, "track", "properties/products/0/quantity"),
        ({**ORDER, "properties": {"products": [{"sku": "a", "price": HUGE}]}}, "track", "properties/products/0/price"),
        ({"event": "Order Refunded", "userId": 7}, "track", "properties/total"),
        ({"groupId": "g"}, "group", "userId"),
        ({"userId": "u"}, "group", "groupId"),
        ({"userId": "u"}, "alias", "userId and a previousId"),
        ({"previousId": "u"}, "alias", "userId and a previousId"),
        ({"name": "Home"}, "page", "userId"),
        ({"userId": "u", "properties": 1}, "screen", "properties"),
        ({**ORDER, "messageId": {"a": 1}}, "track", "messageId"),
        ({**ORDER, "timestamp": "yesterday"}, "track", "timestamp"),
        ({**ORDER, "timestamp": "2026-03-01T12:00:00"}, "track", "timestamp"),
    ],
)
def test_what_is_wrong_is_said_with_its_path(message: dict[str, Any], kind: str, said: str) -> None:
    with pytest.raises(Refused) as refused:
        translate(message, kind, Receipt(RECEIVED, None, "USD"))
    assert refused.value.refusal.detail.removeprefix("give a ").startswith(said)


def test_the_senders_clock_is_corrected() -> None:
    wrong_by_an_hour = {**ORDER, "timestamp": "2026-03-01T12:59:50Z", "sentAt": "2026-03-01T13:00:00Z"}
    assert translated(wrong_by_an_hour).at == datetime(2026, 3, 1, 11, 59, 50, tzinfo=UTC)


def test_a_retry_with_a_new_sent_at_is_the_same_event() -> None:
    first = translated({**ORDER, "timestamp": "2026-03-01T12:00:00Z"}, sent_at="2026-03-01T12:00:01Z")
    retry = translated({**ORDER, "timestamp": "2026-03-01T12:00:00Z"}, sent_at="2026-03-01T12:05:01Z")
    assert first.at != retry.at
    assert (first.key, first.content_hash) == (retry.key, retry.content_hash)


def test_a_message_without_an_id_has_the_id_of_its_content() -> None:
    nameless = {name: value for name, value in ORDER.items() if name != "messageId"}
    assert translated(nameless).key == translated({**nameless, "sentAt": "2026-03-01T12:00:00Z"}).key
    assert translated(nameless).key != translated({**nameless, "userId": 8}).key


@pytest.mark.parametrize(
    ("amount", "currency", "times", "minor"),
    [("19.99", "USD", 3, 5997), (Decimal("0.1"), "USD", 1, 10), (5, "JPY", 2, 10), ("1.234", "KWD", 1, 1234), ("0.125", "USD", 8, 100)],
)
def test_amounts_are_exact(amount: Any, currency: str, times: int, minor: int) -> None:
    assert to_minor(amount, currency, times) == minor


@pytest.mark.parametrize(
    "amount", ["0.001", "NaN", "Infinity", "1e999999999", "1e-999999999", None, True, 1.5, "x", "1" + "0" * 30, f"1.{'0' * 70}1"]
)
def test_what_is_not_exactly_an_amount_is_refused(amount: Any) -> None:
    with pytest.raises(NoAmount):
        to_minor(amount, "USD")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10) | st.decimals(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
NAMES = ["event", "userId", "anonymousId", "previousId", "groupId", "name", "category", "properties", "traits", "timestamp", "sentAt"]
NAMES += ["messageId", "context"]


@given(st.sampled_from(MESSAGE_TYPES), st.dictionaries(st.sampled_from(NAMES), VALUES), VALUES)
def test_every_message_is_an_event_or_refused_with_a_reason(kind: str, message: dict[str, Any], sent_at: Any) -> None:
    for named in (message, {**ORDER, **message}):
        with contextlib.suppress(Refused):
            read = read_event(translate(named, kind, Receipt(RECEIVED, sent_at, "USD")), "USD")
            assert isinstance(read, Refusal) or read.source == "segment"
