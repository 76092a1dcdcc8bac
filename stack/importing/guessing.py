"""A mapping from column names, for files that come without one: what was guessed is said, in the words of a mapping file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import islice
from typing import Any

from stack.importing.csv_tables import UTF_8, CsvTable
from stack.importing.fields import LONGEST_PREFIX
from stack.importing.mapping import Kind
from stack.importing.numerals import Numerals, Undecided, way_of
from stack.importing.tables import SAMPLE_ROWS, Table

NUMBER_ROWS = 50_000
"""So many rows are asked how numbers are written: a sign that is missed there is refused where it stands."""
SOURCES = "import/"
"""How the sources of files begin where nothing else is said."""
_REFERENCES = {
    "loyalty_card": "loyalty_card loyalty_card_no loyalty_card_number customer_card customer_card_no customer_card_number "
    "card_number card_no card_id card loyalty_id loyalty_no loyalty_number member_id member_no member_number household_id",
    "user": "user_id user customer_id customer_no customer_number customer_code customer client_id client_no account_id account_no userid "
    "customerid cust_id cust_no debtor_no",
    "email": "email e_mail email_address mail customer_email",
    "phone": "phone phone_number mobile mobile_number telephone tel cell_phone msisdn",
    "line": "line_id line_user_id",
    "anonymous": "anonymous_id device_id visitor_id",
    "typed": "reference customer_reference",
}
_TIMES = "time timestamp datetime date_time occurred_at ordered_at order_date purchased_at purchase_date sold_at created_at date day"
_FIELDS: Mapping[Kind, Mapping[str, str]] = {
    "customers": {
        "time": "updated_at modified_at last_modified updated last_updated time timestamp",
        "registered": "registered_at registered registration_date created_at created joined_at joined member_since signup_date since",
        "preferred_channel": "preferred_channel channel",
        "language": "language lang locale",
        "time_zone": "time_zone timezone tz",
        "customer_type": "customer_type",
    },
    "purchases": {
        "time": _TIMES,
        "store": "store store_id store_no shop shop_id branch branch_id outlet location store_name",
        "currency": "currency currency_code",
        "lines": "lines items line_items products",
        "sku": "sku product_id product_no product_code item_id item_code article ean upc gtin barcode product",
        "quantity": "quantity qty units pieces count",
        "amount": "amount line_total line_amount sales_value amount_minor line_total_minor",
        "price": "price unit_price",
        "department": "department dept",
        "category": "category product_category commodity",
        "unit_cost": "unit_cost cost unit_cost_minor",
    },
    "interactions": {
        "time": _TIMES,
        "kind": "kind event event_name interaction action activity event_type type",
    },
}
_OF_A_LINE = ("sku", "quantity", "amount", "price", "department", "category", "unit_cost")
_NUMBERS = ("amount", "price", "unit_cost", "quantity")
_WHOLE_AMOUNTS = "total total_amount order_total total_minor net_amount revenue value"
"""What a whole purchase cost: in a file of lines these stand on each, and would be counted as often."""
_IDS: Mapping[Kind, str] = {
    "customers": "",
    "purchases": "receipt_id receipt receipt_no receipt_number order_id order_no order_number basket_id transaction_id "
    "invoice_id invoice_no invoice purchase_id sale_id ticket_id id",
    "interactions": "event_id interaction_id message_id activity_id id",
}
_PURPOSE, _CHANNEL = "(?:(marketing|service)_)?", "(email|line|sms|push|call)"
_CONSENTS = (
    re.compile(f"(?:consent|opt_in|optin|accepts|allows)_{_PURPOSE}{_CHANNEL}"),
    re.compile(f"{_PURPOSE}{_CHANNEL}_(?:consent|opt_in|optin|permission)"),
)


@dataclass(frozen=True, slots=True)
class Guess:
    """What a file suggests."""

    mapping: dict[str, Any]
    """As a mapping is written."""
    doubt: str | None = None
    """Why it is not to be used as it is."""
    notes: tuple[str, ...] = ()
    """What somebody should know of it."""


def guess_mapping(table: Table, kind: Kind, source: str | None = None) -> Guess:
    """What the columns' names and the first rows suggest. Not everything is found in every file."""
    columns = table.columns()
    by_name = {_plain(column): column for column in reversed(columns)}
    guessed: dict[str, Any] = {}
    taken: set[str] = set()
    if kind == "purchases":
        # Before references: customer_id of an order is who, and order_id is which.
        guessed |= _ids(table, kind, by_name, taken)
    references: dict[str, Any] = {field: column for field, words in _REFERENCES.items() if (column := _find(words, by_name, taken))}
    notes = _keep_apart(references, source)
    guessed |= {"references": references} if references else {}
    guessed |= _nested(table, by_name, taken) if kind == "purchases" else {}
    for field, words in _FIELDS[kind].items():
        if "lines" in guessed and (field in _OF_A_LINE or field == "lines"):
            continue
        if field != "lines" and (column := _find(words, by_name, taken)):
            guessed[field] = column
    if kind == "interactions":
        guessed |= _ids(table, kind, by_name, taken)
    if kind == "purchases":
        _settle_amount(guessed, by_name, taken)
    numerals = _numerals(table, guessed)
    layout = _layout(table, guessed, numerals)
    mapping = {"source": source or f"import/{kind}"} | guessed | _rest(kind, columns, taken, guessed) | {"file": layout}
    return Guess(mapping, numerals.detail if isinstance(numerals, Undecided) else None, notes)


