"""From rows to events: each row has one verdict, and the same rows are the same events."""

import json
import random
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

import stack.importing.run as run
from stack.importing import units
from stack.importing.mapping import MappingError
from tests.unit.importing.desk import SALES, BrokerGone, Desk, Outbox, told

HEADER = "receipt,at,card,sku,amount\n"


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path)


def test_lines_of_a_receipt_are_one_purchase_keyed_by_its_customer(desk):
    rows = "7,2025-03-01T10:05:00Z,42,pear,1.25\n7,2025-03-01T10:00:00Z,42,apple,5.98\n8,2025-03-02,,pear,2\n"
    verdicts = desk.bring(desk.write("sales.csv", HEADER + rows), "purchases", SALES)
    assert told(verdicts) == [(1, "accepted", None), (2, "accepted", None), (3, "accepted", None)]
    (topic, key, first), (_, anonymous_key, second) = desk.out.sent
    assert (topic, key, first["id"], first["source"]) == ("purchases-v1", b"loyalty_card:42", "7", "import/purchases")
    assert first["time"] == "2025-03-01T10:00:00+00:00"
    assert [(line["sku"], line["amount_minor"]) for line in first["data"]["lines"]] == [("pear", 125), ("apple", 598)]
    assert second["data"]["reference"] is None
    assert anonymous_key == b"8"
    assert second["time"] == "2025-03-02T12:00:00+00:00"
    assert desk.imported.anonymous == 1


def test_however_a_file_is_sorted_its_receipts_are_the_same_events(desk):
    rows = [f"{number},2025-03-0{number}T10:0{line}:00Z,{number},sku{line},{line}.50" for number in (1, 2, 3) for line in range(4)]
    desk.bring(desk.write("sorted.csv", HEADER + "\n".join(rows)), "purchases", SALES)
    expected = {event["id"]: event for event in desk.out.events}
    random.Random(3).shuffle(rows)
    verdicts = desk.bring(desk.write("shuffled.csv", HEADER + "\n".join(rows)), "purchases", SALES)
    assert {event["id"]: event for event in desk.out.events} == expected
    assert {each["status"] for each in verdicts} == {"accepted"}
    assert sorted(each["row"] for each in verdicts) == list(range(1, 13))


def test_a_bad_line_refuses_its_receipt_and_no_other(desk):
    rows = "1,2025-03-01,42,pear,1\n2,2025-03-01,42,pear,1\n2,2025-03-01,42,apple,abc\n3,2025-03-01,42,pear,1\n"
    verdicts = desk.bring(desk.write("sales.csv", HEADER + rows), "purchases", SALES)
    assert told(verdicts) == [(1, "accepted", None), (2, "receipt_refused", None), (3, "not_an_amount", "amount"), (4, "accepted", None)]
    assert [event["id"] for event in desk.out.events] == ["1", "3"]


def test_a_line_that_cannot_be_read_refuses_the_receipts_that_it_may_belong_to(desk):
    rows = "1,2025-03-01,42,pear,1\n2,2025-03-01,42,pear,1\n2,2025-03-01,42\n3,2025-03-01,42,pear,1\n4,2025-03-01,42,pear,1\n"
    verdicts = desk.bring(desk.write("sales.csv", HEADER + rows), "purchases", SALES)
    assert [reason for _, reason, _ in told(verdicts)] == ["accepted", "receipt_refused", "ragged_row", "receipt_refused", "accepted"]
    assert [event["id"] for event in desk.out.events] == ["1", "4"]


def test_lines_that_name_different_customers_are_no_receipt(desk):
    rows = "1,2025-03-01,42,pear,1\n1,2025-03-01,43,pear,1\n"
    verdicts = desk.bring(desk.write("sales.csv", HEADER + rows), "purchases", SALES)
    assert [reason for _, reason, _ in told(verdicts)] == ["receipt_refused", "rows_disagree"]


def test_an_id_that_is_no_receipts_is_refused_instead_of_held(desk, monkeypatch):
    monkeypatch.setattr(units, "MOST_LINES", 3)
    verdicts = desk.bring(desk.write("sales.csv", HEADER + "0,2025-03-01,42,pear,1\n" * 4), "purchases", SALES)
    assert {reason for _, reason, _ in told(verdicts)} == {"too_many_lines"}


