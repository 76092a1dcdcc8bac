"""Local copies of a partition's rows: they shorten recovery, and nothing depends on them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import msgspec
import numpy as np
from numpy.typing import NDArray

from services.segmentation.changelog import PartitionMeta, read_meta
from services.segmentation.domain.state.merged import Merged
from services.segmentation.domain.state.rows import FACTS, MARKS, OPTIONAL, WAITING, CustomerState

TALLIES, TALLY_PARTS = ("bought", "done"), ("keys", "newest", "held")
LONGEST_SECONDS = 12 * 3600
"""Half the tombstone retention of the changelog: an older copy could hold what was erased since."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Rows at a moment when nothing was waiting to be written, and where the changelog ended before it."""

    changelog_id: str
    changelog_end: int
    meta: PartitionMeta
    columns: dict[str, NDArray[Any]]
    names: dict[int, str]
    merged: dict[str, Any] = field(default_factory=dict)

    def state(self) -> CustomerState:
        """The rows, with their index."""
        state = CustomerState()
        # In the order that they had: tallies and what is merged name rows by number.
        rows = state.add(self.columns["ids"])
        for name in {**FACTS, **MARKS}:
            getattr(state, name)[rows] = self.columns[name]
        state.unstored[rows[state.unstored[rows] > 0]] = WAITING
        for name in OPTIONAL:
            if name in self.columns:
                state.have(name)[rows] = self.columns[name]
        for name in TALLIES:
            getattr(state, name).take_columns({part: self.columns[f"{name}.{part}"] for part in TALLY_PARTS})
        state.names |= self.names
        state.merged = Merged.from_plain(self.merged)
        return state


def take_snapshot(state: CustomerState, meta: PartitionMeta, changelog_id: str, changelog_end: int) -> Snapshot:
    """Copy the rows; a copy, because they change while it is being written."""
    columns = {name: getattr(state, name)[: state.count].copy() for name in ("ids", *FACTS, *MARKS)}
    columns |= {name: column[: state.count].copy() for name, column in state.optional.items()}
    for name in TALLIES:
        columns |= {f"{name}.{part}": column for part, column in getattr(state, name).columns().items()}
    return Snapshot(changelog_id, changelog_end, meta, columns, dict(state.names), state.merged.plain())


class SnapshotFiles:
    """One file a partition below the data directory, replaced as a whole."""

    def __init__(self, data_dir: Path, now: Callable[[], float] = time.time) -> None:
        self._directory = data_dir / "segmentation"
        self._now = now

    def write(self, partition: int, snapshot: Snapshot) -> None:
        """Put a snapshot in the place of the last."""
        self._directory.mkdir(parents=True, exist_ok=True)
        path = self._path(partition)
        fresh = path.with_suffix(".new")
        about = {
            "changelog_id": snapshot.changelog_id,
            "changelog_end": snapshot.changelog_end,
            "written_at": self._now(),
            "names": list(snapshot.names.items()),
            "merged": snapshot.merged,
        }
        about_bytes = np.frombuffer(msgspec.json.encode(about), np.uint8)
        meta_bytes = np.frombuffer(msgspec.json.encode(snapshot.meta), np.uint8)
        with fresh.open("wb") as file:
            np.savez(file, allow_pickle=False, about=about_bytes, meta=meta_bytes, **snapshot.columns)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)

    def read(self, partition: int) -> Snapshot | None:
        """The last snapshot, unless there is none, it is too old, or it cannot be read: then the changelog has everything."""
        try:
            with np.load(self._path(partition), allow_pickle=False) as held:
                about = msgspec.json.decode(held["about"].tobytes())
                meta = read_meta(held["meta"].tobytes())
                columns = {name: held[name] for name in held.files if name not in ("about", "meta")}
        except (OSError, ValueError, KeyError, BadZipFile, EOFError):
            return None
        if self._now() - about["written_at"] > LONGEST_SECONDS or not _fits(columns):
            return None
        return Snapshot(about["changelog_id"], about["changelog_end"], meta, columns, dict(about["names"]), about.get("merged", {}))

    def _path(self, partition: int) -> Path:
        return self._directory / f"rows-{partition}.npz"


def _fits(columns: dict[str, NDArray[Any]]) -> bool:
    """Do the columns have today's types and one length?"""
    length = len(columns["ids"])
    tallies = all(f"{name}.{part}" in columns for name in TALLIES for part in TALLY_PARTS)
    wanted = {**FACTS, **MARKS, **{name: column for name, column in OPTIONAL.items() if name in columns}}
    return tallies and all(
        name in columns
        and columns[name].dtype == column.dtype
        and columns[name].shape == ((length,) if column.width == 1 else (length, column.width))
        for name, column in wanted.items()
    )
