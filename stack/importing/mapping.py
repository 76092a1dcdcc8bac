"""The mapping file: which column is which field, and how the file writes times, amounts and yes.

MappingError
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from datetime import date
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError, model_validator

from shared.contracts.customers import Channel, Purpose
from shared.contracts.envelope import Name
from shared.operator_error import OperatorError
from stack.importing.fields import Columns, Field_, Given, NamedBy, Part, References, Within, Zone
from stack.importing.numerals import Numerals

Kind = Literal["customers", "purchases", "interactions"]
KINDS: tuple[Kind, ...] = ("customers", "purchases", "interactions")


class MappingError(OperatorError):
    """The mapping does not fit: itself, or to the file. The message says what to change."""

    exit_code = 2


class FileLayout(Part):
    """How the file is written."""

    encoding: str = "utf-8"
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    """Of CSV; looked up in the header where it is not given."""
    decimal: Literal[".", ","] = "."
    thousands: Literal["", ",", ".", " ", "'"] = ""
    minor_units: bool = False
    """Amounts are whole cents (satang, yen) already."""
    time_zone: Zone | None = None
    """Of times that are written without one."""
    time_format: Name | None = None
    """As strptime knows it, or epoch or epoch_ms, where times are not ISO 8601."""
    day_format: Name | None = None
    """The same of days that are no times, such as the last service's."""
    earliest: date = date(1970, 1, 1)
    """What is dated before is refused: 1900-01-01 is how many systems write that they do not know."""
    blank: tuple[str, ...] = ("NULL", "null", "\\N")
    """Besides the empty cell."""
    unknown_columns: Literal["ignore", "refuse"] = "ignore"

    @model_validator(mode="after")
    def _amounts_can_be_read(self) -> FileLayout:
        if self.decimal == self.thousands:
            raise ValueError("decimal and thousands cannot be the same")
        return self

    @cached_property
    def numerals(self) -> Numerals:
        """How numbers are written."""
        return Numerals(self.decimal, self.thousands)


class AnyMapping(Part):
    """What the mappings of all kinds say."""

    source: Name
    """Names the system that the file comes from, for ever: source and id together are what makes a second import change nothing."""
    id: Columns = ()
    file: FileLayout = FileLayout()
    references: References = Field(default_factory=dict)


class ConsentColumn(Part):
    """A column of yes and no for one purpose and channel, since when, and what proves it: the words are the contract's."""

    purpose: Purpose
    channel: Channel
    given: Field_
    at: Field_ | None = None
    lawful_basis: Field_ | None = None
    text_version: Field_ | None = None
    text_sha256: Field_ | None = None
    method: Field_ | None = None
    place: Field_ | None = None
    evidence: Field_ | None = None


class AssetColumns(Within):
    """Something that a customer owns; the fields are the contract's (`Asset`)."""

    asset_id: Field_
    kind: Field_ | None = None
    label: Field_ | None = None
    since: Field_ | None = None
    service_every_days: Field_ | None = None
    service_every_km: Field_ | None = None
    serviced_on: Field_ | None = None
    serviced_at_km: Field_ | None = None
    odometer_km: Field_ | None = None
    read_on: Field_ | None = None
    warranty_ends_on: Field_ | None = None
    renews_on: Field_ | None = None
    is_gone: Field_ | None = None


class DecisionMakerColumns(Within):
    """A person who decides at a firm; the first of `references` that is not blank says where they are reached."""

    person_id: Field_
    name: Field_ | None = None
    role: Field_ | None = None
    channel: Field_ | None = None
    references: References = Field(default_factory=dict)
    has_left: Field_ | None = None


class CustomersMapping(AnyMapping):
    """One row says who somebody is."""

    source: Name = "import/customers"
    time: Field_ | None = None
    registered: Field_ | None = None
    traits: dict[Name, Field_] = Field(default_factory=dict)
    other_traits: bool = False
    consents: tuple[ConsentColumn, ...] = ()
    preferred_channel: Field_ | None = None
    language: Field_ | None = None
    time_zone: Field_ | None = None
    customer_type: Field_ | None = None
    lead_source: Field_ | None = None
    assets: tuple[AssetColumns, ...] = ()
    decision_makers: tuple[DecisionMakerColumns, ...] = ()

    @model_validator(mode="after")
    def _says_who_and_when(self) -> CustomersMapping:
        if not self.references:
            raise ValueError("references: at least one column that names the customer is needed")
        if self.time is None and self.registered is None:
            raise ValueError("time: the column that says when a row was true, or one moment for all: time = {value = '2026-01-31'}")
        return self