def test_a_file_that_is_far_from_sorted_is_told_to_be(desk, monkeypatch):
    monkeypatch.setattr(units, "MOST_OPEN_ROWS", 5)
    rows = "".join(f"{number},2025-03-01,42,pear,1\n" for _ in range(2) for number in range(6))
    with pytest.raises(MappingError, match="sort the file by receipt"):
        desk.bring(desk.write("sales.csv", HEADER + rows), "purchases", SALES)


BAD_ROWS = {
    "too_early": ("1,1900-01-01,42,pear,1", "at"),
    "not_a_time": ("1,yesterday,42,pear,1", "at"),
    "missing_value": ("1,,42,pear,1", "at"),
    "negative_amount": ("1,2025-03-01,42,pear,-1", "amount"),
    "not_an_amount": ("1,2025-03-01,42,pear,0.333", "amount"),
    "ragged_row": ("1,2025-03-01,42,pear,1,more", None),
    "not_utf8": (b"1,2025-03-01,42,p\xe9ar,1", "sku"),
    "malformed_row": ('1,2025-03-01,42,"pear"s,1', None),
    "ahead_of_clock": ("1,2099-01-01,42,pear,1", None),
    "invalid": (f"1,2025-03-01,42,{'p' * 300},1", None),
    "oversized": (f"1,2025-03-01,42,{'p' * 40_000},1", None),
}


@pytest.mark.parametrize("reason", BAD_ROWS)
@pytest.mark.parametrize("shape", ["line", "purchase"])
def test_what_is_wrong_with_a_row_is_named_with_its_column_and_its_neighbours_are_taken(desk, reason, shape):
    written, column = BAD_ROWS[reason]
    bad = written if isinstance(written, bytes) else written.encode()
    good, gap = b"%d,2025-03-01,42,pear,1\n", b",2025-03-01,42,pear,1\n"
    content = HEADER.encode() + good % 5 + gap + bad + b"\n" + gap + good % 6
    verdicts = desk.bring(desk.write("sales.csv", content), "purchases", {**SALES, "rows": shape})
    said = {row: (what, where) for row, what, where in told(verdicts)}
    assert said[3] == (reason, column)
    assert verdicts[2]["line"] == 4
    if reason not in ("ragged_row", "not_utf8", "malformed_row") or shape == "purchase":
        assert said[1] == said[5] == ("accepted", None)
    assert said[2] == said[4] == ("missing_value", "receipt")


def test_an_id_with_other_content_is_refused_and_a_row_that_says_the_same_is_not_sent_again(desk):
    rows = "1,2025-03-01,42,pear,1\n1,2025-03-01,42,pear,1\n1,2025-03-01,42,pear,2\n"
    verdicts = desk.bring(desk.write("sales.csv", HEADER + rows), "purchases", {**SALES, "rows": "purchase"})
    assert [reason for _, reason, _ in told(verdicts)] == ["accepted", "repeated", "duplicate_id"]
    assert "row 1" in verdicts[2]["detail"]
    assert len(desk.out.sent) == 1


def test_rows_without_an_id_are_named_by_what_they_say_and_two_equal_sales_are_two(desk):
    mapping = {name: value for name, value in SALES.items() if name not in ("id", "rows")}
    file = desk.write("sales.csv", HEADER + "x,2025-03-01,42,pear,1\n" * 2 + "x,2025-03-01,43,pear,1\n")
    desk.bring(file, "purchases", mapping)
    first = desk.out.events
    assert len({event["id"] for event in first}) == 3
    desk.bring(file, "purchases", mapping)
    assert desk.out.events == first


def test_money_given_back_is_a_refund_of_its_receipt_where_the_mapping_says_so(desk):
    rows = "1,2025-03-01,42,pear,5\n1,2025-03-01,42,apple,-2\n2,2025-03-01,42,apple,-3\n"
    desk.bring(desk.write("sales.csv", HEADER + rows), "purchases", {**SALES, "negative": "refund"})
    said = [(event["type"], event["id"], event["data"].get("amount_minor"), event["data"].get("purchase_id")) for event in desk.out.events]
    assert said == [
        ("dear.PurchaseRecorded", "1", None, None),
        ("dear.PurchaseRefunded", "1/refund", 200, "1"),
        ("dear.PurchaseRefunded", "2", 300, None),
    ]


