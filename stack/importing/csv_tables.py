"""CSV: a header, and cells that are texts."""

from __future__ import annotations

import csv
import io
import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Any

from stack.importing.mapping import FileLayout, MappingError
from stack.importing.rows import Row
from stack.importing.tables import LONGEST_LINE_BYTES, Advance, unpacked
from stack.importing.verdicts import Fault, RowReason

DELIMITERS = ",;\t|"
UTF_8 = "utf-8"
_SEP = re.compile(r'"?sep=(.)"?\r?\n?', re.IGNORECASE)


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
            return tuple(filter(None, self._header(self._reader(text))))

    def rows(self, advance: Advance = lambda done: None) -> Iterator[Row]:
        with self._opened() as (raw, text):
            reader = self._reader(text)
            columns = self._header(reader)
            number, done = 0, 0
            while (cells := reader.next()) is not None:
                if cells == []:
                    continue
                number += 1
                yield _csv_row(number, reader.line, columns, cells, self.layout.encoding)
                if raw.tell() != done:
                    done = raw.tell()
                    advance(done)

    def delimiter(self) -> str:
        """The one given, the one that Excel names in a first line `sep=;`, or the likeliest in the header."""
        with self._opened() as (_, text):
            return self._reader(text).delimiter

    @contextmanager
    def _opened(self) -> Iterator[tuple[IO[bytes], IO[str]]]:
        """The file as text, and the bytes below it. What is not in the encoding passes as surrogates and is refused where it stands."""
        # utf-8-sig only differs in leaving out the mark that spreadsheets put in front.
        encoding = "utf-8-sig" if self.layout.encoding.lower() in ("utf-8", "utf8") else self.layout.encoding
        try:
            with (
                unpacked(self.path) as (raw, below),
                io.TextIOWrapper(below, encoding=encoding, errors="surrogateescape", newline="") as text,
            ):
                yield raw, text
        except LookupError:
            raise MappingError(f"file.encoding: {encoding} is no encoding; write it as utf-8, cp874 or latin-1") from None
        except UnicodeError as error:
            raise MappingError(f"{self.path} is not {encoding} ({error}): {self._other_encoding()}") from error

    def _other_encoding(self) -> str:
        likely = encoding_of(self.path)
        if likely.lower() == self.layout.encoding.lower() or likely == UTF_8:
            return "set file.encoding in the mapping, such as cp1252, cp874 or latin-1"
        return f'set file.encoding = "{likely}" in the mapping'

    def _reader(self, text: IO[str]) -> _Reader:
        first = self._first_line(text)
        named = _SEP.fullmatch(first)
        if named:
            first = self._first_line(text)
        delimiter = self.layout.delimiter or (named[1] if named else max(DELIMITERS, key=first.count))
        return _Reader(csv.reader(chain((first,), text), delimiter=delimiter, strict=True), delimiter, 1 if named else 0)

    def _first_line(self, text: IO[str]) -> str:
        line = text.readline(LONGEST_LINE_BYTES)
        if not line.strip():
            raise MappingError(f"{self.path} is empty, or its first line is: it must name the columns")
        if len(line) == LONGEST_LINE_BYTES:
            raise MappingError(f"{self.path}: the first line is longer than {LONGEST_LINE_BYTES:,} characters; it must name the columns")
        return line

    def _header(self, reader: _Reader) -> tuple[str, ...]:
        """The names of the columns. One without a name, such as a data frame's index, is blank."""
        header = reader.next()
        if not isinstance(header, list) or not any(cell.strip() for cell in header):
            raise MappingError(f"{self.path}: the first line must name the columns{f' ({header})' if isinstance(header, str) else ''}")
        names = tuple(name.strip() for name in header)
        if any("\0" in name or not _is_text(name) for name in names):
            raise MappingError(f"{self.path}: the column names are not text in {self.layout.encoding}: {self._other_encoding()}")
        if twice := sorted({name for name in names if name and names.count(name) > 1}):
            raise MappingError(f"{self.path}: {', '.join(map(repr, twice))} names more than one column: each needs a name of its own")
        return names


@dataclass(frozen=True)
class _Reader:
    """Rows of cells, and where they stand."""

    cells: Any
    delimiter: str
    lines_before: int

    @property
    def line(self) -> int:
        line: int = self.cells.line_num + self.lines_before
        return line

    def next(self) -> list[str] | str | None:
        """The next row, what is wrong with it, or None at the end. After an error the reader goes on with the next line."""
        try:
            cells: list[str] | None = next(self.cells, None)
        except csv.Error as error:
            return f"not CSV: {error}"
        return cells


def encoding_of(path: Path) -> str:
    """What the mark at the beginning of a file says, or what nearly all files are in."""
    with unpacked(path) as (_, below):
        return "utf-16" if below.read(2) in (BOM_UTF16_BE, BOM_UTF16_LE) else UTF_8


def _csv_row(number: int, line: int, columns: tuple[str, ...], cells: list[str] | str, encoding: str) -> Row:
    if isinstance(cells, str):
        return Row(number, line=line, fault=Fault(RowReason.MALFORMED_ROW, cells))
    if len(cells) != len(columns):
        column = columns[len(cells)] if len(cells) < len(columns) else None
        detail = f"{len(cells)} cells where the header has {len(columns)}: a delimiter inside a cell needs quotes around it"
        return Row(number, line=line, fault=Fault(RowReason.RAGGED_ROW, detail, column))
    for column, cell in zip(columns, cells, strict=True):
        if not _is_text(cell):
            return Row(
                number,
                line=line,
                fault=Fault(RowReason.NOT_UTF8, f"not text in {encoding}: file.encoding in the mapping names another", column),
            )
    return Row(number, {column: cell for column, cell in zip(columns, cells, strict=True) if column}, line)


def _is_text(cell: str) -> bool:
    if cell.isascii():
        return True
    try:
        cell.encode()
    except UnicodeEncodeError:
        return False
    return True
