"""Rows of customers say what the contract knows: proof of consent, what somebody owns, who decides, and whose number it is."""

import json

import pytest

from services.identity.domain.events import SourceEvent, read_event
from services.identity.domain.references import naming
from shared.contracts.customers import Asset, ConsentStatement, CustomerIdentified, DecisionMaker
from stack.importing.mapping import AssetColumns, ConsentColumn, CustomersMapping, DecisionMakerColumns, check_mapping, mapped_columns
from tests.unit.importing.desk import SALES, Desk, told
from tests.unit.importing.test_importing import CRM, HEADER, PEOPLE


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path)


BASE = {"time": "updated", "references": {"loyalty_card": "card"}, "file": {"time_zone": "UTC"}}


def bring(desk, mapping, columns, *rows):
    """The data of what was sent, after the verdicts."""
    lines = [",".join(["card", "updated", *columns]), *(",".join(["42", "2026-02-01", *row]) for row in rows)]
    verdicts = desk.bring(desk.write("crm.csv", "\n".join(lines) + "\n"), "customers", {**BASE, **mapping})
    return verdicts, [event["data"] for event in desk.out.events]


PROVEN = {
    "purpose": "marketing", "channel": "email", "given": "news", "at": "since", "lawful_basis": {"value": "consent"},
    "text_version": "text", "method": {"column": "how", "default": "import"}, "place": "page", "evidence": "form", "text_sha256": "hash",
}  # fmt: skip
PROOF = ("news", "since", "text", "how", "page", "form", "hash")


def test_a_consent_comes_with_its_proof(desk):
    proof = ("no", "2020-01-01", "2019-11", "Double opt-in", "shop.example/news", "form 7", "ab" * 32)
    verdicts, (_, said) = bring(desk, {"consents": [PROVEN]}, PROOF, proof)
    assert told(verdicts) == [(1, "accepted", None)]
    assert said["consents"] == [{
        "purpose": "marketing", "channel": "email", "granted": False, "lawful_basis": "consent", "text_version": "2019-11",
        "method": "double_opt_in", "place": "shop.example/news", "evidence": "form 7", "text_sha256": "ab" * 32,
    }]  # fmt: skip
    assert [event["time"][:10] for event in desk.out.events] == ["2026-02-01", "2020-01-01"]


def test_what_is_not_known_of_a_consent_is_left_out_and_nothing_is_proven_of_what_was_not_stated(desk):
    _, data = bring(desk, {"consents": [PROVEN]}, PROOF, ("yes", "", "", "", "", "", ""), ("", "2020-01-01", "x", "form", "y", "z", ""))
    assert data[0]["consents"] == [
        {"purpose": "marketing", "channel": "email", "granted": True, "lawful_basis": "consent", "method": "import"}
    ]
    assert data[1]["consents"] == []


def test_a_consent_is_stated_under_a_reference_that_names_somebody(desk):
    mapping = {"references": {"loyalty_card": "card", "email": "mail"}, "consents": [PROVEN]}
    lines = "card,mail,updated," + ",".join(PROOF) + "\n000,ann@example.com,2026-02-01,yes,2020-01-01,,,,,\n"
    verdicts = desk.bring(desk.write("crm.csv", lines), "customers", {**BASE, **mapping})
    assert verdicts[0]["dropped"] == [{"column": "card", "rule": "placeholder"}]
    assert desk.out.events[1]["data"]["reference"] == "email:ann@example.com"


CAR = {
    "asset_id": "plate", "kind": {"value": "vehicle"}, "label": "model", "since": "bought", "service_every_days": {"value": 365},
    "service_every_km": "every", "serviced_on": "served", "serviced_at_km": "served_km", "odometer_km": "km", "read_on": "read",
    "is_gone": "sold",
}  # fmt: skip
CAR_COLUMNS = ("plate", "model", "bought", "every", "served", "served_km", "km", "read", "sold")


