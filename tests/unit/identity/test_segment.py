"""Segment's messages become our events."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.identity.domain.events import NAMING, SourceEvent, read_event
from services.identity.domain.money import NoAmount, to_minor
from services.identity.domain.references import Naming
from services.identity.domain.rejects import Refusal, Refused
from services.identity.domain.segment import MESSAGE_TYPES, Receipt, Told, translate
from services.identity.domain.segment_orders import Order, UnknownOrder

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


IDS = map(str, count())


def receipt(sent_at: object = None, naming: Naming = NAMING, received_at: datetime = RECEIVED) -> Receipt:
    return Receipt(received_at, sent_at, "USD", naming, lambda: f"new-{next(IDS)}")


def told(message: dict[str, Any], kind: str = "track", order: Order | None = None, **how: Any) -> Told:
    return translate(message, kind, receipt(**how), order)


def read(raw: bytes) -> SourceEvent:
    event = read_event(raw, "USD")
    assert isinstance(event, SourceEvent), event
    return event


def translated(message: dict[str, Any], kind: str = "track", sent_at: object = None, order: Order | None = None) -> SourceEvent:
    return read(told(message, kind, order, sent_at=sent_at).events[0])


def lines(event: SourceEvent) -> list[tuple[str, int, int]]:
    return [(line.sku, line.quantity, line.amount_minor) for line in event.data.lines]


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


def test_a_cancelled_order_was_worth_what_the_same_words_said_when_it_was_bought() -> None:
    properties = {"order_id": "50314b8e", "products": ORDER["properties"]["products"]}  # type: ignore[index]
    for said, minor in (
        ({"total": Decimal("30.00")}, 3000),
        ({"revenue": 25}, 5997),
        ({}, 5997),
        ({"revenue": 25, "products": None}, 2500),
    ):
        order = {"event": "Order Cancelled", "userId": "7", "properties": {**properties, **said}}
        event, purchase = translated(order), translated({**order, "event": "Order Completed"})
        assert (event.type, data(event)["amount_minor"]) == ("dear.PurchaseRefunded", minor)
        assert sum(line.amount_minor for line in purchase.data.lines) == minor


def test_a_refund_is_of_what_the_message_says_first() -> None:
    properties = {"order_id": "50314b8e", "products": ORDER["properties"]["products"]}  # type: ignore[index]
    for said, minor in (({"total": Decimal("30.00"), "revenue": 1}, 3000), ({"revenue": 25}, 2500), ({}, 5997)):
        event = translated({"event": "Order Refunded", "userId": "7", "properties": {**properties, **said}})
        assert (data(event)["amount_minor"], data(event)["purchase_id"]) == (minor, "order/50314b8e")


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


GROUP = {
    "messageId": "m-9",
    "userId": "u",
    "anonymousId": "d",
    "groupId": 42,
    "traits": {"name": "Initech", "employees": 329, "plan": {"name": "enterprise"}, "id": "twice"},
}


def test_a_group_makes_the_firm_known_of_the_person_and_changes_nobody() -> None:
    event = translated(GROUP, "group")
    assert (event.type, event.references) == ("dear.CustomerIdentified", ("user:u", "anonymous:d"))
    firm = {"company": "Initech", "company_id": "42", "company_employees": 329, "company_plan": '{"name":"enterprise"}'}
    assert data(event)["traits"] == firm


def test_a_group_makes_the_firm_a_customer_of_its_own_with_the_member_as_one_who_decides() -> None:
    context = {"traits": {"name": "Ann", "title": "VP of Engineering", "email": "ann@example.com"}}
    traits = {**GROUP["traits"], "customer_type": "wholesaler", "lead_source": "exhibition", "email": "hello@example.com"}  # type: ignore[dict-item]
    found = told({**GROUP, "traits": traits, "context": context}, "group")
    person, firm = map(read, found.events)
    assert (person.references, found.link) == (("user:u", "anonymous:d"), None)
    assert firm.references == ("user:group/42",)
    assert firm.key != person.key == "segment\x1fm-9"
    assert (firm.data.customer_type, firm.data.lead_source) == ("wholesaler", "exhibition")
    # What the firm is called, it is not found by: in a small one it is the owner's own.
    assert (firm.data.traits["name"], firm.data.traits["email"]) == ("Initech", "hello@example.com")
    [member] = firm.data.decision_makers
    assert (member.person_id, member.name, member.role, member.reference) == ("u", "Ann", "VP of Engineering", "user:u")


def test_a_device_decides_at_no_firm() -> None:
    _, firm = map(read, told({"anonymousId": "d", "groupId": "g"}, "group").events)
    assert (firm.references, firm.data.decision_makers) == (("user:group/g",), ())


def test_our_own_words_among_traits_are_understood_and_a_shops_own_stay_traits() -> None:
    van = {"asset_id": "van-1", "kind": "vehicle"}
    ours = {"line": "U1", "lead_source": "website", "customer_type": "retailer", "preferred_channel": "line", "assets": [van]}
    event = translated({"userId": "u", "traits": ours}, "identify")
    assert event.references == ("user:u", "line:U1")
    assert (event.data.lead_source, event.data.customer_type, event.data.preferred_channel) == ("website", "retailer", "line")
    assert ([asset.asset_id for asset in event.data.assets], event.data.traits) == (["van-1"], {})
    theirs = {"lead_source": "google", "customer_type": 7, "preferred_channel": ["line"], "assets": ["van"], "decision_makers": [{"a": 1}]}
    event = translated({"userId": "u", "traits": theirs}, "identify")
    assert (event.data.lead_source, event.data.customer_type, event.data.assets) == (None, None, ())
    assert event.data.traits == {
        "lead_source": "google", "customer_type": 7, "preferred_channel": '["line"]', "assets": '["van"]', "decision_makers": '[{"a":1}]'
    }  # fmt: skip


SEEN = {"messageId": "m-2", "event": "Seen", "userId": "u", "anonymousId": "d"}


def linked(message: dict[str, Any], kind: str = "track", **how: Any) -> SourceEvent | None:
    link = told(message, kind, **how).link
    return None if link is None else read(link.event())


@pytest.mark.parametrize("kind", ["track", "page", "screen"])
def test_what_one_message_names_together_is_said_to_be_one_person(kind: str) -> None:
    context = {"traits": {"email": "A@b.c", "loyalty_card": "4 2", "line": "U1", "name": "Ann"}}
    link = linked({**SEEN, "context": context}, kind)
    assert link is not None
    assert (link.type, link.source, link.at) == ("dear.CustomerIdentified", "segment", RECEIVED)
    assert link.references == ("user:u", "loyalty_card:42", "email:a@b.c", "line:U1", "anonymous:d")
    assert (link.data.traits, link.data.consents) == ({}, ())
    assert translated({**SEEN, "context": context}, kind).references == ("user:u",)


def test_one_name_or_several_of_which_one_alone_names_somebody_link_nobody() -> None:
    naming = Naming(blocked=frozenset({"anonymous:kiosk"}))
    for message in (
        {**SEEN, "anonymousId": None},
        {**SEEN, "anonymousId": "null"},
        {**SEEN, "anonymousId": "kiosk"},
        {**SEEN, "anonymousId": "", "context": {"traits": {"email": "nobody", "phone": "000"}}},
        {**SEEN, "anonymousId": None, "properties": {"email": "friend@example.com"}},
    ):
        assert linked(message, naming=naming) is None


def test_a_link_is_the_same_event_all_day_whatever_else_is_said() -> None:
    evening = receipt(received_at=RECEIVED + timedelta(hours=9))
    first = linked(SEEN)
    again = translate({**SEEN, "messageId": "m-3", "event": "Bought", "context": {"traits": {"phone": "n/a"}}}, "track", evening).link
    tomorrow = translate(SEEN, "track", receipt(received_at=RECEIVED + timedelta(days=1))).link
    assert first is not None
    assert again is not None
    assert tomorrow is not None
    read_again = read(again.event())
    assert (read_again.key, read_again.content_hash) == (first.key, first.content_hash)
    assert tomorrow.name != again.name


def test_a_phone_in_a_link_is_read_as_in_its_store() -> None:
    naming = Naming("US", {"120": "TH"})
    context = {"traits": {"phone": "081 234 5678"}}
    link = linked({**SEEN, "context": context, "properties": {"store": "120"}}, naming=naming)
    assert link is not None
    assert link.references == ("user:u", "phone:+66812345678", "anonymous:d")


PRODUCTS = [{"sku": "a", "price": 19, "quantity": 1}, {"sku": "b", "price": 3, "quantity": 2}]
WHOLE = {"order_id": "50314b8e", "affiliation": "web", "products": PRODUCTS}


def order(name: str = "Order Completed", message: str = "m-1", **properties: Any) -> dict[str, Any]:
    return {"event": name, "messageId": message, "userId": "u", "properties": properties}


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        ({}, [("a", 1, 1900), ("b", 2, 600)]),
        ({"discount": "2.50"}, [("a", 1, 1710), ("b", 2, 540)]),
        ({"discount": -2.5}, [("a", 1, 1710), ("b", 2, 540)]),
        ({"discount": 100}, [("a", 1, 0), ("b", 2, 0)]),
        ({"discount": 2, "total": 23}, [("a", 1, 1748), ("b", 2, 552)]),
        # Segment's own example: the total is goods less discount, and shipping and tax beside.
        (
            {"total": "27.50", "revenue": 25, "shipping": 3, "tax": 2, "discount": "2.50"},
            [("a", 1, 1710), ("b", 2, 540), ("shipping", 1, 500)],
        ),
        ({"total": 30, "shipping": 3, "tax": 2, "discount": 0}, [("a", 1, 1900), ("b", 2, 600), ("shipping", 1, 500)]),
        # Prices after the discount, and prices with tax.
        ({"total": 25, "discount": "2.50"}, [("a", 1, 1900), ("b", 2, 600)]),
        ({"total": 28, "shipping": 3, "tax": 2, "discount": 0}, [("a", 1, 1900), ("b", 2, 600), ("shipping", 1, 300)]),
        ({"total": 0}, [("a", 1, 0), ("b", 2, 0)]),
        ({"total": 20, "products": [{"sku": "a"}, {"id": 7, "quantity": 3}]}, [("a", 1, 0), ("7", 3, 0), ("unknown", 1, 2000)]),
        ({"revenue": "12.50", "products": []}, [("unknown", 1, 1250)]),
        ({"total": 30, "revenue": 25, "products": None}, [("unknown", 1, 3000)]),
        ({"value": 1, "products": None}, [("unknown", 1, 100)]),
    ],
)
def test_the_lines_of_an_order_are_what_was_paid_to_the_cent(properties: dict[str, Any], expected: list[tuple[str, int, int]]) -> None:
    assert lines(translated(order(**{**WHOLE, **decimals(properties)}))) == expected


def decimals(properties: dict[str, Any]) -> dict[str, Any]:
    return {name: Decimal(str(value)) if isinstance(value, float) else value for name, value in properties.items()}


AMOUNTS = st.integers(0, 10**6).map(lambda minor: Decimal(minor) / 100)


@given(st.lists(AMOUNTS, min_size=1, max_size=5), AMOUNTS, st.tuples(*[st.none() | AMOUNTS] * 3))
def test_whatever_else_an_order_says_its_lines_are_its_total(
    prices: list[Decimal], total: Decimal, rest: tuple[Decimal | None, ...]
) -> None:
    products = [{"sku": str(index), "price": price} for index, price in enumerate(prices)]
    said = dict(zip(("discount", "shipping", "tax"), rest, strict=True))
    event = translated(order(order_id="1", products=products, total=total, **said))
    assert sum(line.amount_minor for line in event.data.lines) == total * 100
    priced = dict(zip(map(str, range(len(prices))), prices, strict=True))
    assert all(line.amount_minor <= priced[line.sku] * 100 for line in event.data.lines if line.sku in priced)


def test_an_order_is_named_by_its_number_whichever_message_tells_of_it_and_when() -> None:
    browser = translated({**order(message="browser", **WHOLE), "timestamp": "2026-03-01T11:00:00Z"}, sent_at="2026-03-01T11:00:05Z")
    server = translated({**order(message="server", **WHOLE), "timestamp": "2026-03-01T11:00:03Z"})
    assert browser.key == server.key == "segment\x1forder/50314b8e"
    assert (browser.content_hash, browser.at == server.at) == (server.content_hash, False)
    assert translated(order(**{**WHOLE, "discount": 1})).content_hash != server.content_hash
    assert translated(order(products=PRODUCTS)).id == "m-1"


def test_what_is_given_back_names_the_purchase_that_the_order_was() -> None:
    purchase = translated(order(**WHOLE))
    refund = translated(order("Order Refunded", "m-5", order_id="50314b8e", total=5))
    assert (refund.id, refund.data.purchase_id, refund.data.amount_minor) == ("m-5", purchase.id, 500)
    assert translated(order("Order Refunded", total=5)).data.purchase_id is None


def test_an_order_is_given_back_whole_once_whichever_message_says_so() -> None:
    known = Order("web", "USD", 2500)
    cancelled = translated(order("Order Cancelled", "m-2", **WHOLE))
    alone = translated(order("Order Cancelled", "m-3", order_id="50314b8e"), order=known)
    refunded = translated(order("Order Refunded", "m-4", order_id="50314b8e"), order=known)
    assert {(each.id, each.data.amount_minor, each.data.purchase_id) for each in (cancelled, alone, refunded)} == {
        ("order/50314b8e/void", 2500, "order/50314b8e")
    }
    assert len({each.content_hash for each in (cancelled, alone, refunded)}) == 1


def test_what_a_message_says_of_the_money_is_not_changed_by_what_is_known_of_the_order() -> None:
    message = order("Order Cancelled", **WHOLE, total=30)
    assert translated(message, order=Order("web", "USD", 2500)).content_hash == translated(message).content_hash


@pytest.mark.parametrize("name", ["Order Refunded", "Order Cancelled"])
def test_a_whole_order_that_nobody_knows_is_asked_for(name: str) -> None:
    with pytest.raises(UnknownOrder) as asked:
        told(order(name, order_id=7))
    assert asked.value.purchase == "order/7"


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
        ({**ORDER, "properties": {"products": 5, "total": 5}}, "track", "properties/products"),
        ({**ORDER, "properties": {"total": -1}}, "track", "properties/total"),
        ({**ORDER, "properties": {"total": 5, "products": [{"sku": "a", "price": -1}]}}, "track", "properties/products/0/price"),
        ({**ORDER, "properties": {"order_id": {}, "total": 5}}, "track", "properties/order_id"),
        ({"event": "Order Refunded", "userId": 7}, "track", "properties/total"),
        ({"event": "Order Refunded", "userId": 7, "properties": {"total": -5}}, "track", "properties/total"),
        ({"event": "Friend Invited", "properties": {"email": "friend@example.com"}}, "track", "userId"),
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
        told(message, kind)
    assert refused.value.refusal.detail.removeprefix("give a ").startswith(said)


def test_the_senders_clock_is_corrected() -> None:
    wrong_by_an_hour = {**ORDER, "timestamp": "2026-03-01T12:59:50Z", "sentAt": "2026-03-01T13:00:00Z"}
    assert translated(wrong_by_an_hour).at == datetime(2026, 3, 1, 11, 59, 50, tzinfo=UTC)


def test_a_retry_with_a_new_sent_at_is_the_same_event() -> None:
    first = translated({**ORDER, "timestamp": "2026-03-01T12:00:00Z"}, sent_at="2026-03-01T12:00:01Z")
    retry = translated({**ORDER, "timestamp": "2026-03-01T12:00:00Z"}, sent_at="2026-03-01T12:05:01Z")
    assert first.at != retry.at
    assert (first.key, first.content_hash) == (retry.key, retry.content_hash)


def test_a_message_without_an_id_has_the_id_of_its_content_where_a_time_tells_it_from_others() -> None:
    nameless = {"userId": "u", "event": "Store Visited", "timestamp": "2026-03-01T12:00:00Z"}
    assert translated(nameless).key == translated({**nameless, "sentAt": "2026-03-01T12:00:00Z"}).key
    assert translated(nameless).key != translated({**nameless, "userId": 8}).key
    assert translated(nameless).key != translated({**nameless, "timestamp": "2026-03-01T12:00:02Z"}).key


def test_two_equal_messages_that_say_neither_name_nor_time_are_two() -> None:
    visit = {"userId": "u", "event": "Store Visited"}
    assert translated(visit).key != translated(visit).key
    assert translated({**visit, "sentAt": "2026-03-01T12:00:00Z"}).key != translated({**visit, "sentAt": "2026-03-01T12:00:00Z"}).key
    assert translated({**visit, "messageId": "m"}).key == translated({**visit, "messageId": "m"}).key


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
EVENTS = ("Order Completed", "Order Refunded", "Order Cancelled", "Product Viewed")
SAID_OF_ORDERS = ("order_id", "products", "total", "revenue", "discount", "shipping", "tax", "currency", "affiliation")
TRAITS = ("email", "phone", "line", "loyalty_card", "lead_source", "customer_type", "assets", "decision_makers", "language", "name")


@given(
    st.sampled_from(MESSAGE_TYPES),
    st.dictionaries(st.sampled_from(NAMES), VALUES),
    st.sampled_from(EVENTS),
    st.dictionaries(st.sampled_from(SAID_OF_ORDERS), VALUES | st.just(PRODUCTS)),
    st.dictionaries(st.sampled_from(TRAITS), VALUES | st.just([{"asset_id": "a", "person_id": "p"}])),
    VALUES,
)
def test_every_message_is_events_or_refused_with_a_reason(
    kind: str, message: dict[str, Any], event: str, properties: dict[str, Any], traits: dict[str, Any], sent_at: Any
) -> None:
    deep = {"event": event, "userId": "u", "groupId": "g", "properties": properties, "traits": traits, "context": {"traits": traits}}
    for named in (message, {**ORDER, **message}, {**deep, **message}, deep):
        with contextlib.suppress(Refused, UnknownOrder):
            found = told(named, kind, sent_at=sent_at)
            for raw in (*found.events, *([found.link.event()] if found.link else [])):
                event_or_not = read_event(raw, "USD")
                assert isinstance(event_or_not, Refusal) or event_or_not.source == "segment"
            if found.link is not None:
                assert len(set(found.link.references)) > 1
