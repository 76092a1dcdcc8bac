"""Before a row is read: what was guessed, what the command was told, and what can be wrong once instead of in every row."""

import json
from datetime import date

import pytest

from stack.importing.mapping import MappingError
from stack.importing.options import ImportOptions, settings_of
from stack.importing.preparing import prepare
from stack.importing.report import in_major
from stack.importing.run import run_import
from tests.unit.importing.desk import Noon


@pytest.fixture
def prepared(tmp_path):
    """The mapping of a file as it is written."""

    def of(kind, content, mapping=None, **told):
        (tmp_path / "a.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
        if mapping is not None:
            (tmp_path / "m.toml").write_text(mapping)
        options = ImportOptions(kind, tmp_path / "a.csv", tmp_path / "m.toml" if mapping is not None else None, **told)
        return prepare(options, "USD", Noon())[0]

    return of


SALES = "order_id,date,amount\n"


def sales(*amounts):
    return SALES + "".join(f'{number},2025-03-01,"{amount}"\n' for number, amount in enumerate(amounts))


@pytest.mark.parametrize(
    ("amounts", "decimal", "thousands"),
    [
        (["12.50", "3"], ".", ""),
        (["12,50", "1.000,00"], ",", "."),
        (["1,234.50", "10.00"], ".", ","),
        (["1 234,50"], ",", " "),
        (["12", "13", ""], ".", ""),
        (["12,50", *["1"] * 500, "1.234,50"], ",", "."),
    ],
)
def test_how_amounts_are_written_is_guessed_from_all_of_them(prepared, amounts, decimal, thousands):
    layout = prepared("purchases", sales(*amounts)).file
    assert (layout.decimal, layout.thousands) == (decimal, thousands)


@pytest.mark.parametrize(
    ("amounts", "says"),
    [
        (["10.00", "10,00", "10.005"], "more than one way: '10.00' .'amount' in row 1., '10,00' .'amount' in row 2."),
        ([*["1"] * 500, "12,50", "10.00"], "more than one way"),
        (["1.234"], "'1.234' .'amount' in row 1. is 1.234 .* or 1234 .*no other cell says which"),
        (["1,234", "999"], "'1,234'"),
    ],
)
def test_what_cannot_be_known_of_amounts_is_asked_with_what_to_put_into_the_mapping(prepared, capsys, amounts, says):
    with pytest.raises(MappingError, match=f"{says}.*Save the lines above as a file, with the right file.decimal"):
        prepared("purchases", sales(*amounts))
    guess = "\n".join(line[2:] for line in capsys.readouterr().err.splitlines() if line.startswith("  "))
    layout = prepared("purchases", sales(*amounts), guess + '\nfile.decimal = ","\nfile.thousands = "."').file
    assert (layout.decimal, layout.thousands) == (",", ".")


def test_prices_and_quantities_are_asked_too_and_nested_ones(tmp_path):
    lines = [{"id": 1, "date": "2025-03-01", "items": [{"sku": "a", "qty": "1,5", "price": "2.50"}]}]
    (tmp_path / "a.ndjson").write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(MappingError, match=r"'2.50' .'price' in row 1., '1,5' .'qty' in row 1."):
        prepare(ImportOptions("purchases", tmp_path / "a.ndjson"), "USD", Noon())


# Whose numbers they are.


@pytest.mark.parametrize(
    ("source", "prefix"),
    [(None, "import/"), ("import/erp", "erp/"), ("erp", "erp/"), ("import/old crm", "old crm/"), ("import/", "import/")],
)
def test_a_guessed_customer_number_is_apart_from_the_web_shops_and_the_same_in_all_files_of_a_source(prepared, capsys, source, prefix):
    people = prepared("customers", "customer_no,updated_at\n1,2025-03-01\n", source=source)
    orders = prepared("purchases", "order_id,customer_no,date,amount\n1,1,2025-03-01,1\n", source=source)
    assert people.references["user"].prefix == orders.references["user"].prefix == prefix
    assert f"names customers as user:{prefix}" in capsys.readouterr().err


def test_a_long_source_makes_a_prefix_that_a_mapping_may_have(prepared):
    assert len(prepared("customers", "customer_no,updated_at\n", source="import/" + "x" * 200).references["user"].prefix) == 64


@pytest.mark.parametrize("column", ["card", "Loyalty card no", "customer_card_no", "member_no"])
def test_a_card_is_a_card(prepared, column):
    references = prepared("customers", f"{column},updated_at\n").references
    assert {kind: given.prefix for kind, given in references.items()} == {"loyalty_card": None}


@pytest.mark.parametrize("prefix", ["erp", "/", "", " a/", "e\\u0007/"])
def test_a_prefix_is_a_name_and_what_separates_it(prepared, prefix):
    with pytest.raises(MappingError, match='such as "erp/"'):
        prepared("customers", "no,t\n", f'time = "t"\nreferences.user = {{column = "no", prefix = "{prefix}"}}')


def test_addresses_have_no_prefix(prepared):
    with pytest.raises(MappingError, match="references: email: has no prefix; only user, loyalty_card, anonymous can have one"):
        prepared("customers", "no,t\n", 'time = "t"\nreferences.email = {column = "no", prefix = "erp/"}')


# --as-of


def test_as_of_stands_in_where_neither_a_column_nor_the_mapping_says_when(prepared):
    time = prepared("customers", "card\n1\n", as_of="2026-01-31").time
    assert (time.column, time.value) == (None, date(2026, 1, 31))
    time = prepared("customers", "card,updated_at\n1,2025-03-01\n", as_of="2026-01-31").time
    assert (time.column, time.default) == ("updated_at", date(2026, 1, 31))
    mapping = 'references.loyalty_card = "card"\nfile.time_zone = "UTC"\n'
    time = prepared("customers", "card,t\n", mapping + 'time = {column = "t", default = "2020-01-01"}', as_of="2026-01-31").time
    assert (time.column, time.default) == ("t", "2020-01-01")
    assert prepared("customers", "card\n", mapping + "time = {value = 2020-01-01}", as_of="2026-01-31").time.value == date(2020, 1, 1)


def test_what_as_of_does_not_change_is_said(prepared, capsys):
    prepared(
        "customers", "card\n", 'references.loyalty_card = "card"\nfile.time_zone = "UTC"\ntime = {value = 2020-01-01}', as_of="2026-01-31"
    )
    assert "--as-of is not used" in capsys.readouterr().err


def test_what_is_no_field_is_explained_beside_as_of_too(prepared):
    with pytest.raises(MappingError, match="time: is a column's name"):
        prepared("customers", "card\n", 'references.loyalty_card = "card"\ntime = 5', as_of="2026-01-31")


def test_rows_keep_their_own_times_beside_as_of(tmp_path):
    (tmp_path / "a.csv").write_text("card,updated_at\n1,2024-05-05\n2,\n")
    assert run_import(ImportOptions("customers", tmp_path / "a.csv", as_of="2026-01-31", dry_run=True)) == 0


def test_as_of_is_in_no_columns_format(prepared):
    mapping = 'references.loyalty_card = "card"\ntime = "t"\nfile.time_zone = "UTC"\nfile.time_format = "%d/%m/%Y"'
    assert prepared("customers", "card,t\n", mapping, as_of="2026-01-31").time.default == date(2026, 1, 31)


@pytest.mark.parametrize(
    ("as_of", "says"),
    [
        ("yesterday", "--as-of: 'yesterday' is no day; write it as 2026-01-31"),
        ("31.01.2026", "is no day"),
        ("2026-02-31", "is no day"),
        ("2099-01-01", "--as-of: 2099-01-01 is in the future"),
        ("1900-01-01", "--as-of: 1900-01-01 is before 1970-01-01"),
    ],
)
def test_a_wrong_as_of_is_one_usage_error(prepared, as_of, says):
    with pytest.raises(MappingError, match=says) as caught:
        prepared("customers", "card\n1\n2\n", as_of=as_of)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("place", ["time", "registered", "consents.0.at"])
def test_a_time_that_the_mapping_gives_is_wrong_once(prepared, place):
    times = {"time": '"2026-01-31"', "registered": '"2020-01-01"', "consents.0.at": '"2020-01-01"', place: '"31.01.2020"'}
    mapping = f"""
        references.loyalty_card = "card"
        file.time_zone = "UTC"
        time = {{value = {times["time"]}}}
        registered = {{value = {times["registered"]}}}
        consents = [{{purpose = "marketing", channel = "email", given = "news", at = {{value = {times["consents.0.at"]}}}}}]
    """
    with pytest.raises(MappingError, match=rf"^{place}: '31.01.2020': a time such as"):
        prepared("customers", "card,news\n", mapping)


# Wrong files, wrong mappings.


@pytest.mark.parametrize(
    ("mapping", "says"),
    [
        ("id = order_id", "is no TOML, where names of columns and all other texts stand in quotes: .*line 1"),
        (b"\xff\xfei\0d\0", "save it as text in UTF-8"),
        (None, "cannot be read: No such file"),
        ('traits.name = "n"', "traits: is no field here; it is one of customers"),
    ],
)
def test_a_mapping_that_is_none_says_what_to_change(tmp_path, mapping, says):
    (tmp_path / "a.csv").write_text(SALES)
    if mapping is not None:
        (tmp_path / "m.toml").write_bytes(mapping if isinstance(mapping, bytes) else mapping.encode())
    with pytest.raises(MappingError, match=says):
        prepare(ImportOptions("purchases", tmp_path / "a.csv", tmp_path / "m.toml"), "USD", Noon())


def test_what_could_not_be_guessed_is_asked_beside_the_columns_that_there_are(prepared):
    with pytest.raises(MappingError, match=r"guessed from the columns of .*a.csv \('Beleg', 'Datum'\): time: is needed"):
        prepared("purchases", "\ufeffBeleg;Datum\r\n")


def test_what_excel_calls_unicode_text_is_guessed(prepared):
    mapping = prepared("purchases", "order_id\tdate\tamount\r\n1\t2025-03-01\t12,50\r\n".encode("utf-16"))
    assert (mapping.file.encoding, mapping.file.delimiter, mapping.file.decimal) == ("utf-16", "\t", ",")


def test_wrong_settings_are_named(monkeypatch):
    monkeypatch.setenv("DEAR_HOME_REGION", "thai")
    with pytest.raises(MappingError, match="DEAR_HOME_REGION: 'thai' is no country"):
        settings_of()


def test_verdicts_that_cannot_be_written_are_one_error(tmp_path):
    (tmp_path / "a.csv").write_text(sales("1"))
    with pytest.raises(MappingError, match="--verdicts names another file"):
        run_import(ImportOptions("purchases", tmp_path / "a.csv", verdicts=tmp_path / "nowhere" / "v", dry_run=True))


# What it came to.


def test_a_dry_run_says_what_the_rows_come_to(tmp_path, capsys):
    rows = (
        "1,2025-03-01,1234.50,9,a@x.de\n2,2025-03-05,0.50,9,\n3,2025-03-09,-20,,not an address\n4,2025-03-09,abc,,\n2,2025-03-05,0.50,9,\n"
    )
    (tmp_path / "a.csv").write_text("order_id,date,amount,customer_no,email\n" + rows)
    mapping = """
        id = "order_id"
        time = "date"
        amount = "amount"
        store = {value = "main"}
        negative = "refund"
        references.email = "email"
        references.user = {column = "customer_no", prefix = "erp/"}
        file.time_zone = "UTC"
    """
    (tmp_path / "m.toml").write_text(mapping)
    options = ImportOptions("purchases", tmp_path / "a.csv", tmp_path / "m.toml", dry_run=True)
    assert run_import(options) == 1
    said = capsys.readouterr().out
    assert "bought 1,235.00 USD (purchases: 2, mean 617.50 USD, largest 1,234.50 USD)\n" in said
    assert "refunded 20.00 USD (refunds: 1)\n" in said
    assert "dated 2025-03-01 to 2025-03-09 (UTC)\n" in said
    assert "named by user:erp/… from 'customer_no': 2\n" in said
    assert "naming nobody: 1\n" in said
    assert "without what stands in 'email': malformed" in said

    run_import(ImportOptions("purchases", tmp_path / "a.csv", tmp_path / "m.toml", dry_run=True, as_json=True))
    told = json.loads(capsys.readouterr().out)
    assert told["money"] == {"USD": {"purchases": 2, "bought_minor": 123500, "largest_minor": 123450, "refunds": 1, "refunded_minor": 2000}}
    assert (told["first_at"], told["last_at"]) == ("2025-03-01T12:00:00+00:00", "2025-03-09T12:00:00+00:00")
    assert told["named"] == [{"as": "user:erp/", "column": "customer_no", "count": 2}]
    assert told["dropped"] == [{"column": "email", "rule": "malformed", "count": 1}]


def test_numbers_that_are_shared_with_a_web_shop_are_said_to_be(tmp_path, capsys):
    (tmp_path / "a.csv").write_text("no\n42\n")
    (tmp_path / "m.toml").write_text('references.user = "no"\ntime = {value = 2026-01-31}\nfile.time_zone = "UTC"')
    assert run_import(ImportOptions("customers", tmp_path / "a.csv", tmp_path / "m.toml", dry_run=True)) == 0
    assert "named by user:… from 'no': 1, shared with your shop's own ids" in capsys.readouterr().out


def test_a_file_without_rows_says_so(tmp_path, capsys):
    (tmp_path / "a.csv").write_text(SALES)
    assert run_import(ImportOptions("purchases", tmp_path / "a.csv", dry_run=True)) == 0
    assert "the file has no rows" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("minor", "currency", "written"), [(123450, "USD", "1,234.50 USD"), (5, "JPY", "5 JPY"), (1234567, "KWD", "1,234.567 KWD")]
)
def test_money_is_written_as_in_its_country(minor, currency, written):
    assert in_major(minor, currency) == written