def test_what_they_own_is_said_with_its_due_rules_and_readings(desk):
    row = ("B-1", "Van", "31.01.2020", "15.000", "01.02.2025", "48.000", "50.000", "15.01.2026", "no")
    layout = {"time_zone": "UTC", "day_format": "%d.%m.%Y", "decimal": ",", "thousands": "."}
    verdicts, data = bring(desk, {"assets": [CAR], "file": layout}, CAR_COLUMNS, row, ("",) * 9)
    assert told(verdicts) == [(1, "accepted", None), (2, "accepted", None)]
    assert data[0]["assets"] == [{
        "asset_id": "B-1", "kind": "vehicle", "label": "Van", "since": "2020-01-31", "service_every_days": 365, "service_every_km": 15000,
        "serviced_on": "2025-02-01", "serviced_at_km": 48000, "odometer_km": 50000, "read_on": "2026-01-15", "is_gone": False,
    }]  # fmt: skip
    assert "assets" not in data[1]


@pytest.mark.parametrize(
    ("row", "reason", "column"),
    [
        (("", "Van", "", "", "", "", "", "", ""), "missing_value", "plate"),
        (("B", "Van", "31.01.2020", "", "", "", "", "", ""), "not_a_time", "bought"),
        (("B", "Van", "1900-01-01", "", "", "", "", "", ""), "too_early", "bought"),
        (("B", "Van", "", "", "", "", "12.5", "", ""), "not_a_quantity", "km"),
        (("B", "Van", "", "", "", "", "50.000", "", ""), "not_a_quantity", "km"),
        (("B", "Van", "", "", "", "", "", "", "perhaps"), "not_yes_or_no", "sold"),
        (("B", "Van", "", "", "", "", "-1", "", ""), "invalid", None),
        (("B", "Van", "", "", "", "", "1", "2030-01-01", ""), "invalid", None),
    ],
)
def test_what_is_wrong_with_a_thing_is_named_with_its_column(desk, row, reason, column):
    verdicts, _ = bring(desk, {"assets": [CAR]}, CAR_COLUMNS, row)
    assert told(verdicts) == [(1, reason, column)]


def test_fifty_thousand_is_not_fifty(desk):
    verdicts, _ = bring(desk, {"assets": [CAR]}, CAR_COLUMNS, ("B", "", "", "", "", "", "50.000", "", ""))
    assert 'with file.decimal = "," and file.thousands = "." it is 50000' in verdicts[0]["detail"]
    assert told(bring(desk, {"assets": [CAR]}, CAR_COLUMNS, ("B", "", "", "", "", "", "50000.0", "", ""))[0]) == [(1, "accepted", None)]


def test_a_thing_that_the_mapping_names_is_there_where_the_row_says_something_of_it(desk):
    device = {"asset_id": {"value": "boiler"}, "kind": {"value": "device"}, "warranty_ends_on": "warranty"}
    _, data = bring(desk, {"assets": [device]}, ("warranty",), ("2027-01-01",), ("",))
    assert data[0]["assets"] == [{"asset_id": "boiler", "kind": "device", "warranty_ends_on": "2027-01-01"}]
    assert "assets" not in data[1]


BUYER = {
    "person_id": "no", "name": "buyer", "role": "role", "channel": {"value": "email"}, "references": {"email": "mail", "phone": "tel"},
    "has_left": "left",
}  # fmt: skip


def test_a_trader_has_decision_makers_a_type_and_what_brought_it(desk):
    mapping = {"decision_makers": [BUYER], "customer_type": "type", "lead_source": "by", "preferred_channel": "wish"}
    columns = ("no", "buyer", "role", "mail", "tel", "left", "type", "by", "wish")
    row = ("7", "Bo", "head buyer", "", "+66812345678", "no", "Retailer", "Sales person", "EMAIL")
    _, (data, other) = bring(desk, mapping, columns, row, ("", "", "", "", "", "", "", "", ""))
    assert data["decision_makers"] == [
        {"person_id": "7", "name": "Bo", "role": "head buyer", "channel": "email", "has_left": False, "reference": "phone:+66812345678"}
    ]
    assert (data["customer_type"], data["lead_source"], data["preferred_channel"]) == ("retailer", "sales_person", "email")
    assert other.keys() == {"references", "traits", "consents"}


def test_a_word_that_is_none_of_those_expected_is_refused_with_all_of_them(desk):
    verdicts, _ = bring(desk, {"lead_source": "by"}, ("by",), ("radio",))
    assert told(verdicts) == [(1, "not_a_choice", "by")]
    assert "one of advertisement, website, sales_person, exhibition, call, other is expected" in verdicts[0]["detail"]