def test_prices_times_quantities_are_exact(desk):
    mapping = {**SALES, "quantity": "quantity", "price": "amount"}
    del mapping["amount"]
    rows = "receipt,at,card,sku,amount,quantity\n1,2025-03-01,42,pear,0.333,3\n2,2025-03-01,42,pear,19.99,3\n"
    verdicts = desk.bring(desk.write("sales.csv", rows), "purchases", mapping)
    assert told(verdicts) == [(1, "not_an_amount", "amount"), (2, "accepted", None)]
    assert desk.out.events[0]["data"]["lines"] == [{"sku": "pear", "quantity": 3, "amount_minor": 5997}]


def test_a_store_has_its_own_time_zone(desk):
    mapping = {**SALES, "store": "sku", "sku": {"value": "x"}, "store_time_zones": {"bkk": "Asia/Bangkok"}}
    rows = "1,2025-03-01 10:00,42,bkk,1\n2,2025-03-01 10:00,42,ldn,1\n3,2025-03-01T10:00+02:00,42,bkk,1\n"
    desk.bring(desk.write("sales.csv", HEADER + rows), "purchases", mapping)
    assert [event["time"][11:16] for event in desk.out.events] == ["03:00", "10:00", "08:00"]


def test_a_time_without_a_zone_is_refused_where_no_zone_is_given(desk):
    verdicts = desk.bring(desk.write("sales.csv", HEADER + "1,2025-03-01 10:00,42,pear,1\n"), "purchases", {**SALES, "file": {}})
    assert told(verdicts) == [(1, "no_time_zone", "at")]


def test_nested_lines_say_where_they_are_wrong(desk):
    mapping = {**SALES, "rows": "purchase", "lines": "items", "quantity": "qty"}
    good = {"receipt": 1, "at": "2025-03-01T10:00:00Z", "card": 42, "items": [{"sku": "a", "qty": 2, "amount": 1.10}]}
    lines = [good, {**good, "receipt": 2, "items": [{"sku": "a", "qty": 1.5, "amount": 1}]}, {**good, "receipt": 3, "items": []}]
    file = desk.write("sales.ndjson", "\n".join(json.dumps(line) for line in lines) + "\n{]\n[1]\n" + '{"receipt": "\\ud800"}\n')
    verdicts = desk.bring(file, "purchases", mapping)
    assert told(verdicts) == [
        (1, "accepted", None), (2, "not_a_quantity", "items.qty"), (3, "missing_value", "items"), (4, "malformed_row", None),
        (5, "malformed_row", None), (6, "not_utf8", None),
    ]  # fmt: skip
    assert desk.out.events[0]["data"]["lines"] == [{"sku": "a", "quantity": 2, "amount_minor": 110}]


CRM = {
    "source": "import/crm", "time": "updated", "registered": "since", "references": {"loyalty_card": "card", "email": "mail"},
    "traits": {"first_name": "name"}, "language": "lang", "file": {"time_zone": "UTC"},
    "consents": [
        {"purpose": "marketing", "channel": "email", "given": "news"},
        {"purpose": "marketing", "channel": "sms", "given": "sms", "at": "sms_at"},
    ],
}  # fmt: skip
PEOPLE = "card,mail,name,lang,updated,since,news,sms,sms_at\n"


def test_a_customer_is_said_to_be_known_since_they_registered_and_consents_have_their_own_time(desk):
    row = "42,ann@example.com,Ann,th,2026-01-01,2019-05-01,yes,no,2024-02-02T10:00:00+07:00\n"
    assert told(desk.bring(desk.write("crm.csv", PEOPLE + row), "customers", CRM)) == [(1, "accepted", None)]
    since, said, consent = desk.out.events
    assert {key for _, key, _ in desk.out.sent} == {b"loyalty_card:42"}
    assert (since["time"][:10], since["data"]) == ("2019-05-01", {"references": ["loyalty_card:42", "email:ann@example.com"]})
    assert said["data"]["traits"] == {"first_name": "Ann"}
    assert said["data"]["consents"] == [{"purpose": "marketing", "channel": "email", "granted": True}]
    assert (consent["type"], consent["time"], consent["data"]["consents"][0]["granted"]) == (
        "dear.ConsentChanged", "2024-02-02T03:00:00+00:00", False,
    )  # fmt: skip
    assert "ann" not in said["id"]


