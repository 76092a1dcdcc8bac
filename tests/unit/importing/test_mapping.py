"""A mapping says what is wrong with it; without one, columns' names are enough for the usual files."""

import json
import tomllib
from datetime import date

import pytest

from stack.importing.guessing import guess_mapping, spelled_out
from stack.importing.mapping import KINDS, FileLayout, MappingError, check_mapping, example_mapping, mapped_columns
from stack.importing.options import ImportOptions
from stack.importing.preparing import prepare
from stack.importing.reading import open_table
from stack.importing.run import run_import
from tests.unit.importing.desk import SALES, Noon

UNNAMED = {
    "customers": ["minor_units"],
    "purchases": ["day_format"],
    "interactions": ["decimal", "thousands", "minor_units", "day_format"],
}
"""What says nothing in files of that kind."""


@pytest.mark.parametrize("kind", KINDS)
def test_the_example_is_a_mapping_and_names_every_field(kind):
    text = example_mapping(kind)
    mapping = check_mapping(tomllib.loads(text), kind, "the example")
    unnamed = [name for name in (*type(mapping).model_fields, *FileLayout.model_fields) if name not in text]
    assert unnamed == UNNAMED[kind]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"amuont": "total"}, r"amuont: is no field here \(did you mean amount\?\)\."),
        ({"file": {"decimals": ","}}, r"file\.decimals: is no field here \(did you mean decimal\?\)\."),
        ({"weather": "x"}, r"weather: is no field here\."),
        ({"quantity": 1}, "quantity: is a column's name"),
        ({"store": {"column": "s", "prefix": "x/"}}, r"store\.prefix: is no field here"),
        ({"amount": None}, "amount .* or price"),
        ({"id": ()}, "lines belong together"),
        ({"time": {"column": "at", "value": "now"}}, "time: .*is a column's name"),
        ({"file": {"time_zone": "Bangkok"}}, r"file\.time_zone: .*write it as Asia/Bangkok"),
        ({"references": {"passport": "x"}}, r"references\.passport"),
    ],
)
def test_a_wrong_mapping_says_what_to_change(change, says):
    with pytest.raises(MappingError, match=says):
        check_mapping({**SALES, **change}, "purchases", "sales.toml")


def guessed(tmp_path, kind, content, name="a.csv"):
    (tmp_path / name).write_text(content)
    written = guess_mapping(open_table(tmp_path / name, FileLayout()), kind).mapping
    # What is said of it can be saved as a mapping file.
    assert tomllib.loads("\n".join(spelled_out(written))) == json.loads(json.dumps(written))
    return written, check_mapping(written, kind, "guessed")


def test_lines_of_receipts_are_guessed(tmp_path):
    header = "Basket ID;Store;Timestamp;Household_ID;Product ID;Quantity;Sales value;order total\n"
    written, mapping = guessed(tmp_path, "purchases", header + "1;s;t;7;a;1;1.234,50;9\n1;s;t;7;b;1;2,25;9\n")
    assert written == {
        "source": "import/purchases", "id": "Basket ID", "rows": "line", "references": {"loyalty_card": "Household_ID"},
        "time": "Timestamp", "store": "Store",
        "sku": "Product ID", "quantity": "Quantity", "amount": "Sales value",
        "file": {"time_zone": "UTC", "delimiter": ";", "decimal": ",", "thousands": "."},
    }  # fmt: skip
    assert "order total" not in mapped_columns(mapping)


def test_whole_purchases_are_guessed_and_their_total_is_their_amount(tmp_path):
    written, _ = guessed(tmp_path, "purchases", "orderId,customerId,createdAt,total\n1,7,t,1\n2,7,t,1\n")
    assert written["rows"] == "purchase"
    assert (written["id"], written["references"], written["amount"]) == (
        "orderId",
        {"user": {"column": "customerId", "prefix": "import/"}},
        "total",
    )
    assert written["store"] == {"value": "main"}