def _keep_apart(references: dict[str, Any], source: str | None) -> tuple[str, ...]:
    """Numbers of customers get the source's name before them: another system's number 42 is somebody else."""
    if "user" not in references:
        return ()
    name = (source or "").removeprefix(SOURCES).strip(" /")[: LONGEST_PREFIX - 1]
    prefix = f"{name}/" if name else SOURCES
    references["user"] = {"column": references["user"], "prefix": prefix}
    told = f"{references['user']['column']!r} names customers as user:{prefix}…, apart from the ids of your web shop and of other systems"
    if source is None:
        return (f"{told}; give every file of this system the same --source, and its name stands there instead",)
    return (f"{told}; import every file of this system with the same prefix, or its customers are two",)


def _settle_amount(guessed: dict[str, Any], by_name: Mapping[str, str], taken: set[str]) -> None:
    """The amount of a line is believed before its price; the amount of the whole only where a row is the whole."""
    if "amount" not in guessed and "price" not in guessed and guessed.get("rows") != "line" and "lines" not in guessed:
        column = _find(_WHOLE_AMOUNTS, by_name, taken)
        guessed |= {"amount": column} if column else {}
    if "amount" in guessed:
        guessed.pop("price", None)


def _plain(column: str) -> str:
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", column.strip())
    return re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")


def _find(words: str, by_name: Mapping[str, str], taken: set[str]) -> str | None:
    for word in words.split():
        column = by_name.get(word)
        if column is not None and column not in taken:
            taken.add(column)
            return column
    return None


def _ids(table: Table, kind: Kind, by_name: Mapping[str, str], taken: set[str]) -> dict[str, Any]:
    column = _find(_IDS[kind], by_name, taken)
    if column is None:
        return {}
    if kind != "purchases":
        return {"id": column}
    ids = [row.values.get(column) for row in islice(table.rows(), SAMPLE_ROWS)]
    return {"id": column, "rows": "line" if len(set(map(str, ids))) < len(ids) else "purchase"}


def _nested(table: Table, by_name: Mapping[str, str], taken: set[str]) -> dict[str, str]:
    """The fields of nested lines, where there are any."""
    column = next((by_name[word] for word in _FIELDS["purchases"]["lines"].split() if word in by_name), None)
    if column is None:
        return {}
    lists = (row.values.get(column) for row in islice(table.rows(), SAMPLE_ROWS))
    lines = [line for each in lists if isinstance(each, list) for line in each if isinstance(line, Mapping)]
    if not lines:
        return {}
    taken.add(column)
    inside = {_plain(name): name for line in lines for name in line}
    found = {field: _find(_FIELDS["purchases"][field], inside, set()) for field in _OF_A_LINE}
    return {"lines": column} | {field: name for field, name in found.items() if name is not None}


def _rest(kind: Kind, columns: Sequence[str], taken: set[str], guessed: Mapping[str, Any]) -> dict[str, Any]:
    if kind == "customers":
        consents = [consent for column in columns if column not in taken and (consent := _consent(column))]
        return ({"consents": consents} if consents else {}) | {"other_traits": True}
    if kind == "interactions":
        return {"other_properties": True}
    return {} if "store" in guessed else {"store": {"value": "main"}}


def _consent(column: str) -> dict[str, str] | None:
    match = next((found for each in _CONSENTS if (found := each.fullmatch(_plain(column)))), None)
    if match is None:
        return None
    return {"purpose": match[1] or "marketing", "channel": match[2], "given": column}


def _layout(table: Table, guessed: Mapping[str, Any], numerals: Numerals | Undecided) -> dict[str, Any]:
    layout: dict[str, Any] = {"time_zone": "UTC"}
    amount = guessed.get("amount") or guessed.get("price")
    if isinstance(amount, str) and _plain(amount).endswith("_minor"):
        layout["minor_units"] = True
    if isinstance(table, CsvTable):
        layout["delimiter"] = table.delimiter()
        layout |= {"encoding": table.layout.encoding} if table.layout.encoding != UTF_8 else {}
    if isinstance(numerals, Numerals):
        usual = Numerals()
        layout |= {name: sign for name in ("decimal", "thousands") if (sign := getattr(numerals, name)) != getattr(usual, name)}
    return layout


def _numerals(table: Table, guessed: Mapping[str, Any]) -> Numerals | Undecided:
    """How the numbers of a file are written, as far as they are texts: by all of them together."""
    fields = [field for field in _NUMBERS if isinstance(guessed.get(field), str)]
    cells: dict[str, str] = {}
    for row in islice(table.rows() if fields else (), NUMBER_ROWS):
        nested = row.values.get(guessed["lines"]) if "lines" in guessed else (row.values,)
        for line in nested if isinstance(nested, list | tuple) else ():
            for field in fields:
                cell = line.get(guessed[field]) if isinstance(line, Mapping) else None
                if isinstance(cell, str):
                    cells.setdefault(cell.strip(), f"{guessed[field]!r} in row {row.number}")
    return way_of(cells)


def spelled_out(mapping: Mapping[str, Any]) -> Iterator[str]:
    """A mapping line by line, as its file would say it."""
    for name, value in mapping.items():
        if isinstance(value, Mapping) and not value.keys() <= {"value", "column", "default", "prefix"}:
            yield from (f"{name}.{_key(inner)} = {_toml(each)}" for inner, each in value.items())
        else:
            yield f"{name} = {_toml(value)}"


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False)


def _toml(value: object) -> str:
    match value:
        case Mapping():
            return "{" + ", ".join(f"{_key(name)} = {_toml(each)}" for name, each in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(_toml, value)) + "]"
        case bool():
            return str(value).lower()
        case date():
            return value.isoformat()
    return json.dumps(value, ensure_ascii=False)
