"""NDJSON: an object a line."""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import IO

from stack.importing.mapping import MappingError
from stack.importing.rows import Row
from stack.importing.tables import LONGEST_LINE_BYTES, SAMPLE_ROWS, Advance, unpacked
from stack.importing.verdicts import Fault, RowReason


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
            detail = "an object a line is expected, as `jq -c '.[]'` makes of a JSON array"
            raise MappingError(f"{self.path}: no line among the first {SAMPLE_ROWS} is a JSON object; {detail}")
        return tuple(names)

    def rows(self, advance: Advance = lambda done: None) -> Iterator[Row]:
        number = 0
        with unpacked(self.path) as (raw, lines):
            for at, (line, is_whole) in enumerate(_lines(lines), 1):
                written = line.removeprefix(BOM_UTF8) if at == 1 else line
                if not written or written.isspace():
                    continue
                number += 1
                yield _json_row(number, at, written) if is_whole else _too_long(number, at)
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