def test_a_total_that_stands_on_every_line_is_not_taken_for_the_lines_amount(tmp_path):
    with pytest.raises(MappingError, match="amount"):
        guessed(tmp_path, "purchases", "order_id,user_id,date,total\n1,7,t,10\n1,7,t,10\n")


def test_nested_lines_are_guessed(tmp_path):
    order = {"id": 1, "email": "a@b.c", "date": "t", "total": 5, "items": [{"sku": "a", "qty": 1, "unitPrice": 5}]}
    written, _ = guessed(tmp_path, "purchases", json.dumps(order), "a.ndjson")
    assert {name: written[name] for name in ("lines", "sku", "quantity", "price")} == {
        "lines": "items", "sku": "sku", "quantity": "qty", "price": "unitPrice",
    }  # fmt: skip
    assert "amount" not in written


def test_customers_with_consents_are_guessed(tmp_path):
    written, mapping = guessed(tmp_path, "customers", "E-mail,Phone,First name,Member since,Accepts email,service_sms_consent\n")
    assert written["references"] == {"email": "E-mail", "phone": "Phone"}
    assert written["registered"] == "Member since"
    assert written["consents"] == [
        {"purpose": "marketing", "channel": "email", "given": "Accepts email"},
        {"purpose": "service", "channel": "sms", "given": "service_sms_consent"},
    ]
    assert mapping.other_traits


def test_a_mapping_file_may_be_toml_or_json_and_options_overrule_it(tmp_path):
    (tmp_path / "a.csv").write_text("card\n42\n")
    for name, text in (
        ("m.toml", 'references.loyalty_card = "card"\nfile.time_zone = "UTC"'),
        ("m.json", '{"references": {"loyalty_card": "card"}, "file": {"time_zone": "UTC"}}'),
    ):
        (tmp_path / name).write_text(text)
        options = ImportOptions("customers", tmp_path / "a.csv", tmp_path / name, source="import/crm", as_of="2026-01-31")
        mapping, _ = prepare(options, "USD", Noon())
        assert (mapping.source, mapping.time.value) == ("import/crm", date(2026, 1, 31))


def test_a_column_that_is_not_there_is_named_beside_those_that_are(tmp_path):
    (tmp_path / "a.csv").write_text("card,updated\n42,2026-01-01\n")
    (tmp_path / "m.toml").write_text('references.email = "mail"\ntime = "updated"')
    with pytest.raises(MappingError, match=r"no column 'mail'; it has 'card', 'updated'"):
        prepare(ImportOptions("customers", tmp_path / "a.csv", tmp_path / "m.toml"), "USD", Noon())


def test_customers_without_any_time_are_asked_for_one(tmp_path):
    (tmp_path / "a.csv").write_text("card\n42\n")
    with pytest.raises(MappingError, match="time: the column that says when"):
        prepare(ImportOptions("customers", tmp_path / "a.csv"), "USD", Noon())


def test_a_dry_run_needs_no_broker_and_says_what_would_become_of_each_row(tmp_path, capsys):
    (tmp_path / "a.csv").write_text("card,updated_at,city\n42,2026-01-01,Nan\n,2026-01-01,Nan\n")
    assert run_import(ImportOptions("customers", tmp_path / "a.csv", dry_run=True, as_json=True)) == 1
    said = capsys.readouterr()
    answer = json.loads(said.out)
    assert {name: answer[name] for name in ("dry_run", "accepted", "repeated", "refused", "reasons", "events")} == {
        "dry_run": True, "accepted": 1, "repeated": 0, "refused": 1, "reasons": {"missing_reference": 1}, "events": 1,
    }  # fmt: skip
    assert 'references.loyalty_card = "card"' in said.err
    assert len((tmp_path / "a.csv.dry-run.ndjson").read_text().splitlines()) == 2
    assert run_import(ImportOptions("customers", tmp_path / "a.csv", dry_run=True)) == 1
    assert "missing_reference" in capsys.readouterr().out
