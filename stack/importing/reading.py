"""Rows from CSV, NDJSON and Parquet, one after the other: whatever the size of the file, only a few are in memory."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import IO, Any, Protocol

from stack.arrow import pyarrow
from stack.importing.mapping import FileLayout, MappingError
from stack.importing.rows import Row
from stack.importing.verdicts import Fault, RowReason

DELIMITERS = ",;\t|"
LONGEST_LINE_BYTES = 1_000_000
SAMPLE_ROWS = 100
PARQUET_ROWS_AT_ONCE = 2000

Advance = Callable[[int], None]
"""Told how many bytes (rows of Parquet) are behind."""


class Table(Protocol):
    """A file of rows. It can be read several times."""

    @property
    def size(self) -> int:
        """In the units that progress is told in."""

    def columns(self) -> tuple[str, ...]:
        """Their names; of NDJSON, those in the first rows. Raises MappingError where there are none."""

    def rows(self, advance: Advance = ...) -> Iterator[Row]:
        """All rows, also those that cannot be read."""


def open_table(path: Path, layout: FileLayout) -> Table:
    """The file as its name says: .csv, .tsv, .ndjson, .jsonl (each also with .gz) or .parquet. Raises MappingError."""
    if not path.is_file():
        raise MappingError(f"{path} is no file")
    name = path.name.lower().removesuffix(".gz")
    if name.endswith((".csv", ".tsv", ".txt")):
        return CsvTable(path, layout)
    if name.endswith((".ndjson", ".jsonl", ".json")):
        return NdjsonTable(path)
    if name.endswith((".parquet", ".pq")):
        return ParquetTable(path)
    raise MappingError(f"{path}: name it .csv, .tsv, .ndjson, .jsonl or .parquet, so that its format is known")


@dataclass(frozen=True)
class CsvTable:
    """CSV with a header. Cells are texts."""

    path: Path
    layout: FileLayout

    @property
    def size(self) -> int:
        return self.path.stat().st_size

    def columns(self) -> tuple[str, ...]:
        with self._opened() as (_, text):
            return self._header(self._reader(text))

    def rows(self, advance: Advance = lambda done: None) -> Iterator[Row]:
        with self._opened() as (raw, text):
            reader = self._reader(text)
            columns = self._header(reader)
            number, done = 0, 0
            while (cells := _next(reader)) is not None:
                if cells == []:
                    continue
                number += 1
                yield _csv_row(number, reader.line_num, columns, cells)
                if raw.tell() != done:
                    done = raw.tell()
                    advance(done)

    def delimiter(self) -> str:
        """The one given, or the likeliest in the header."""
        if self.layout.delimiter:
            return self.layout.delimiter
        with self._opened() as (_, text):
            header = text.readline(LONGEST_LINE_BYTES)
        return max(DELIMITERS, key=header.count)

    def _opened(self) -> _Opened:
        return _Opened(self.path, self.layout.encoding)

    def _reader(self, text: IO[str]) -> Any:
        return csv.reader(text, delimiter=self.delimiter(), strict=True)

    def _header(self, reader: Any) -> tuple[str, ...]:
        header = _next(reader)
        if not isinstance(header, list) or not any(cell.strip() for cell in header):
            raise MappingError(f"{self.path}: the first line must name the columns")
        names = tuple(name.strip() for name in header)
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise MappingError(f"{self.path}: {', '.join(map(repr, twice))} names more than one column")
        if any(not _is_text(name) for name in names):
            raise MappingError(f"{self.path}: the column names are not {self.layout.encoding}: set file.encoding in the mapping")
        return names


class _Opened:
    """The file as text, and the bytes below it. Bytes that are none of the encoding pass as surrogates and are refused where they stand."""

    def __init__(self, path: Path, encoding: str) -> None:
        self._raw = path.open("rb")
        # utf-8-sig only differs in leaving out the mark that spreadsheets put in front.
        encoding = "utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding
        below: Any = gzip.GzipFile(fileobj=self._raw) if path.name.endswith(".gz") else self._raw
        try:
            self._text = io.TextIOWrapper(below, encoding=encoding, errors="surrogateescape", newline="")
        except LookupError:
            raise MappingError(f"file.encoding: {encoding} is no encoding; write it as utf-8, cp874 or latin-1") from None

    def __enter__(self) -> tuple[IO[bytes], IO[str]]:
        return self._raw, self._text

    def __exit__(self, *_: object) -> None:
        self._text.close()
        self._raw.close()


def _next(reader: Any) -> list[str] | str | None:
    """The next row, what is wrong with it, or None at the end. After an error the reader goes on with the next line."""
    try:
        cells: list[str] | None = next(reader, None)
    except csv.Error as error:
        return f"not CSV: {error}"
    except (UnicodeError, EOFError, gzip.BadGzipFile) as error:
        raise MappingError(f"the file cannot be read on after line {reader.line_num}: {error}") from error
    return cells


def _csv_row(number: int, line: int, columns: tuple[str, ...], cells: list[str] | str) -> Row:
    if isinstance(cells, str):
        return Row(number, line=line, fault=Fault(RowReason.MALFORMED_ROW, cells))
    if len(cells) != len(columns):
        column = columns[len(cells)] if len(cells) < len(columns) else None
        detail = f"{len(cells)} cells where the header has {len(columns)}: a delimiter inside a cell needs quotes around it"
        return Row(number, line=line, fault=Fault(RowReason.RAGGED_ROW, detail, column))
    for column, cell in zip(columns, cells, strict=True):
        if not _is_text(cell):
            return Row(number, line=line, fault=Fault(RowReason.NOT_UTF8, "not text in the file's encoding (file.encoding)", column))
    return Row(number, dict(zip(columns, cells, strict=True)), line)


def _is_text(cell: str) -> bool:
    if cell.isascii():
        return True
    try:
        cell.encode()
    except UnicodeEncodeError:
        return False
    return True


@dataclass(frozen=True)
class NdjsonTable:
    """One JSON object a line. Numbers with a fraction are decimals, never floats."""

    path: Path

    @property
    def size(self) -> int:
        return self.path.stat().st_size

    def columns(self) -> tuple[str, ...]:
        names = dict.fromkeys(name for row in islice(self.rows(), SAMPLE_ROWS) for name in row.values)
        if not names:
            raise MappingError(f"{self.path}: no line among the first {SAMPLE_ROWS} is a JSON object")
        return tuple(names)

    def rows(self, advance: Advance = lambda done: None) -> Iterator[Row]:
        number = 0
        with self.path.open("rb") as raw:
            lines: Any = gzip.GzipFile(fileobj=raw) if self.path.name.endswith(".gz") else raw
            for at, (line, is_whole) in enumerate(_lines(lines), 1):
                if line.isspace():
                    continue
                number += 1
                yield _json_row(number, at, line) if is_whole else _too_long(number, at)
                advance(raw.tell())


def _lines(lines: IO[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Lines, and whether each is whole: what is longer than any event may be is passed over."""
    while line := lines.readline(LONGEST_LINE_BYTES):
        is_whole = line.endswith(b"\n") or len(line) < LONGEST_LINE_BYTES
        yield line, is_whole
        while not is_whole and (rest := lines.readline(LONGEST_LINE_BYTES)):
            is_whole = rest.endswith(b"\n")


def _too_long(number: int, at: int) -> Row:
    return Row(number, line=at, fault=Fault(RowReason.MALFORMED_ROW, f"the line is longer than {LONGEST_LINE_BYTES:,} bytes"))


def _json_row(number: int, at: int, line: bytes) -> Row:
    try:
        read = json.loads(line.decode(), parse_float=Decimal, parse_constant=_no_number)
        if b"\\u" in line:
            # Half a surrogate pair can be written as an escape, and is no text.
            json.dumps(read, ensure_ascii=False, default=str).encode()
    except UnicodeError as error:
        return Row(number, line=at, fault=Fault(RowReason.NOT_UTF8, f"not UTF-8: {error.reason if hasattr(error, 'reason') else error}"))
    except (ValueError, RecursionError) as error:
        return Row(number, line=at, fault=Fault(RowReason.MALFORMED_ROW, f"not JSON: {error}"))
    if not isinstance(read, dict):
        return Row(number, line=at, fault=Fault(RowReason.MALFORMED_ROW, "one JSON object a line is expected"))
    return Row(number, read, at)


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number")


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
