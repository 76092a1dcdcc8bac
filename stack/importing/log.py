"""The verdicts of an import in a file beside it, written once what they say is true, and read again to go on where one was cut off."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

import msgspec

from stack.importing.mapping import MappingError
from stack.importing.verdicts import Dropped, RowStatus, RowVerdict


class VerdictLog:
    """One JSON object a row. Until the import is through it is called `.partial`, and `.begun` says what it is of."""

    def __init__(self, path: Path, begun: Mapping[str, Any] | None) -> None:
        """`begun` names the file, its mapping and the broker: only what was begun the same goes on. None never goes on.

        Raises MappingError where nothing can be written.
        """
        self.path = path
        self._partial = path.with_name(path.name + ".partial")
        self._note = path.with_name(path.name + ".begun")
        self.counts: Counter[tuple[RowStatus, str]] = Counter()
        """Rows by status and reason."""
        self.dropped: Counter[Dropped] = Counter()
        """Accepted rows of which something is left out."""
        self.done = self._whole_lines() if begun is not None and self._read_note() == json.loads(json.dumps(begun)) else 0
        """How many verdicts an import that was cut off had written."""
        self._skipped = 0
        try:
            self._note_down(begun)
            self._file: IO[bytes] = self._partial.open("r+b" if self.done else "wb")
        except OSError as error:
            raise MappingError(f"the verdicts cannot be written to {path} ({error.strerror}): --verdicts names another file") from error
        self._file.seek(0, os.SEEK_END)

    def add(self, verdicts: Iterable[RowVerdict]) -> None:
        """Write what is now true. What was written before is counted and not written again."""
        for verdict in verdicts:
            self.counts[verdict.status, verdict.fault.reason if verdict.fault else ""] += 1
            self.dropped.update(verdict.dropped)
            if self._skipped < self.done:
                self._skipped += 1
            else:
                self._file.write(_line(verdict))
        self._file.flush()

    def __enter__(self) -> VerdictLog:
        return self

    def __exit__(self, failed: type[BaseException] | None, *_: object) -> None:
        """Everything was said, or what is unfinished is left for the next attempt."""
        if failed is None:
            self._finish()
        else:
            self._file.close()

    def _finish(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._partial.replace(self.path)
        self._note.unlink(missing_ok=True)

    def _read_note(self) -> Any:
        try:
            return json.loads(self._note.read_text())
        except (OSError, ValueError):
            return None

    def _note_down(self, begun: Mapping[str, Any] | None) -> None:
        if begun is None or not self.done:
            # First without the old verdicts, then what the new ones are of: never the one with the other.
            self._partial.unlink(missing_ok=True)
            self._note.unlink(missing_ok=True)
        if begun is not None:
            writing = self._note.with_name(self._note.name + ".new")
            writing.write_text(json.dumps(begun))
            writing.replace(self._note)

    def _whole_lines(self) -> int:
        """How many there are; a torn last one is cut off."""
        if not self._partial.exists():
            return 0
        count, end = 0, 0
        with self._partial.open("r+b") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                count, end = count + 1, end + len(line)
            file.truncate(end)
        return count


def _line(verdict: RowVerdict) -> bytes:
    said: dict[str, Any] = {"row": verdict.row, "line": verdict.line, "status": verdict.status.value, "id": verdict.id}
    if verdict.fault is not None:
        said |= {"reason": verdict.fault.reason, "column": verdict.fault.column, "detail": verdict.fault.detail}
    if verdict.dropped:
        said["dropped"] = [{"column": each.column, "rule": each.rule} for each in verdict.dropped]
    shown = {name: value for name, value in said.items() if value is not None}
    return msgspec.json.encode(shown) + b"\n"
