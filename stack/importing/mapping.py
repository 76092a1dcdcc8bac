"""The mapping file: which column is which field, and how the file writes times, amounts and yes.

MappingError
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from shared.contracts.customers import Channel, Purpose
from shared.contracts.envelope import Name
from shared.operator_error import OperatorError

Kind = Literal["customers", "purchases", "interactions"]
KINDS: tuple[Kind, ...] = ("customers", "purchases", "interactions")
ReferenceColumn = Literal["loyalty_card", "user", "email", "phone", "line", "anonymous", "typed"]
"""`typed` columns hold whole references, such as email:ann@example.com."""


class MappingError(OperatorError):
    """The mapping does not fit: itself, or to the file. The message says what to change."""

    exit_code = 2


class Part(BaseModel):
    """Part of a mapping: frozen, and closed to what it does not know, so that a misspelt field is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Given(Part):
    """Where a field comes from: a column (with what stands in where it is blank), or the same value for every row."""

    column: Name | None = None
    default: Name | None = None
    value: Name | None = None

    @model_validator(mode="after")
    def _is_one_of_both(self) -> Given:
        if (self.column is None) == (self.value is None):
            raise ValueError("is a column's name, {column = ..., default = ...} or {value = ...}")
        return self


def _as_given(written: object) -> object:
    return {"column": written} if isinstance(written, str) else written


def _as_list(written: object) -> object:
    return (written,) if isinstance(written, str) else written


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError(f"{name} is no time zone; write it as Asia/Bangkok or UTC") from error
    return name


Field_ = Annotated[Given, BeforeValidator(_as_given)]
Columns = Annotated[tuple[Name, ...], BeforeValidator(_as_list)]
Zone = Annotated[str, AfterValidator(_known_zone)]


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


class AnyMapping(Part):
    """What the mappings of all kinds say."""

    source: Name
    """Names the system that the file comes from, for ever: source and id together are what makes a second import change nothing."""
    id: Columns = ()
    file: FileLayout = FileLayout()
    references: dict[ReferenceColumn, Field_] = Field(default_factory=dict)


class ConsentColumn(Part):
    """A column of yes and no for one purpose and channel; `at` is a column that says since when."""

    purpose: Purpose
    channel: Channel
    given: Field_
    at: Field_ | None = None


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
    try:
        text = path.read_text(encoding="utf-8")
        read: dict[str, Any] = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise MappingError(f"{path} is no mapping: {error}. `dear import example-mapping {kind}` shows one.") from error
    if not isinstance(read, dict):
        raise MappingError(f"{path} is no mapping: an object is expected. `dear import example-mapping {kind}` shows one.")
    return read


def check_mapping(written: Mapping[str, Any], kind: Kind, where: str) -> ImportMapping:
    """The mapping of a kind. Raises MappingError that names each field that is wrong."""
    try:
        return MODELS[kind].model_validate(written)
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc'])) or kind}: {fault['msg']}" for fault in error.errors()]
        raise MappingError(f"{where}: {'; '.join(faults[:5])}. `dear import example-mapping {kind}` shows all fields.") from None


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
        case BaseModel():
            for name in type(part).model_fields:
                yield from _givens(getattr(part, name))
        case dict():
            for each in part.values():
                yield from _givens(each)
        case tuple():
            for each in part:
                yield from _givens(each)