def test_a_row_that_changed_since_the_last_import_is_a_new_statement(desk):
    row = "42,,Ann,th,2026-01-01,2019-05-01,yes,,\n"
    desk.bring(desk.write("crm.csv", PEOPLE + row), "customers", CRM)
    before = [event["id"] for event in desk.out.events]
    desk.bring(desk.write("crm.csv", PEOPLE + row.replace("Ann", "Anna")), "customers", CRM)
    after = [event["id"] for event in desk.out.events]
    assert before[0] == after[0]
    assert before[1] != after[1]


def test_bad_customers_are_named_with_their_column(desk):
    rows = (
        ",,Ann,th,2026-01-01,,,,\n42,,Ann,th,,,,,\n43,,Ann,th,2026-01-01,,perhaps,,\n44,,Ann,th,2026-01-01,,,,\n44,,Ann,th,2026-01-01,,,,\n"
    )
    verdicts = desk.bring(desk.write("crm.csv", PEOPLE + rows), "customers", CRM)
    assert told(verdicts) == [
        (1, "missing_reference", None), (2, "missing_value", "updated"), (3, "not_yes_or_no", "news"),
        (4, "accepted", None), (5, "repeated", None),
    ]  # fmt: skip


def test_columns_that_the_mapping_does_not_know_become_traits_are_passed_over_or_refused(desk):
    file = desk.write("crm.csv", "card,updated,city\n42,2026-01-01,Nan\n43,2026-01-01,\n")
    mapping = {"time": "updated", "references": {"loyalty_card": "card"}}
    zone = {"time_zone": "UTC"}
    desk.bring(file, "customers", {**mapping, "file": zone, "other_traits": True})
    assert [event["data"]["traits"] for event in desk.out.events] == [{"city": "Nan"}, {}]
    desk.bring(file, "customers", {**mapping, "file": zone})
    assert [event["data"]["traits"] for event in desk.out.events] == [{}, {}]
    verdicts = desk.bring(file, "customers", {**mapping, "file": {**zone, "unknown_columns": "refuse"}})
    assert told(verdicts) == [(1, "unknown_column", "city"), (2, "accepted", None)]


def test_interactions_keep_the_types_of_their_properties(desk):
    line = {
        "id": 7,
        "at": "2025-03-01T10:00:00Z",
        "user": "u",
        "kind": "ComplaintMade",
        "severity": 2,
        "urgent": True,
        "cost": 1.50,
        "about": {"a": 1},
    }
    mapping = {"id": "id", "time": "at", "kind": "kind", "references": {"user": "user"}, "other_properties": True}
    desk.bring(desk.write("calls.ndjson", json.dumps(line)), "interactions", mapping)
    assert desk.out.sent[0][:2] == ("interactions-v1", b"user:u")
    assert desk.out.events[0]["data"]["properties"] == {"severity": 2, "urgent": True, "cost": "1.5", "about": '{"a": 1}'}


def sales(count):
    return HEADER + "".join(f"{number},2025-03-01,{number},pear,{number}.25\n" for number in range(1, count + 1))


def test_an_import_that_was_cut_off_goes_on_and_everything_is_sent(desk, monkeypatch):
    monkeypatch.setattr(run, "FLUSH_EVERY", 10)
    file, begun = desk.write("sales.csv", sales(57)), {"into": "this broker"}
    cut_off = Outbox(gone_after=25)
    with pytest.raises(BrokerGone):
        desk.bring(file, "purchases", SALES, cut_off, begun)
    partial = desk.directory / "sales.csv.verdicts.ndjson.partial"
    assert len(partial.read_text().splitlines()) == cut_off.flushed == 20
    partial.write_bytes(partial.read_bytes() + b'{"row": 21, "sta')

    verdicts = desk.bring(file, "purchases", SALES, begun=begun)
    assert told(verdicts) == [(number, "accepted", None) for number in range(1, 58)]
    assert [event["id"] for event in desk.out.events] == [str(number) for number in range(21, 58)]
    assert desk.imported.resumed_after == 20
    assert not partial.exists()
    # What is summed is the whole file, whenever its rows were sent.
    assert desk.imported.totals.money["USD"].bought_minor == sum(number * 100 + 25 for number in range(1, 58))
    assert desk.imported.totals.named == {("loyalty_card:", "card"): 57}


