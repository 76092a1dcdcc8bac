"""Parquet files that are whole or not there."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from stack.arrow import pyarrow
from stack.exporting.tables import ExportTable

ROWS_AT_ONCE = 10_000
"""A row group: as many rows as are in memory."""
MANIFEST = "manifest.json"


def partial_of(directory: Path, table: ExportTable) -> Path:
    """Where a table is written before all are whole."""
    return directory / f".{table.name}.parquet.partial"


def write_table(table: ExportTable, rows: Iterable[Mapping[str, Any]], directory: Path, advance: Callable[[int], None]) -> int:
    """Write all rows to the table's partial file; how many they were. In memory there is one row group."""
    path, schema = partial_of(directory, table), table.schema()
    count, left = 0, iter(rows)
    with path.open("wb") as file:
        with pyarrow("pyarrow.parquet").ParquetWriter(file, schema, compression="zstd") as writer:
            while group := [table.row(row) for row in islice(left, ROWS_AT_ONCE)]:
                writer.write_table(pyarrow().Table.from_pylist(group, schema=schema))
                count += len(group)
                advance(len(group))
        file.flush()
        os.fsync(file.fileno())
    return count


def put_in_place(tables: Iterable[ExportTable], manifest: Mapping[str, Any], directory: Path) -> None:
    """Replace the last export by this one. Where there is a manifest, the files are those that it names."""
    (directory / MANIFEST).unlink(missing_ok=True)
    for table in tables:
        partial_of(directory, table).replace(directory / f"{table.name}.parquet")
    partial = directory / f".{MANIFEST}.partial"
    partial.write_text(json.dumps(manifest, indent=2) + "\n")
    partial.replace(directory / MANIFEST)
