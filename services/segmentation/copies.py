"""What profile-rows-v1 holds: the rows of profiles that are part of a customer, copied to the partition of that customer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count

import msgspec
import numpy as np

from services.segmentation.domain.arrays import Integers, ids_from_hex
from services.segmentation.domain.state import CustomerState, is_readable, restore, unpack
from services.segmentation.domain.state.joining import join
from services.segmentation.domain.state.packing import written_by
from shared.contracts.topics import PARTITION_COUNT
from shared.streaming.errors import Reject
from shared.streaming.partitions import partition_for
from shared.streaming.records import Message, Record

_ID_DIGITS = 32
_GENERATION = "dear-generation"
"""Header of a tombstone: of the owner who took the copy out."""


class Said(msgspec.Struct, frozen=True, array_like=True):
    """A row as its owner publishes it."""

    customer: str
    """Whose the profile is."""
    caused_ms: int
    """The time of the newest event that changed the row since it was last published."""
    is_history: bool
    """Its owner is being rebuilt: what follows is nobody's news."""
    names: dict[int, str]
    """What the names in the row's tallies stand for."""
    row: bytes
    """As in the changelog."""


_ENCODER, _DECODER = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(Said)


@lru_cache(maxsize=1 << 16)
def copy_key(profile: str, partition: int) -> bytes:
    """A profile's key in a partition: the first of its kind that the partitioner puts there.

    Without the customer in it, so that a profile has one copy at most in each partition, and whoever erases it knows all keys.
    """
    return next(key for key in (f"{profile}/{n}".encode() for n in count()) if partition_for(key) == partition)


def copy_message(profile: str, said: Said) -> Message:
    """A row as it is published to its customer's partition."""
    return Message(copy_key(profile, partition_for(said.customer.encode())), _ENCODER.encode(said))


def tombstones(gone: Iterable[tuple[str, int]], generation: int) -> list[Message]:
    """Take profiles' copies out of partitions, except those that a later owner has published."""
    headers = ((_GENERATION, str(generation).encode()),)
    return [Message(copy_key(profile, partition), None, headers) for profile, partition in gone]


def erasures(profile: str) -> list[Message]:
    """Take a profile's copies out of all partitions, whoever has published them."""
    return [Message(copy_key(profile, partition), None) for partition in range(PARTITION_COUNT)]


def _generation_of(record: Record) -> int | None:
    """Of who published a tombstone; None where it is an erasure."""
    return next((int(value) for name, value in record.headers if name == _GENERATION), None)


@dataclass(frozen=True, slots=True)
class Copy:
    """A row of a profile that may lie elsewhere."""

    said: Said
    written: tuple[int, int]
    """Generation of the writer and the newest offset that the row holds: the highest is the newest."""


@dataclass(slots=True)
class Moved:
    """What copies changed."""

    caused_ms: dict[str, int] = field(default_factory=dict)
    """By customer: the time of the newest event that did."""
    history: set[str] = field(default_factory=set)
    """Customers that changed by what is nobody's news."""
    losers: list[Message] = field(default_factory=list)
    """What has to be said again: an older row lies over it, and compaction would keep that."""
    rejects: list[Reject] = field(default_factory=list)


@dataclass(slots=True)
class Copies:
    """By profile, of one partition; read from its beginning whenever the partition is opened."""

    held: dict[str, Copy] = field(default_factory=dict)
    position: int = 0
    """Where to read on."""

    def take(self, records: Sequence[Record]) -> Moved:
        """Take in the next records, in the order of the log. What was taken before changes nothing."""
        moved = Moved()
        for record in records:
            if record.offset >= self.position:
                self._take(record, moved)
                self.position = record.offset + 1
        return moved

    def _take(self, record: Record, moved: Moved) -> None:
        profile = (record.key or b"")[:_ID_DIGITS].decode("ascii", "replace")
        known = self.held.get(profile)
        if record.value is None:
            self._take_out(profile, _generation_of(record), moved)
            return
        try:
            said = _DECODER.decode(record.value)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            moved.rejects.append(Reject(record.offset, "invalid-event", str(error)))
            return
        if not is_readable(said.row):
            # Of another version: its owner says it again as soon as it is of this one.
            return
        copy = Copy(said, written_by(said.row))
        if known is not None and copy.written < known.written:
            moved.losers.append(copy_message(profile, known.said))
            return
        self.held[profile] = copy
        for customer in {said.customer, known.said.customer if known is not None else said.customer}:
            moved.caused_ms[customer] = max(said.caused_ms, moved.caused_ms.get(customer, said.caused_ms))
            if said.is_history:
                moved.history.add(customer)

    def _take_out(self, profile: str, generation: int | None, moved: Moved) -> None:
        known = self.held.get(profile)
        if known is None:
            return
        if generation is not None and generation < known.written[0]:
            moved.losers.append(copy_message(profile, known.said))
            return
        del self.held[profile]
        moved.caused_ms.setdefault(known.said.customer, known.said.caused_ms)

    def are_whole(self, customer: str, others: Iterable[str]) -> bool:
        """Are the rows of these profiles of a customer at hand?"""
        found = (self.held.get(profile) for profile in others)
        return all(copy is not None and copy.said.customer == customer for copy in found)

    def joined(self, state: CustomerState, rows: Integers) -> CustomerState:
        """These rows, each with those of its customer's other profiles, in the order asked for; all of them are whole."""
        customers = state.keep_only(rows)
        others = [(place, profile) for place, row in enumerate(rows.tolist()) for profile in state.merged.others(row)]
        copies, members = [self.held[profile].said for _, profile in others], CustomerState()
        added = members.add(ids_from_hex("".join(profile for _, profile in others).encode()))
        restore(members, added, unpack(members.ids[added], [said.row for said in copies]))
        for said in copies:
            members.names |= said.names
        join(customers, np.array([place for place, _ in others], dtype=np.int64), members)
        return customers