def test_somebody_of_whom_no_id_is_known_is_refused_not_forgotten(desk):
    verdicts, _ = bring(desk, {"decision_makers": [BUYER]}, ("no", "buyer", "role", "mail", "tel", "left"), ("", "", "", "b@x.de", "", ""))
    assert told(verdicts) == [(1, "missing_value", "no")]
    assert "'mail' says something" in verdicts[0]["detail"]


def test_nested_things_are_several(desk):
    mapping = {
        **BASE, "assets": [{"within": "cars", "asset_id": "plate", "odometer_km": "km"}],
        "decision_makers": [{"within": "firm.people", "person_id": "no", "references": {"email": "mail"}}],
    }  # fmt: skip
    cars = [{"plate": "A", "km": 1}, {"plate": "B"}]
    people = [{"no": 1, "mail": "a@x.de"}, {"no": 2}]
    rows = [{"cars": cars, "firm": {"people": people}}, {"cars": []}, {}, {"cars": "A, B"}, {"cars": [{"km": 3}]}]
    file = desk.write("crm.ndjson", "\n".join(json.dumps({"card": n, "updated": "2026-02-01", **row}) for n, row in enumerate(rows, 1)))
    verdicts = desk.bring(file, "customers", mapping)
    assert told(verdicts) == [
        (1, "accepted", None), (2, "accepted", None), (3, "accepted", None),
        (4, "missing_value", "cars"), (5, "missing_value", "cars.plate"),
    ]  # fmt: skip
    said = desk.out.events[0]["data"]
    assert said["assets"] == [{"asset_id": "A", "odometer_km": 1}, {"asset_id": "B"}]
    assert said["decision_makers"] == [{"person_id": "1", "reference": "email:a@x.de"}, {"person_id": "2"}]
    assert mapped_columns(check_mapping(mapping, "customers", "the test")) == ("card", "updated", "cars", "firm.people")


def test_a_mapping_can_say_whatever_the_contract_knows_of_a_customer():
    assert AssetColumns.model_fields.keys() - {"within"} == Asset.model_fields.keys()
    assert ConsentColumn.model_fields.keys() - {"given", "at"} == ConsentStatement.model_fields.keys() - {"granted"}
    assert DecisionMakerColumns.model_fields.keys() - {"references", "within"} == DecisionMaker.model_fields.keys() - {"reference"}
    # Files say what is, and not what is so no more.
    assert CustomerIdentified.model_fields.keys() - {"retired"} <= CustomersMapping.model_fields.keys()


def test_identity_keeps_all_that_a_row_says(desk):
    mapping = {"consents": [{**PROVEN, "at": None}], "assets": [CAR], "decision_makers": [BUYER], "lead_source": {"value": "call"}}
    columns = (*PROOF, *CAR_COLUMNS, "no", "buyer", "role", "mail", "tel", "left")
    proof = ("yes", "", "2019-11", "form", "page", "7", "ab" * 32)
    car = ("B-1", "Van", "2020-01-31", "15000", "2025-02-01", "48000", "50000", "2026-01-15", "no")
    _, (said,) = bring(desk, mapping, columns, (*proof, *car, "7", "Bo", "buyer", "bo@example.com", "", "no"))
    kept = read_event(json.dumps(desk.out.events[0]).encode(), "USD")
    assert isinstance(kept, SourceEvent)
    data = json.loads(kept.value, object_hook=lambda each: {name: value for name, value in each.items() if value is not None})["data"]
    assert data == said
    assert said.keys() == {"references", "traits", "consents", "lead_source", "assets", "decision_makers"}


# Whose number it is.


def test_numbers_with_a_prefix_are_apart_from_other_systems_and_the_same_in_every_file_of_theirs(desk):
    numbered = {"references": {"user": {"column": "no", "prefix": "erp/"}}}
    desk.bring(desk.write("crm.csv", "no,updated\n42,2026-02-01\n"), "customers", {**BASE, **numbered})
    customer = desk.out.events[0]["data"]["references"]
    desk.bring(desk.write("sales.csv", "receipt,at,no,sku,amount\n1,2025-03-01,42,pear,1\n"), "purchases", {**SALES, **numbered})
    assert customer == [desk.out.events[0]["data"]["reference"]] == ["user:erp/42"]
    assert desk.out.sent[0][1] == b"user:erp/42"
    assert desk.imported.totals.named == {("user:erp/", "no"): 1}