@pytest.mark.parametrize("begun", [{"into": "another broker"}, None])
def test_what_was_begun_otherwise_begins_anew(desk, monkeypatch, begun):
    monkeypatch.setattr(run, "FLUSH_EVERY", 10)
    file = desk.write("sales.csv", sales(30))
    with pytest.raises(BrokerGone):
        desk.bring(file, "purchases", SALES, Outbox(gone_after=25), {"into": "this broker"})
    assert len(desk.bring(file, "purchases", SALES, begun=begun)) == 30
    assert len(desk.out.sent) == 30
    assert not list(desk.directory.glob("*.begun"))


def test_no_verdict_is_written_before_the_broker_acknowledged(desk, monkeypatch):
    monkeypatch.setattr(run, "FLUSH_EVERY", 10)
    partial = desk.directory / "sales.csv.verdicts.ndjson.partial"

    class Watching(Outbox):
        def flush(self):
            assert len(partial.read_text().splitlines()) == self.flushed
            super().flush()

    desk.bring(desk.write("sales.csv", sales(35)), "purchases", SALES, Watching())
    assert desk.out.flushed == 35


amounts = st.decimals(min_value=0, max_value=10**9, places=2)
texts = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=20).filter(
    lambda text: text.strip() == text and text not in ("NULL", "null", "\\N")
)


@given(st.lists(st.tuples(texts, amounts), min_size=1, max_size=10), st.sampled_from([".", ","]), st.sampled_from([",", ";", "\t"]))
def test_what_was_written_is_what_is_sent(tmp_path_factory, lines, decimal, delimiter):
    import csv
    import io

    written = io.StringIO()
    writer = csv.writer(written, delimiter=delimiter)
    writer.writerow(["receipt", "at", "card", "sku", "amount"])
    for number, (sku, amount) in enumerate(lines):
        writer.writerow([number, "2025-03-01", "42", sku, str(amount).replace(".", decimal)])
    desk = Desk(tmp_path_factory.mktemp("desk"))
    layout = {"time_zone": "UTC", "decimal": decimal, "delimiter": delimiter}
    desk.bring(desk.write("sales.csv", written.getvalue()), "purchases", {**SALES, "file": layout})
    sent = [(line["sku"], line["amount_minor"]) for event in desk.out.events for line in event["data"]["lines"]]
    assert sent == [(sku, int(Decimal(amount) * 100)) for sku, amount in lines]


@given(st.binary(max_size=300))
def test_no_bytes_bring_an_import_down_and_every_row_has_a_verdict(tmp_path_factory, content):
    desk = Desk(tmp_path_factory.mktemp("desk"))
    for name, kind, mapping in (("a.csv", "purchases", SALES), ("a.ndjson", "customers", CRM)):
        head = HEADER.encode() if name.endswith("csv") else b"\n"
        rows = [each["row"] for each in desk.bring(desk.write(name, head + content), kind, mapping)]
        assert sorted(rows) == list(range(1, len(rows) + 1))


def test_numbers_that_no_event_may_hold_are_refused(desk):
    lines = [{"card": "42", "updated": "2026-01-01", "size": size} for size in (3, 10**30, -(2**63))]
    mapping = {"time": "updated", "references": {"loyalty_card": "card"}, "other_traits": True, "file": {"time_zone": "UTC"}}
    verdicts = desk.bring(desk.write("crm.ndjson", "\n".join(map(json.dumps, lines))), "customers", mapping)
    assert [reason for _, reason, _ in told(verdicts)] == ["accepted", "invalid", "accepted"]
