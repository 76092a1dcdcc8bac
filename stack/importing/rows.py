"""One row of a file, and reading the fields that the mapping finds in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from stack.importing import values
from stack.importing.fields import Given
from stack.importing.mapping import FileLayout
from stack.importing.verdicts import Bad, Fault, RowReason

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Row:
    """What stands in one row, by column; `fault` where it could not be read at all."""

    number: int
    values: Mapping[str, object] = field(default_factory=dict)
    line: int | None = None
    fault: Fault | None = None


@dataclass(frozen=True, slots=True)
class Cells:
    """Reads fields from a row. What is wrong is told with its column."""

    values: Mapping[str, object]
    layout: FileLayout
    within: str = ""
    """The column that the values are nested in."""

    def raw(self, column: str) -> object:
        """What stands there; a dotted name reaches into nested values."""
        if column in self.values:
            return self.values[column]
        found: object = self.values
        for part in column.split("."):
            if not isinstance(found, Mapping):
                return None
            found = found.get(part)
        return found

    def within_column(self, column: str | None) -> Iterator[Cells]:
        """Each object that is nested there; without a column the row itself. Raises Bad."""
        nested = [self.values] if column is None else self.raw(column)
        if nested is None or nested == "":
            return
        if not isinstance(nested, list) or not all(isinstance(each, Mapping) for each in nested):
            raise Bad(RowReason.MISSING_VALUE, "a list of objects is expected", column)
        yield from (Cells(each, self.layout, column or self.within) for each in nested)

    def text(self, given: Given | None) -> str | None:
        """The field as a text, None where it is blank. Raises Bad."""
        return None if given is None else self._read(given, lambda value: values.as_text(value, self.layout))

    def needed(self, given: Given, name: str) -> str:
        """The field as a text. Raises Bad where it is blank."""
        found = self.text(given)
        if found is None:
            raise Bad(RowReason.MISSING_VALUE, f"{name} is needed", self.place(given))
        return found

    def key(self, columns: tuple[str, ...]) -> str:
        """What the columns say together: the name of the row. Raises Bad."""
        return "/".join(self.needed(Given(column=column), "the id") for column in columns)

    def time(self, given: Given, zone: str | None, name: str = "the time") -> datetime:
        """The field as a moment. Raises Bad."""
        return self._needed(given, name, lambda value: values.as_time(value, self.layout, zone))

    def minor(self, given: Given, currency: str, times: int = 1) -> int:
        """The field as an amount in minor units. Raises Bad."""
        return self._needed(given, "the amount", lambda value: values.as_minor(value, self.layout, currency, times))

    def quantity(self, given: Given, weighed_as_one: bool) -> int:
        """The field as a number of pieces. Raises Bad."""
        return self._needed(given, "the quantity", lambda value: values.as_quantity(value, self.layout, weighed_as_one))

    def whole(self, given: Given) -> int | None:
        """The field as a whole number, None where it is blank. Raises Bad."""
        if self.text(given) is None:
            return None
        return self._stripped(given, lambda value: values.as_whole(value, self.layout))

    def day(self, given: Given) -> str | None:
        """The field as a day, None where it is blank. Raises Bad."""
        if self.text(given) is None:
            return None
        return self._stripped(given, lambda value: values.as_day(value, self.layout).isoformat())

    def choice(self, given: Given, words: Sequence[str]) -> str | None:
        """The field as one of these words, None where it is blank. Raises Bad."""
        if self.text(given) is None:
            return None
        return self._read(given, lambda value: values.as_choice(value, self.layout, words))

    def says(self, given: Given) -> bool:
        """Does the row itself say something there, and not only the mapping?"""
        return given.column is not None and self.text(Given(column=given.column)) is not None

    def flag(self, given: Given) -> bool | None:
        """The field as yes or no, None where it is blank. Raises Bad."""
        if self.text(given) is None:
            return None
        return self._read(given, lambda value: values.as_flag(value, self.layout))

    def _needed(self, given: Given, name: str, read: Callable[[object], T]) -> T:
        self.needed(given, name)
        return self._stripped(given, read)

    def _stripped(self, given: Given, read: Callable[[object], T]) -> T:
        return self._read(given, lambda value: read(value.strip() if isinstance(value, str) else value))

    def _read(self, given: Given, read: Callable[[object], T]) -> T:
        value: object = given.value if given.column is None else self.raw(given.column)
        try:
            if given.default is not None and values.as_text(value, self.layout) is None:
                value = given.default
            return read(value)
        except Bad as bad:
            raise Bad(RowReason(bad.fault.reason), bad.fault.detail, bad.fault.column or self.place(given)) from bad

    def place(self, given: Given) -> str | None:
        """The column that is to blame for the field."""
        return f"{self.within}.{given.column}" if self.within and given.column else given.column
