"""What earlier rows of the file said, kept on disk: a file of any size is checked with little memory."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CACHE_KILOBYTES = 64 * 1024


class Seen:
    """Ids and what stood under them, how often each content came, and how many rows each receipt has."""

    def __init__(self, path: Path) -> None:
        # It is thrown away with the process, so nothing in it needs to be safe.
        self._database = sqlite3.connect(path, isolation_level=None)
        for setting in ("journal_mode = OFF", "synchronous = OFF", "locking_mode = EXCLUSIVE", f"cache_size = -{CACHE_KILOBYTES}"):
            self._database.execute(f"PRAGMA {setting}")
        self._database.execute("CREATE TABLE ids (id TEXT PRIMARY KEY, content BLOB, row INTEGER) WITHOUT ROWID")
        self._database.execute("CREATE TABLE counts (name TEXT PRIMARY KEY, count INTEGER) WITHOUT ROWID")
        self._database.execute("BEGIN")

    def first(self, id: str, content: bytes, row: int) -> tuple[bytes, int]:
        """What stands under the id since the first row that has it, and which row that is."""
        if self._database.execute("INSERT OR IGNORE INTO ids VALUES (?, ?, ?)", (id, content, row)).rowcount:
            return content, row
        found: tuple[bytes, int] = self._database.execute("SELECT content, row FROM ids WHERE id = ?", (id,)).fetchone()
        return found

    def count(self, name: str, more: int = 1) -> None:
        """So many more of these."""
        self._database.execute(
            "INSERT INTO counts VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET count = count + excluded.count", (name, more)
        )

    def counted(self, name: str) -> int:
        """How many of these there were."""
        found = self._database.execute("SELECT count FROM counts WHERE name = ?", (name,)).fetchone()
        return int(found[0]) if found else 0

    def close(self) -> None:
        """Nothing is needed any more."""
        self._database.close()


@contextmanager
def remembering() -> Iterator[Seen]:
    """A memory for one pass over a file."""
    with tempfile.TemporaryDirectory(prefix="dear-import-") as directory:
        seen = Seen(Path(directory) / "seen")
        try:
            yield seen
        finally:
            seen.close()