@pytest.mark.parametrize("nobody", ["0", "000", "anonymous", "N/A", "guest", "-"])
def test_a_prefix_makes_nobody_somebody(desk, nobody):
    numbered = {"references": {"user": {"column": "no", "prefix": "erp/"}}}
    file = desk.write("sales.csv", f"receipt,at,no,sku,amount\n1,2025-03-01,{nobody},pear,1\n2,2025-03-01,,pear,1\n")
    verdicts = desk.bring(file, "purchases", {**SALES, **numbered})
    assert [each.get("dropped") for each in verdicts] == [[{"column": "no", "rule": "placeholder"}], None]
    assert desk.imported.anonymous == 2
    assert {key for _, key, _ in desk.out.sent} == {b"1", b"2"}
    assert desk.imported.totals.named == {}


# What is left out.


def test_what_identity_leaves_out_of_an_accepted_row_is_told_with_its_column(desk):
    desk.naming = naming("TH", {}, ["email:shop@example.com"])
    mapping = {**BASE, "references": {"loyalty_card": "card", "email": "mail", "phone": "tel", "typed": "other"}}
    rows = (
        "1,not-an-email,0812345678,user:null\n2,shop@example.com,08,line:ok\n3,ann@example.com,,\n"
        ",x,y,\n"
    )  # fmt: skip
    file = desk.write("crm.csv", "card,mail,tel,other,updated\n" + rows.replace("\n", ",2026-02-01\n"))
    verdicts = desk.bring(file, "customers", mapping)
    assert [each.get("dropped") for each in verdicts] == [
        [{"column": "mail", "rule": "malformed"}, {"column": "other", "rule": "placeholder"}],
        [{"column": "mail", "rule": "blocked"}, {"column": "tel", "rule": "malformed"}],
        None,
        None,
    ]
    assert (verdicts[3]["status"], verdicts[3]["reason"]) == ("refused", "names_nobody")


def test_the_lines_of_a_receipt_all_tell_of_its_reference(desk):
    mapping = {**SALES, "references": {"email": "card"}}
    verdicts = desk.bring(desk.write("sales.csv", HEADER + "1,2025-03-01,ann,a,1\n1,2025-03-01,ann,b,1\n"), "purchases", mapping)
    assert [each["dropped"] for each in verdicts] == [[{"column": "card", "rule": "malformed"}]] * 2


# Twice is once, also with a newer Dear.


def test_the_ids_of_rows_are_as_they_have_always_been(desk):
    row = "42,ann@example.com,Ann,th,2026-01-01,2019-05-01,yes,no,2024-02-02T10:00:00+07:00\n"
    desk.bring(desk.write("crm.csv", PEOPLE + row), "customers", CRM)
    assert [event["id"] for event in desk.out.events] == [
        "a7fdaa36a066f4a8/1b999854130807277383ea515077d199",
        "a7fdaa36a066f4a8/5cb0749807837efabc45e914861867e4",
        "a7fdaa36a066f4a8/ad4488b2eaf416dfd606b3599dd3672d",
    ]
    mapping = {name: value for name, value in SALES.items() if name not in ("id", "rows")}
    desk.bring(desk.write("sales.csv", HEADER + "x,2025-03-01,42,pear,1.25\n"), "purchases", mapping)
    assert desk.out.events[0]["id"] == "182c7ab3d6b49021732912e1bc082a0a"


def test_a_mapping_that_learns_of_more_columns_leaves_the_rows_that_say_nothing_there(desk):
    file = desk.write("crm.csv", "card,updated,plate,by\n42,2026-02-01,,\n43,2026-02-01,B-1,call\n")
    desk.bring(file, "customers", BASE)
    before = [event["id"] for event in desk.out.events]
    more = {"lead_source": "by", "assets": [{"asset_id": "plate"}], "decision_makers": [{"person_id": "by"}]}
    desk.bring(file, "customers", {**BASE, **more})
    after = [event["id"] for event in desk.out.events]
    assert before[0] == after[0]
    assert before[1] != after[1]
    desk.bring(file, "customers", {**BASE, **more})
    assert [event["id"] for event in desk.out.events] == after
    assert json.dumps(desk.out.events[1]["data"]["assets"]) == '[{"asset_id": "B-1"}]'