class PurchasesMapping(AnyMapping):
    """One row is a whole purchase, or a line of a receipt."""

    source: Name = "import/purchases"
    rows: Literal["purchase", "line"] = "purchase"
    time: Field_
    store: Field_
    currency: Field_ | None = None
    lines: Name | None = None
    """A column of nested lines (NDJSON, Parquet); the line's fields are then named within it."""
    sku: Field_ = Given(value="unknown")
    quantity: Field_ = Given(value="1")
    amount: Field_ | None = None
    price: Field_ | None = None
    department: Field_ | None = None
    category: Field_ | None = None
    unit_cost: Field_ | None = None
    negative: Literal["refuse", "refund"] = "refuse"
    weighed_as_one: bool = False
    """A quantity such as 0.453 counts as one piece."""
    store_time_zones: dict[Name, Zone] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _adds_up(self) -> PurchasesMapping:
        if (self.amount is None) == (self.price is None):
            raise ValueError("amount (of the whole line) or price (of one piece): one of them is needed")
        if self.rows == "line" and not self.id:
            raise ValueError("id: lines belong together by the columns that name their receipt")
        if self.rows == "line" and self.lines is not None:
            raise ValueError("lines: a row is either one line or has nested ones")
        if self.weighed_as_one and self.price is not None:
            raise ValueError("weighed_as_one: needs the amount of the line, not the price of one")
        return self


class InteractionsMapping(AnyMapping):
    """One row is something that a customer did."""

    source: Name = "import/interactions"
    time: Field_
    kind: Field_
    properties: dict[Name, Field_] = Field(default_factory=dict)
    other_properties: bool = False


ImportMapping = CustomersMapping | PurchasesMapping | InteractionsMapping
MODELS: Mapping[Kind, type[ImportMapping]] = {
    "customers": CustomersMapping,
    "purchases": PurchasesMapping,
    "interactions": InteractionsMapping,
}


def load_mapping(path: Path, kind: Kind) -> dict[str, Any]:
    """A mapping file as it is written, TOML or JSON. Raises MappingError."""
    shown = f"`dear import example-mapping {kind}` shows one"
    try:
        text = path.read_text(encoding="utf-8-sig")
        read: dict[str, Any] = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except UnicodeError:
        raise MappingError(f"{path} is no mapping: save it as text in UTF-8. {shown}.") from None
    except ValueError as error:
        form = "JSON" if path.suffix == ".json" else "TOML, where names of columns and all other texts stand in quotes"
        raise MappingError(f"{path} is no {form}: {error}. {shown}.") from error
    except OSError as error:
        raise MappingError(f"{path} cannot be read: {error.strerror or error}. {shown}.") from error
    if not isinstance(read, dict):
        raise MappingError(f"{path} is no mapping: an object is expected. {shown}.")
    return read


def check_mapping(written: Mapping[str, Any], kind: Kind, where: str) -> ImportMapping:
    """The mapping of a kind. Raises MappingError that names each field that is wrong."""
    try:
        return MODELS[kind].model_validate(written)
    except ValidationError as error:
        faults = [_explained(fault, kind) for fault in error.errors()]
        raise MappingError(f"{where}: {'; '.join(faults[:5])}. `dear import example-mapping {kind}` shows all fields.") from None


def _explained(fault: Any, kind: Kind) -> str:
    place = ".".join(map(str, fault["loc"])) or kind
    if fault["type"] == "missing":
        return f"{place}: is needed"
    if fault["type"] != "extra_forbidden":
        return f"{place}: {fault['msg'].removeprefix('Value error, ')}"
    name = str(fault["loc"][-1])
    others = [other for other in KINDS if len(fault["loc"]) == 1 and name in MODELS[other].model_fields]
    near = get_close_matches(name, sorted(_field_names(MODELS[kind])), 1, 0.7)
    hint = f"; it is one of {' and '.join(others)}" if others else f" (did you mean {near[0]}?)" if near else ""
    return f"{place}: is no field here{hint}"


def _field_names(model: type[ImportMapping]) -> set[str]:
    """Of a model and of what is in it."""
    inside: tuple[type[Part], ...] = (ConsentColumn, AssetColumns, DecisionMakerColumns) if model is CustomersMapping else ()
    parts: tuple[type[Part], ...] = (model, FileLayout, NamedBy, *inside)
    return {name for part in parts for name in part.model_fields}


def example_mapping(kind: Kind) -> str:
    """A commented mapping, to be changed."""
    return (Path(__file__).parent / "mappings" / f"{kind}.toml").read_text(encoding="utf-8")


def mapped_columns(mapping: ImportMapping) -> tuple[str, ...]:
    """Every column of the file that the mapping reads, once, in the order in which it names them."""
    if isinstance(mapping, PurchasesMapping) and mapping.lines is not None:
        inside = {id(given) for given in line_fields(mapping)}
        outside = [given.column for given in _givens(mapping) if id(given) not in inside]
        return tuple(dict.fromkeys((*mapping.id, *(column for column in outside if column), mapping.lines)))
    return tuple(dict.fromkeys((*mapping.id, *(given.column for given in _givens(mapping) if given.column))))


def line_fields(mapping: PurchasesMapping) -> tuple[Given, ...]:
    """Where the fields of a line come from."""
    fields = (mapping.sku, mapping.quantity, mapping.amount, mapping.price, mapping.department, mapping.category, mapping.unit_cost)
    return tuple(given for given in fields if given is not None)


def _givens(part: object) -> Iterator[Given]:
    match part:
        case Given():
            yield part
        case Within(within=str() as column):
            yield Given(column=column)
        case BaseModel():
            for name in type(part).model_fields:
                yield from _givens(getattr(part, name))
        case dict():
            for each in part.values():
                yield from _givens(each)
        case tuple():
            for each in part:
                yield from _givens(each)
