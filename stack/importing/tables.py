"""A file of rows, whatever its format: one row after the other, and only a few in memory."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

from stack.importing.mapping import MappingError
from stack.importing.rows import Row

LONGEST_LINE_BYTES = 1_000_000
SAMPLE_ROWS = 100

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


@contextmanager
def unpacked(path: Path) -> Iterator[tuple[IO[bytes], Any]]:
    """The file as it lies on the disk, and what is in it. Raises MappingError where it is not what its name says."""
    try:
        with path.open("rb") as raw:
            yield raw, gzip.GzipFile(fileobj=raw) if path.name.lower().endswith(".gz") else raw
    except gzip.BadGzipFile as error:
        raise MappingError(f"{path} is not packed by gzip, or damaged ({error}): without .gz in its name it is read as it is") from error
    except (EOFError, zlib.error) as error:
        raise MappingError(f"{path} is damaged or cut off: {error}") from error
    except OSError as error:
        raise MappingError(f"{path} cannot be read: {error.strerror or error}") from error
