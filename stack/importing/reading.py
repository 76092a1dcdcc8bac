"""Opens a file of rows in the format that its name and its first bytes say."""

from __future__ import annotations

from pathlib import Path

from stack.importing.csv_tables import CsvTable
from stack.importing.json_tables import NdjsonTable
from stack.importing.mapping import FileLayout, MappingError
from stack.importing.parquet_tables import ParquetTable
from stack.importing.tables import Table

NAMES = ".csv, .tsv, .ndjson or .jsonl (each also with .gz), or .parquet"
_WORKBOOK = "is an Excel workbook: save the sheet as CSV UTF-8 and import that"
_OTHERS = {
    b"PK\x03\x04": _WORKBOOK,
    b"\xd0\xcf\x11\xe0": _WORKBOOK,
    b"PAR1": "is Parquet: name it .parquet",
    b"\x1f\x8b": "is packed by gzip: add .gz to its name",
}
"""How files begin that are not what their names say."""


def open_table(path: Path, layout: FileLayout) -> Table:
    """The file as its name says. Raises MappingError."""
    if not path.is_file():
        raise MappingError(f"{path} is a directory: name a file in it" if path.is_dir() else f"there is no file {path}")
    name = path.name.lower()
    if name.endswith((".parquet", ".pq")):
        return ParquetTable(path)
    _check_is_text(path, is_packed=name.endswith(".gz"))
    name = name.removesuffix(".gz")
    if name.endswith((".csv", ".tsv", ".txt")):
        return CsvTable(path, layout)
    if name.endswith((".ndjson", ".jsonl", ".json")):
        return NdjsonTable(path)
    raise MappingError(f"{path}: name it {NAMES}, so that its format is known")


def _check_is_text(path: Path, is_packed: bool) -> None:
    try:
        with path.open("rb") as file:
            begins = file.read(4)
    except OSError as error:
        raise MappingError(f"{path} cannot be read: {error.strerror or error}") from error
    what = next((what for magic, what in _OTHERS.items() if begins.startswith(magic)), None)
    if what is not None and not (is_packed and begins.startswith(b"\x1f\x8b")):
        raise MappingError(f"{path} {what}")
