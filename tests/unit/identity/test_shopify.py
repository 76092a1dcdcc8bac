"""Shopify's orders and refunds, each counted once, whichever webhook tells of it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.identity.domain.events import SourceEvent, read_event
from services.identity.domain.reading import read_json
from services.identity.domain.rejects import Ignored, IgnoreReason, Refusal, Refused
from services.identity.domain.shopify import (
    Shop,
    Sold,
    Told,
    is_signed,
    on_order_created,
    on_order_updated,
    on_refund_created,
)

SHOP = Shop("ann.myshopify.com", "USD")
CUSTOMER: dict[str, Any] = {
    "id": 7817370206550,
    "email": "ann@example.com",
    "updated_at": "2024-06-24T13:55:18+02:00",
    "first_name": "Ann",
    "last_name": "",
    "phone": None,
    "email_marketing_consent": {"state": "subscribed", "opt_in_level": "single_opt_in", "consent_updated_at": "2024-04-10T20:11:12+02:00"},
    "sms_marketing_consent": None,
    "default_address": {"company": None, "city": "Chiang Mai", "zip": "50000", "country": "Thailand"},
}
ORDER: dict[str, Any] = {
    "id": 6134457074006,
    "test": False,
    "cancelled_at": None,
    "created_at": "2024-06-24T13:55:18+02:00",
    "processed_at": "2024-06-24T13:55:16+02:00",
    "updated_at": "2024-06-24T13:55:28+02:00",
    "currency": "USD",
    "presentment_currency": "EUR",
    "email": "office@example.com",
    "customer_locale": "th-TH",
    "financial_status": "paid",
    "taxes_included": False,
    "total_price": "140.05",
    "customer": CUSTOMER,
    "line_items": [
        {
            "id": 1, "sku": "KRSB", "quantity": 2, "price": "45.01", "variant_id": 47902744052054,
            "discount_allocations": [{"amount": "5.00"}], "tax_lines": [{"price": "4.25"}, {"price": "1.00"}],
        },
        {"id": 2, "sku": "", "quantity": 1, "price": "39.78", "variant_id": 47819215307094, "discount_allocations": [], "tax_lines": []},
    ],
    "refunds": [],
}  # fmt: skip
REFUND: dict[str, Any] = {
    "id": 929361464,
    "order_id": 6134457074006,
    "created_at": "2024-07-01T10:00:00+02:00",
    "processed_at": "2024-07-01T10:00:00+02:00",
    "refund_line_items": [{"quantity": 1, "subtotal": Decimal("45.01"), "total_tax": Decimal("2.13")}],
    "order_adjustments": [{"amount": "-5.00", "tax_amount": "0.00", "kind": "shipping_refund"}],
    "transactions": [
        {"kind": "refund", "status": "success", "amount": "50.00", "currency": "USD"},
        {"kind": "refund", "status": "pending", "amount": "2.14", "currency": "USD"},
        {"kind": "refund", "status": "failure", "amount": "52.14", "currency": "USD"},
        {"kind": "void", "status": "success", "amount": "9.00", "currency": "USD"},
    ],
}
SOLD = Sold(f"user:shopify/{CUSTOMER['id']}")


def read(raws: list[bytes]) -> list[SourceEvent]:
    events = [read_event(raw, "USD") for raw in raws]
    assert all(isinstance(event, SourceEvent) for event in events), events
    return events  # type: ignore[return-value]


def money(told: Told) -> list[SourceEvent]:
    return read(told.money)


def test_an_order_is_a_purchase_to_the_last_cent_of_its_total() -> None:
    [event] = money(on_order_created(ORDER, SHOP))
    assert (event.type, event.source, event.id) == ("dear.PurchaseRecorded", "shopify", "order/6134457074006")
    assert event.references == ("user:shopify/7817370206550",)
    assert event.at.isoformat() == "2024-06-24T11:55:16+00:00"
    assert (event.data.store, event.data.currency) == ("ann.myshopify.com", "USD")
    lines = [(line.sku, line.quantity, line.amount_minor) for line in event.data.lines]
    assert lines == [("KRSB", 2, 9027), ("47819215307094", 1, 3978), ("shipping", 1, 1000)]
    assert sum(amount for _, _, amount in lines) == 14005


def test_taxes_that_prices_include_are_not_added_and_a_lower_total_is_a_discount_on_all() -> None:
    [event] = money(on_order_created({**ORDER, "taxes_included": True, "total_price": "62.40"}, SHOP))
    assert [line.amount_minor for line in event.data.lines] == [4251, 1989]


@pytest.mark.parametrize(
    ("currency", "price", "total", "minor"),
    [
        ("JPY", "1200", "2400", 2400),
        ("JPY", "1200.00", "2400.00", 2400),
        ("KWD", "1.234", "2.468", 2468),
        ("USD", Decimal("0.1"), "0.20", 20),
    ],
)
def test_amounts_are_exact_in_every_currency(currency: str, price: Any, total: str, minor: int) -> None:
    line = {"sku": "a", "quantity": 2, "price": price}
    told = on_order_created({**ORDER, "currency": currency, "total_price": total, "line_items": [line]}, Shop("a", currency))
    event = read_event(told.money[0], currency)
    assert isinstance(event, SourceEvent)
    assert [each.amount_minor for each in event.data.lines] == [minor]


@pytest.mark.parametrize(
    ("change", "reference"),
    [
        ({"customer": None}, "email:office@example.com"),
        ({"customer": None, "email": "", "contact_email": "c@example.com"}, "email:c@example.com"),
        ({"customer": {}, "email": None, "phone": "+66812345678"}, "phone:+66812345678"),
        ({"customer": None, "email": None}, None),
    ],
)
def test_a_guest_is_known_by_what_the_order_was_made_with(change: dict[str, Any], reference: str | None) -> None:
    told = on_order_created({**ORDER, **change}, SHOP)
    assert money(told)[0].references == (() if reference is None else (reference,))
    assert told.customer == []


def test_the_customer_of_an_order_is_identified_and_their_consent_has_its_own_time() -> None:
    identified, consent = read(on_order_created(ORDER, SHOP).customer)
    assert identified.references == ("user:shopify/7817370206550", "email:ann@example.com")
    data = json.loads(identified.value)["data"]
    assert data["traits"] == {"first_name": "Ann", "city": "Chiang Mai", "zip": "50000", "country": "Thailand"}
    assert (data["language"], data["consents"], identified.at.isoformat()) == ("th", [], "2024-06-24T11:55:18+00:00")
    assert (consent.type, consent.at.isoformat()) == ("dear.ConsentChanged", "2024-04-10T18:11:12+00:00")
    assert json.loads(consent.value)["data"] == {
        "reference": "user:shopify/7817370206550",
        "consents": [{"purpose": "marketing", "channel": "email", "granted": True}],
    }


@pytest.mark.parametrize(
    ("state", "granted"),
    [
        ("subscribed", True),
        ("unsubscribed", False),
        ("redacted", False),
        ("not_subscribed", None),
        ("pending", None),
        ("invalid", None),
        (7, None),
    ],
)
def test_only_what_somebody_said_is_a_consent(state: Any, granted: bool | None) -> None:
    customer = {**CUSTOMER, "email_marketing_consent": None}
    customer["sms_marketing_consent"] = {"state": state, "consent_updated_at": "2024-04-10T20:11:12+02:00"}
    _, *consents = read(on_order_created({**ORDER, "customer": customer}, SHOP).customer)
    assert [(each.data.consents[0].channel, each.data.consents[0].granted) for each in consents] == (
        [] if granted is None else [("sms", granted)]
    )


def test_a_consent_without_its_time_is_not_stated() -> None:
    customer = {**CUSTOMER, "email_marketing_consent": {"state": "subscribed", "consent_updated_at": None}}
    assert len(on_order_created({**ORDER, "customer": customer}, SHOP).customer) == 1


def test_a_webhook_delivered_again_says_the_same_and_a_changed_customer_something_new() -> None:
    assert on_order_created(ORDER, SHOP) == on_order_created(dict(reversed(ORDER.items())), SHOP)
    moved = {**CUSTOMER, "updated_at": "2024-06-25T00:00:00Z"}
    before, after = (read(on_order_created({**ORDER, "customer": each}, SHOP).customer) for each in (CUSTOMER, moved))
    assert before[0].key != after[0].key
    assert before[1].key == after[1].key


def test_a_refund_is_what_its_transactions_gave_back() -> None:
    [event] = money(on_refund_created(REFUND, SHOP, SOLD))
    assert (event.type, event.id, event.references) == ("dear.PurchaseRefunded", "refund/929361464", ("user:shopify/7817370206550",))
    assert (event.data.amount_minor, event.data.purchase_id) == (5214, "order/6134457074006")


def test_a_refund_in_the_customers_currency_is_counted_in_the_shops() -> None:
    abroad = [{"kind": "refund", "status": "success", "amount": "48.10", "currency": "EUR"}]
    [event] = money(on_refund_created({**REFUND, "transactions": abroad}, SHOP, None))
    assert (event.data.amount_minor, event.references) == (4501 + 213 + 500, ())
    sets = {"subtotal_set": {"shop_money": {"amount": "40.00"}, "presentment_money": {"amount": "37.00"}}}
    lines = [{**REFUND["refund_line_items"][0], **sets}]
    [event] = money(on_refund_created({**REFUND, "transactions": abroad, "refund_line_items": lines}, SHOP, None))
    assert event.data.amount_minor == 4000 + 213 + 500


@pytest.mark.parametrize(
    "transactions", [[], None, [{"kind": "void", "status": "success", "amount": "5"}], [{**REFUND["transactions"][0], "test": True}]]
)
def test_a_return_without_money_is_no_refund(transactions: Any) -> None:
    with pytest.raises(Ignored) as ignored:
        on_refund_created({**REFUND, "transactions": transactions}, SHOP, SOLD)
    assert ignored.value.reason is IgnoreReason.NO_MONEY


def test_an_update_tells_of_a_refund_as_the_refund_itself_does() -> None:
    [told] = money(on_order_updated({**ORDER, "financial_status": "partially_refunded", "refunds": [REFUND]}, SHOP, SOLD))
    [itself] = money(on_refund_created(REFUND, SHOP, SOLD))
    assert (told.key, told.content_hash) == (itself.key, itself.content_hash)


@pytest.mark.parametrize("status", ["paid", "pending", "authorized", "partially_paid", "partially_refunded", "refunded", None, 7])
def test_an_update_of_an_order_that_goes_on_changes_no_money(status: Any) -> None:
    changed = {**ORDER, "financial_status": status, "total_price": "1.00", "line_items": []}
    assert on_order_updated(changed, SHOP, SOLD).money == []


@pytest.mark.parametrize(
    ("status", "over"),
    [("pending", True), ("authorized", True), ("voided", True), ("paid", False), ("refunded", False), ("partially_refunded", False)],
)
def test_a_cancelled_order_is_taken_back_where_it_was_never_paid(status: str, over: bool) -> None:
    cancelled = {
        **ORDER,
        "financial_status": status,
        "cancelled_at": "2024-06-25T08:00:00+02:00",
        "refunds": [{**REFUND, "transactions": []}],
    }
    told = [(each.id, each.data.amount_minor, each.data.purchase_id) for each in money(on_order_updated(cancelled, SHOP, SOLD))]
    assert told == ([("order/6134457074006/void", 14005, "order/6134457074006")] if over else [])


def test_every_later_update_takes_the_order_back_in_the_same_words() -> None:
    voided = {**ORDER, "financial_status": "voided"}
    later = [voided, {**voided, "updated_at": "2024-06-26T00:00:00Z"}, {**voided, "cancelled_at": "2024-06-25T08:00:00Z"}]
    assert len({(event.key, event.content_hash) for each in later for event in money(on_order_updated(each, SHOP, SOLD))}) == 1


def test_an_update_that_says_nothing_is_ignored_and_so_are_test_orders() -> None:
    for handle, order, reason in (
        (lambda order: on_order_updated(order, SHOP, None), {**ORDER, "customer": None}, IgnoreReason.NO_CHANGE),
        (lambda order: on_order_updated(order, SHOP, None), {**ORDER, "test": True}, IgnoreReason.TEST),
        (lambda order: on_order_created(order, SHOP), {**ORDER, "test": True}, IgnoreReason.TEST),
        (lambda order: on_order_created(order, SHOP), {**ORDER, "line_items": [], "total_price": "0.00"}, IgnoreReason.NO_SALE),
    ):
        with pytest.raises(Ignored) as ignored:
            handle(order)
        assert ignored.value.reason is reason


LINE = ORDER["line_items"][0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"id": None}, "order id"),
        ({"line_items": [7]}, "line_items/0"),
        ({"line_items": [{**LINE, "quantity": -1}]}, "line_items/0/quantity"),
        ({"line_items": [{**LINE, "quantity": Decimal("1e999999999")}]}, "line_items/0/quantity"),
        ({"line_items": [{**LINE, "price": "1.0005"}]}, "line_items/0/price"),
        ({"line_items": [{**LINE, "price": None}]}, "line_items/0/price"),
        ({"line_items": [{**LINE, "discount_allocations": [{"amount": "x"}]}]}, "line_items/0/discount_allocations/amount"),
        ({"total_price": None}, "total_price"),
        ({"processed_at": "yesterday"}, "created_at"),
        ({"customer": "Ann"}, "customer"),
    ],
)
def test_what_is_wrong_is_said_with_its_path(change: dict[str, Any], said: str) -> None:
    with pytest.raises(Refused) as refused:
        on_order_created({**ORDER, **change}, SHOP)
    assert refused.value.refusal.detail.startswith(said)


def test_a_signature_fits_one_of_the_secrets_and_the_very_bytes() -> None:
    body = b'{"id": 1}'
    signature = base64.b64encode(hmac.new(b"new", body, hashlib.sha256).digest()).decode()
    assert is_signed(body, signature, ("old", "new"))
    assert not is_signed(body, signature, ("old",))
    assert not is_signed(body, signature, ())
    assert not is_signed(b'{"id":1}', signature, ("new",))
    for wrong in ("", "x", signature[:-1], signature + "=", "\u00e9"):
        assert not is_signed(body, wrong, ("new",))


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    | st.decimals()
    | st.sampled_from(["4.89", "2024-06-24T13:55:28Z", "refund"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "amount", "price", "kind", "state"]), inner, max_size=3)
    ),
    max_leaves=5,
)
HANDLERS: list[Callable[[Any], Told]] = [
    lambda found: on_order_created(found, SHOP),
    lambda found: on_order_updated(found, SHOP, None),
    lambda found: on_refund_created(found, SHOP, SOLD),
]


def changed(whole: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(sorted(whole)), VALUES, max_size=3).map(lambda change: {**whole, **change})


ORDERS = st.builds(
    lambda order, customer, line, refund: {**order, "customer": customer, "line_items": [line], "refunds": [refund]},
    *(changed(whole) for whole in (ORDER, CUSTOMER, LINE, REFUND)),
)


@given(st.sampled_from(HANDLERS), ORDERS | changed(ORDER) | changed(REFUND) | st.dictionaries(st.sampled_from(sorted(ORDER)), VALUES))
def test_every_webhook_is_events_or_has_a_reason_why_not(handle: Callable[[Any], Told], found: dict[str, Any]) -> None:
    with contextlib.suppress(Refused, Ignored):
        told = handle(found)
        assert all(isinstance(read_event(raw, "USD"), SourceEvent | Refusal) for raw in (*told.money, *told.customer))


@pytest.mark.parametrize("depth", [400, 900])
def test_deep_nesting_ends_in_a_reason(depth: int) -> None:
    nested = b'{"id": 1, "refunds": ' + b"[" * depth + b"]" * depth + b"}"
    for handle in HANDLERS:
        with contextlib.suppress(Refused, Ignored):
            assert handle(read_json(nested))
