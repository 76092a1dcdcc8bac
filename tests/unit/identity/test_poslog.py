"""What tills write into their journals becomes purchases and refunds."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.identity.domain.events import SourceEvent, read_event
from services.identity.domain.poslog import Stores, transactions, translate
from services.identity.domain.reading import read_json
from services.identity.domain.rejects import Ignored, IgnoreReason, Refusal, Refused, RejectReason

STORES = Stores({"120": ZoneInfo("Asia/Bangkok"), "berlin": ZoneInfo("Europe/Berlin")}, ZoneInfo("UTC"), "USD")
CHOCOLATE = {
    "VoidFlag": "false",
    "SequenceNumber": "1",
    "Sale": {
        "ItemType": "Stock",
        "ItemID": "CA7865",
        "MerchandiseHierarchy": [
            {"Level": "Department", "Value": "Confectionary"},
            {"Level": "SubDepartment", "Value": "Chocolates"},
            {"Level": "Class", "Value": "Bars"},
        ],
        "UnitCostPrice": "1.23",
        "ActualSalesUnitPrice": "1.63",
        "ExtendedAmount": "4.89",
        "Quantity": "3",
    },
}
CASH = {"Tender": {"TenderType": "Cash", "TypeCode": "Sale", "Amount": "4.89"}, "SequenceNumber": "2"}
BACK = {"Return": {"ItemID": "CA7865", "ExtendedAmount": "1.63", "Quantity": "1"}}
HEADER = {
    "BusinessUnit": {"ID": "120", "Name": "eStore"},
    "WorkstationID": "POS5",
    "SequenceNumber": "4294967295",
    "BusinessDayDate": "2001-08-13",
    "EndDateTime": "2001-08-13T09:05:00",
    "CurrencyCode": "USD",
}
KEY = "120/POS5/2001-08-13/4294967295"


def till(*lines: Any, **more: Any) -> dict[str, Any]:
    """A transaction; `more` are fields of its header, a None takes one away."""
    header = {name: value for name, value in {**HEADER, **more}.items() if value is not None}
    return {**header, "RetailTransaction": {"LineItem": list(lines)}}


def read(transaction: Any) -> list[SourceEvent]:
    events = [read_event(raw, "USD") for raw in translate(transaction, STORES)]
    assert all(isinstance(event, SourceEvent) for event in events), events
    return events  # type: ignore[return-value]


def only(transaction: Any) -> tuple[SourceEvent, dict[str, Any]]:
    [event] = read(transaction)
    return event, json.loads(event.value)["data"]


def test_a_sale_is_a_purchase_under_the_key_of_the_journal() -> None:
    event, data = only(till(CHOCOLATE, CASH))
    assert (event.type, event.source, event.id, event.references) == ("dear.PurchaseRecorded", "poslog", KEY, ())
    assert data == {
        "reference": None, "store": "120", "currency": "USD",
        "lines": [{
            "sku": "CA7865", "quantity": 3, "amount_minor": 489,
            "department": "Confectionary", "category": "Chocolates", "unit_cost_minor": 123,
        }],
    }  # fmt: skip


def test_the_smallest_document_of_the_standard_is_enough_but_for_its_time() -> None:
    line = {"Sale": {"ItemType": "Stock", "POSIdentity": {"POSItemID": "0123"}, "ExtendedAmount": "4.89"}, "SequenceNumber": "1"}
    smallest = {**till(line, CurrencyCode=None, BusinessDayDate=None), "RetailTransaction": {"LineItem": line}}
    event, data = only(smallest)
    assert event.id == KEY
    assert data["lines"] == [
        {"sku": "0123", "quantity": 1, "amount_minor": 489, "department": None, "category": None, "unit_cost_minor": None}
    ]


def test_the_header_may_stand_beside_the_lines_too() -> None:
    inside = {"MessageId": "1", "RetailTransaction": {**HEADER, "LineItem": [CHOCOLATE]}}
    assert only(inside)[0].content_hash == only(till(CHOCOLATE))[0].content_hash


def test_two_tills_days_and_stores_have_the_same_number_and_different_names() -> None:
    others = [{"WorkstationID": "POS6"}, {"BusinessDayDate": "2001-08-14"}, {"BusinessUnit": "121"}, {"SequenceNumber": 4294967296}]
    tricky = [{"BusinessUnit": "1/2", "WorkstationID": "3"}, {"BusinessUnit": "1", "WorkstationID": "2/3"}]
    assert len({only(till(CHOCOLATE, **more))[0].key for more in ({}, *others, *tricky)}) == 7


@pytest.mark.parametrize(
    ("written", "store", "at"),
    [
        ("2001-08-13T09:05:00", "120", "2001-08-13T02:05:00+00:00"),
        ("2001-08-13T09:05:00", "elsewhere", "2001-08-13T09:05:00+00:00"),
        ("2001-08-13T09:05:00.250", "120", "2001-08-13T02:05:00.250000+00:00"),
        ("2001-08-13T09:05:00Z", "120", "2001-08-13T09:05:00+00:00"),
        ("2001-08-13T09:05:00-05:00", "120", "2001-08-13T14:05:00+00:00"),
        ("2026-10-25T02:30:00", "berlin", "2026-10-25T00:30:00+00:00"),  # Twice: the first.
        ("2026-10-25T02:30:00+01:00", "berlin", "2026-10-25T01:30:00+00:00"),
        ("2026-03-29T02:30:00", "berlin", "2026-03-29T01:30:00+00:00"),  # Never: by the offset before the change.
        ("1970-01-01T00:00:00", "elsewhere", "1970-01-01T00:00:00+00:00"),
    ],
)
def test_a_till_without_a_zone_has_its_stores(written: str, store: str, at: str) -> None:
    event, _ = only(till(CHOCOLATE, EndDateTime=written, BusinessUnit={"ID": store}))
    assert event.at == datetime.fromisoformat(at)
    assert event.at.tzinfo is UTC


def test_a_zone_set_otherwise_later_makes_no_other_event_of_a_repeat() -> None:
    elsewhere = Stores({}, ZoneInfo("Asia/Tokyo"), "USD")
    [first], [again] = (translate(till(CHOCOLATE), stores) for stores in (STORES, elsewhere))
    one, two = read_event(first, "USD"), read_event(again, "USD")
    assert isinstance(one, SourceEvent)
    assert isinstance(two, SourceEvent)
    assert one.at != two.at
    assert one.content_hash == two.content_hash


@pytest.mark.parametrize(
    ("found", "reference"),
    [
        ({"LoyaltyAccount": {"LoyaltyAccountID": "42"}}, "loyalty_card:42"),
        ({"LoyaltyAccount": [{"CustomerID": "c", "LoyaltyAccountID": {"value": 42}}]}, "loyalty_card:42"),
        ({"LoyaltyAccount": "42", "Customer": {"CustomerID": "7"}}, "loyalty_card:42"),
        ({"Customer": {"CustomerID": "7", "LoyaltyAccount": {"CardNumber": "42"}}}, "loyalty_card:42"),
        ({"Customer": [{"CustomerID": "7"}]}, "user:poslog/7"),
        ({"Customer": {}, "LoyaltyAccount": []}, None),
        ({}, None),
    ],
)
def test_the_loyalty_account_says_whose_it_is(found: dict[str, Any], reference: str | None) -> None:
    transaction = till(CHOCOLATE)
    transaction["RetailTransaction"].update(found)
    assert only(transaction)[0].references == (() if reference is None else (reference,))


@pytest.mark.parametrize(
    ("transaction", "said"),
    [
        ({}, "RetailTransaction: is expected, spelled so; the transaction has nothing"),
        ({"Foo": 1}, "RetailTransaction: is expected, spelled so; the transaction has 'Foo'"),
        ({**HEADER, "retailTransaction": {"LineItem": [CHOCOLATE]}}, "RetailTransaction: is expected, spelled so; the transaction has"),
        ({**HEADER, "RetailTransaction": None}, "RetailTransaction: is expected"),
        (
            {**HEADER, "RetailTransaction": {"lineItem": [CHOCOLATE]}},
            "RetailTransaction/LineItem: is expected, spelled so; the transaction",
        ),
        (till({"SequenceNumber": "1", "sale": {}}), "LineItem/0: a Sale, Return, Tender or the like is expected, spelled so; it has"),
    ],
)
def test_what_nothing_here_knows_is_refused_and_never_taken_for_silence(transaction: Any, said: str) -> None:
    with pytest.raises(Refused) as refused:
        translate(transaction, STORES)
    assert (refused.value.refusal.reason, refused.value.refusal.detail[: len(said)]) == (RejectReason.INVALID, said)


def test_a_wrong_export_is_told_what_it_has_and_not_at_length() -> None:
    with pytest.raises(Refused) as refused:
        translate({f"field {number}{'x' * 100}": number for number in range(20)}, STORES)
    assert "'field 0" in refused.value.refusal.detail
    assert refused.value.refusal.detail.endswith("…")
    assert len(refused.value.refusal.detail) < 600


@pytest.mark.parametrize(("customer", "reference"), [("loyalty_card:", "loyalty_card:7"), ("user:", "user:7"), ("user:crm/", "user:crm/7")])
def test_what_a_tills_customer_number_is_can_be_said(customer: str, reference: str) -> None:
    stores = Stores({}, ZoneInfo("UTC"), "USD", customer)
    [raw] = translate({**till(CHOCOLATE), "Customer": {"CustomerID": "7"}}, stores)
    event = read_event(raw, "USD")
    assert isinstance(event, SourceEvent)
    assert event.references == (reference,)


@pytest.mark.parametrize("number", ["0", "0000", "null", "GUEST", "walk-in"])
def test_a_customer_number_that_stands_for_nobody_is_nobodys(number: str) -> None:
    assert only({**till(CHOCOLATE), "Customer": {"CustomerID": number}})[0].references == ()


@pytest.mark.parametrize("flag", [True, "true", " TRUE "])
def test_a_voided_line_does_not_count(flag: object) -> None:
    _, data = only(till(CHOCOLATE, {**CHOCOLATE, "VoidFlag": flag}))
    assert len(data["lines"]) == 1


@pytest.mark.parametrize(
    ("transaction", "reason"),
    [
        (till(CHOCOLATE, CancelFlag="true"), IgnoreReason.NOT_CONCLUDED),
        (till(CHOCOLATE, SuspendedFlag=True), IgnoreReason.NOT_CONCLUDED),
        (till(CHOCOLATE, TransactionStatus="Suspended"), IgnoreReason.NOT_CONCLUDED),
        (till(CHOCOLATE, TrainingModeFlag="true"), IgnoreReason.TRAINING),
        (till({**CHOCOLATE, "VoidFlag": True}), IgnoreReason.NO_SALE),
        (till(CASH), IgnoreReason.NO_SALE),
        ({"ControlTransaction": {"SignOn": {}}}, IgnoreReason.NO_SALE),
        ({"TenderControlTransaction": {"PaidIn": {}}}, IgnoreReason.NO_SALE),
        (till(), IgnoreReason.NO_SALE),
        (till({"LoyaltyReward": {}, "SequenceNumber": "1"}, {"Fee": {"Amount": "1.00"}}), IgnoreReason.NO_SALE),
        ({"Foo": 1, "TrainingModeFlag": True}, IgnoreReason.TRAINING),
    ],
)
def test_what_sold_nothing_is_no_event(transaction: Any, reason: IgnoreReason) -> None:
    with pytest.raises(Ignored) as ignored:
        translate(transaction, STORES)
    assert ignored.value.reason is reason


@pytest.mark.parametrize("amount", ["1.63", "-1.63", Decimal("1.63"), {"Amount": "-1.63", "Currency": "USD"}])
def test_what_comes_back_is_a_refund_whatever_its_sign(amount: Any) -> None:
    back = {"Return": {**BACK["Return"], "ExtendedAmount": amount, "Quantity": "-1"}}
    sale, money = read(till(CHOCOLATE, back))
    assert (sale.type, sale.id) == ("dear.PurchaseRecorded", KEY)
    assert (money.type, money.id, money.data.amount_minor) == ("dear.PurchaseRefunded", f"{KEY}/returned/1", 163)


def test_a_return_names_the_purchase_that_the_till_links_it_to() -> None:
    link = {"WorkstationID": "POS1", "BusinessDayDate": "2001-08-01", "SequenceNumber": 7}
    linked = {"Return": {**BACK["Return"], "TransactionLink": link}}
    events = read(till(linked, BACK, linked))
    assert [(each.data.purchase_id, each.data.amount_minor) for each in events] == [("120/POS1/2001-08-01/7", 326), (None, 163)]


def test_a_sale_voided_afterwards_is_given_back() -> None:
    link = {"ReasonCode": "Post Void", "WorkstationID": "POS5", "BusinessDayDate": "2001-08-13", "SequenceNumber": 4294967294}
    event, data = only(till(CHOCOLATE, TransactionLink=link))
    assert (event.id, data["amount_minor"], data["purchase_id"]) == (f"{KEY}/voided", 489, "120/POS5/2001-08-13/4294967294")
    event, data = only(till(CHOCOLATE, TransactionStatus="PostVoided"))
    assert (event.id, data["amount_minor"], data["purchase_id"]) == (f"{KEY}/voided", 489, KEY)


def test_a_discount_on_the_whole_is_spread_over_the_lines() -> None:
    cheap = {"Sale": {"ItemID": "b", "ExtendedAmount": "5.11"}}
    _, data = only(till(CHOCOLATE, cheap, {"Discount": {"Amount": "-1.00"}}, {"Discount": {"Amount": "9"}, "VoidFlag": "true"}))
    assert [line["amount_minor"] for line in data["lines"]] == [440, 460]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"Quantity": "0.453"}, {"quantity": 1}),
        ({"Quantity": {"Quantity": "2", "UnitOfMeasureCode": "EA"}}, {"quantity": 2}),
        ({"ExtendedAmount": None}, {"amount_minor": 489}),
        ({"UnitCostPrice": "1.2345"}, {"unit_cost_minor": None}),
        ({"UnitCostPrice": "free"}, {"unit_cost_minor": None}),
        ({"ItemID": None, "Item": {"ID": 5}}, {"sku": "5"}),
        ({"ItemID": None}, {"sku": "Confectionary"}),
        ({"MerchandiseHierarchy": {"Level": "Department", "Value": "Soft Drinks"}}, {"department": "Soft Drinks", "category": None}),
    ],
)
def test_lines_are_read_as_tills_write_them(change: dict[str, Any], line: dict[str, Any]) -> None:
    _, data = only(till({"Sale": {**CHOCOLATE["Sale"], **change}}))  # type: ignore[dict-item]
    assert line.items() <= data["lines"][0].items()


SALE: Any = CHOCOLATE["Sale"]


@pytest.mark.parametrize(
    ("transaction", "said"),
    [
        (7, "a JSON object"),
        (till(CHOCOLATE, BusinessUnit=None), "BusinessUnit/ID"),
        (till(CHOCOLATE, WorkstationID=None), "WorkstationID"),
        (till(CHOCOLATE, SequenceNumber=None), "SequenceNumber"),
        (till(CHOCOLATE, BusinessDayDate="13/8/2001"), "BusinessDayDate"),
        (till(CHOCOLATE, EndDateTime="2001-08-13"), "EndDateTime"),
        (till(CHOCOLATE, EndDateTime=None), "EndDateTime"),
        (till(CHOCOLATE, EndDateTime="9999-12-31T23:59:59-14:00"), "EndDateTime"),
        (till(CHOCOLATE, CancelFlag="perhaps"), "CancelFlag"),
        (till("line"), "LineItem/0"),
        (till({"Sale": "chocolate"}), "LineItem/0/Sale"),
        (till(CASH, {"Sale": {**SALE, "ExtendedAmount": "-4.89"}}), "LineItem/1/Sale/ExtendedAmount"),
        (till({"Sale": {**SALE, "ExtendedAmount": "4.891"}}), "LineItem/0/Sale/ExtendedAmount"),
        (till({"Sale": {**SALE, "ExtendedAmount": Decimal("1e999999999")}}), "LineItem/0/Sale/ExtendedAmount"),
        (till({"Sale": {**SALE, "ExtendedAmount": {"Amount": "1", "Currency": "EUR"}}}), "LineItem/0/Sale/ExtendedAmount"),
        (till({"Sale": {"ItemID": "a"}}), "LineItem/0/Sale/ExtendedAmount"),
        (till({"Sale": {"ExtendedAmount": "1"}}), "LineItem/0/Sale/ItemID"),
        (till({"Sale": {**SALE, "Quantity": Decimal("1e999999999")}}), "LineItem/0/Sale/Quantity"),
        (till({"Sale": {**SALE, "Quantity": "many"}}), "LineItem/0/Sale/Quantity"),
        (till({"Discount": {}}, CHOCOLATE), "LineItem/0/Discount/Amount"),
        (till(TransactionLink={"ReasonCode": "Void"}), "LineItem"),
    ],
)
def test_what_is_wrong_is_said_with_its_path(transaction: Any, said: str) -> None:
    with pytest.raises(Refused) as refused:
        translate(transaction, STORES)
    assert refused.value.refusal.detail.startswith(said)


def test_mixed_currencies_have_their_own_reason() -> None:
    with pytest.raises(Refused) as refused:
        translate(till({"Sale": {**SALE, "ExtendedAmount": {"Amount": "1", "Currency": "EUR"}}}), STORES)
    assert refused.value.refusal.reason is RejectReason.FOREIGN_CURRENCY


def test_documents_hold_one_transaction_or_many() -> None:
    one = till(CHOCOLATE)
    for document, count in (
        (one, 1), ([one, one], 2), ({"Transaction": one}, 1), ({"Transaction": [one, one]}, 2), ({"POSLog": {"Transaction": [one]}}, 1),
        ([{"Transaction": one}, {"Transaction": [one, one]}, 7], 4), ({"POSLog": {"Transaction": one}}, 1), ([], 0),
    ):  # fmt: skip
        found = transactions(document)
        assert len(found) == count
        assert found[:1] == [one][:count]


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=10)
    | st.decimals()
    | st.sampled_from(["true", "4.89", "2001-08-13T09:05:00"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["ID", "Amount", "Value", "Sale", "a"]), inner, max_size=3),
    max_leaves=6,
)
NAMES = [
    *HEADER,
    "LineItem",
    "RetailTransaction",
    "Customer",
    "LoyaltyAccount",
    "TransactionLink",
    "TransactionStatus",
    "VoidFlag",
    "BeginDateTime",
]
LINES = [
    "ItemID",
    "ExtendedAmount",
    "Quantity",
    "UnitCostPrice",
    "MerchandiseHierarchy",
    "TransactionLink",
    "ActualSalesUnitPrice",
    "POSIdentity",
]
ITEMS = st.fixed_dictionaries({}, optional=dict.fromkeys(LINES, VALUES))
KINDS = st.dictionaries(st.sampled_from(["Sale", "Return", "Discount", "Tender", "VoidFlag", "Amount"]), ITEMS | VALUES, max_size=2)


@given(st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=6), st.lists(KINDS, max_size=3))
def test_every_transaction_is_events_or_has_a_reason_why_not(change: dict[str, Any], lines: list[Any]) -> None:
    for transaction in (change, {**till(CHOCOLATE, *lines), **change}):
        with contextlib.suppress(Refused, Ignored):
            for document in transactions(transaction):
                assert all(isinstance(read_event(raw, "USD"), SourceEvent | Refusal) for raw in translate(document, STORES))


@given(st.binary(max_size=60))
def test_no_bytes_break_the_reading(body: bytes) -> None:
    with contextlib.suppress(Refused, Ignored):
        for document in transactions(read_json(body)):
            translate(document, STORES)


@pytest.mark.parametrize("depth", [50, 400, 900, 5000])
@pytest.mark.parametrize("name", ["LoyaltyAccount", "BusinessUnit", "LineItem", "TransactionLink"])
def test_deep_nesting_ends_in_a_reason(name: str, depth: int) -> None:
    body = json.dumps(till(CHOCOLATE))[:-1].encode() + f', "{name}": '.encode() + b'{"ID": ' * depth + b"1" + b"}" * depth + b"}"
    with contextlib.suppress(Refused, Ignored):
        for document in transactions(read_json(body)):
            assert translate(document, STORES)
