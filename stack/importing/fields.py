"""Where the fields of a mapping come from: columns of the file, or the mapping itself."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, PlainValidator, model_validator

from shared.contracts.envelope import Name

ReferenceColumn = Literal["loyalty_card", "user", "email", "phone", "line", "anonymous", "typed"]
"""`typed` columns hold whole references, such as email:ann@example.com."""
PREFIXED = ("user", "loyalty_card", "anonymous")
"""Numbers that somebody hands out; addresses are the same whoever writes them."""
LONGEST = 256
LONGEST_PREFIX = 64
SEPARATORS = "/:-_.#"
EXPECTED = "is a column's name, {column = ..., default = ...} or {value = ...}"


class Part(BaseModel):
    """Part of a mapping: frozen, and closed to what it does not know, so that a misspelt field is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _constant(written: object) -> object:
    if isinstance(written, str) and not 0 < len(written) <= LONGEST:
        raise ValueError(f"is a text of 1 to {LONGEST} characters")
    if written is not None and not isinstance(written, str | bool | int | float | date):
        raise ValueError("is a text, a number, true, false, a day or a time")
    return written


Constant = Annotated[str | bool | int | float | date | datetime | None, PlainValidator(_constant)]


class Given(Part):
    """Where a field comes from: a column (with what stands in where it is blank), or the same value for every row."""

    column: Name | None = None
    default: Constant = None
    value: Constant = None

    @model_validator(mode="after")
    def _is_one_of_both(self) -> Given:
        if (self.column is None) == (self.value is None):
            raise ValueError(EXPECTED)
        if self.column is None and self.default is not None:
            raise ValueError("has a default only beside a column")
        return self


class NamedBy(Given):
    """What names the customer. The prefix keeps the numbers of one system apart from another's of the same type."""

    prefix: str | None = None

    @model_validator(mode="after")
    def _separates(self) -> NamedBy:
        prefix = self.prefix
        if prefix is None:
            return self
        if not 1 < len(prefix) <= LONGEST_PREFIX or not prefix.isprintable() or prefix != prefix.strip() or prefix[-1] not in SEPARATORS:
            raise ValueError(f'prefix: is a name and one of {" ".join(SEPARATORS)} after it, such as "erp/"')
        return self


def as_given(written: object) -> object:
    """A column's name alone is short for it."""
    if written is not None and not isinstance(written, str | Mapping | Given):
        raise ValueError(EXPECTED)
    return {"column": written} if isinstance(written, str) else written


def _prefixes_fit(references: dict[ReferenceColumn, NamedBy]) -> dict[ReferenceColumn, NamedBy]:
    for kind, named in references.items():
        if named.prefix is not None and kind not in PREFIXED:
            raise ValueError(f"{kind}: has no prefix; only {', '.join(PREFIXED)} can have one")
    return references


def _as_list(written: object) -> object:
    return (written,) if isinstance(written, str) else written


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError(f"{name} is no time zone; write it as Asia/Bangkok or UTC") from error
    return name


Field_ = Annotated[Given, BeforeValidator(as_given)]
References = Annotated[dict[ReferenceColumn, Annotated[NamedBy, BeforeValidator(as_given)]], AfterValidator(_prefixes_fit)]
Columns = Annotated[tuple[Name, ...], BeforeValidator(_as_list)]
Zone = Annotated[str, AfterValidator(_known_zone)]


def by_default(written: object, default: date) -> object:
    """A field as it is written in a mapping, with what stands in where it says nothing itself; what is no field stays as it is."""
    if written is None:
        return {"value": default}
    field = {"column": written} if isinstance(written, str) else written
    if isinstance(field, Mapping) and "column" in field and "default" not in field:
        return {**field, "default": default}
    return written


class Within(Part):
    """Fields of the row, or of each object in a column of nested ones (NDJSON, Parquet): then they are named within it."""

    within: Name | None = None
