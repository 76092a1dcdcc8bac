"""Parquet, read by row groups. Cells have the types of the file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stack.arrow import pyarrow
from stack.importing.mapping import MappingError
from stack.importing.rows import Row
from stack.importing.tables import Advance
from stack.importing.verdicts import Fault, RowReason

PARQUET_ROWS_AT_ONCE = 2000


@dataclass(frozen=True)
class ParquetTable:
    """Parquet, read by row groups. Cells have the types of the file."""

    path: Path

    @property
    def size(self) -> int:
        rows: int = self._opened().metadata.num_rows
        return rows

    def columns(self) -> tuple[str, ...]:
        names: list[str] = self._opened().schema_arrow.names
        return tuple(names)

    def rows(self, advance: Advance = lambda done: None) -> Iterator[Row]:
        number = 0
        for batch in self._opened().iter_batches(batch_size=PARQUET_ROWS_AT_ONCE):
            columns = [_Column(name, batch.column(at)) for at, name in enumerate(batch.schema.names)]
            for place in range(batch.num_rows):
                number += 1
                yield _parquet_row(number, columns, place)
            advance(number)

    def _opened(self) -> Any:
        try:
            return pyarrow("pyarrow.parquet").ParquetFile(self.path)
        except (OSError, ValueError) as error:
            raise MappingError(f"{self.path} is no Parquet file: {error}") from error


class _Column:
    """Some values of one column."""

    def __init__(self, name: str, array: Any) -> None:
        self.name = name
        self._array = _in_microseconds(array)
        try:
            self._values: list[Any] | None = self._array.to_pylist()
        except (ValueError, OverflowError):
            # One value is none that Python knows, such as bytes that are not UTF-8: then each is asked for by itself.
            self._values = None

    def at(self, place: int) -> Any:
        """Raises ValueError and OverflowError."""
        return self._values[place] if self._values is not None else self._array[place].as_py()


def _in_microseconds(array: Any) -> Any:
    types = pyarrow("pyarrow.types")
    if types.is_timestamp(array.type) and array.type.unit == "ns":
        return array.cast(pyarrow().timestamp("us", array.type.tz), safe=False)
    return array


def _parquet_row(number: int, columns: list[_Column], place: int) -> Row:
    read: dict[str, Any] = {}
    for column in columns:
        try:
            read[column.name] = column.at(place)
        except UnicodeDecodeError as error:
            return Row(number, fault=Fault(RowReason.NOT_UTF8, f"not UTF-8 at byte {error.start}", column.name))
        except (ValueError, OverflowError) as error:
            return Row(number, fault=Fault(RowReason.MALFORMED_ROW, str(error), column.name))
    return Row(number, read)
