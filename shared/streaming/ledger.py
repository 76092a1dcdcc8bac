"""Which partitions are ours and how far each is fetched and settled: the only source of what is committed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

from shared.streaming.records import Batch, Record

Partition = tuple[str, int]
_epochs = count(1)


@dataclass(slots=True)
class Reading:
    """One open partition. The epoch is new each time it is opened or sought, so that batches fetched before are told apart."""

    topic: str
    topic_id: str
    partition: int
    settled_to: int
    """The offset after the last settled record: what may be committed."""
    epoch: int = field(default_factory=lambda: next(_epochs))
    waiting: deque[tuple[int, int]] = field(default_factory=deque)
    """First offset and its time (ms) of each batch that was fetched and not settled."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """Records of one partition as fetched, folded into one message for Faust."""

    reading: Reading
    epoch: int
    follows: int
    """Where the records fetched before these ended: if that is not where we settled, some were lost on the way to us."""
    records: Sequence[Record]

    @property
    def batch(self) -> Batch:
        """What a handler receives."""
        return Batch(self.reading.topic, self.reading.topic_id, self.reading.partition, self.records)


def joined(waiting: Iterable[Fetched], record_count: int) -> list[Fetched]:
    """In the order of each partition's first: what follows on what was fetched of a partition before goes with it, up to so many records.

    What costs a batch, whatever its size, is not paid for each of several that wait.
    """
    chains: dict[Partition, list[list[Fetched]]] = {}
    for each in waiting:
        chain = chains.setdefault((each.reading.topic, each.reading.partition), [])
        if chain and _goes_with(chain[-1], each, record_count):
            chain[-1].append(each)
        else:
            chain.append([each])
    return [_one_of(parts) for chain in chains.values() for parts in chain]


def _goes_with(parts: Sequence[Fetched], each: Fetched, record_count: int) -> bool:
    last = parts[-1]
    follows = last.reading is each.reading and last.epoch == each.epoch and last.records[-1].offset + 1 == each.follows
    return follows and sum(len(part.records) for part in parts) + len(each.records) <= record_count


def _one_of(parts: Sequence[Fetched]) -> Fetched:
    return replace(parts[0], records=[record for part in parts for record in part.records]) if len(parts) > 1 else parts[0]


class Ledger:
    """The open partitions of this worker."""

    def __init__(self) -> None:
        self._open: dict[Partition, Reading] = {}

    def open(self, topic: str, topic_id: str, partition: int, offset: int) -> Reading:
        """Batches of the partition are taken from now on, beginning at `offset`."""
        reading = Reading(topic, topic_id, partition, settled_to=offset)
        self._open[topic, partition] = reading
        return reading

    def close(self, topic: str, partition: int) -> None:
        """The partition is not ours any more."""
        self._open.pop((topic, partition), None)

    def readings(self) -> list[Reading]:
        """All open partitions."""
        return list(self._open.values())

    def reading(self, topic: str, partition: int) -> Reading | None:
        """The open partition, if it is."""
        return self._open.get((topic, partition))

    def fetch(self, topic: str, partition: int, follows: int, records: Sequence[Record]) -> Fetched | None:
        """Fold fetched records; None where the partition is not open (what is fetched then is fetched again after opening)."""
        reading = self._open.get((topic, partition))
        if reading is None:
            return None
        fetched = Fetched(reading, reading.epoch, follows, records)
        reading.waiting.append((records[0].offset, records[0].timestamp))
        return fetched

    def is_current(self, fetched: Fetched) -> bool:
        """Is the partition still ours, and not sought since?"""
        reading = fetched.reading
        return self._open.get((reading.topic, reading.partition)) is reading and reading.epoch == fetched.epoch

    def settled(self, fetched: Fetched) -> None:
        """Every event of it was applied or parked."""
        reading = fetched.reading
        reading.settled_to = fetched.records[-1].offset + 1
        while reading.waiting and reading.waiting[0][0] < reading.settled_to:
            reading.waiting.popleft()

    def rewind(self, reading: Reading) -> None:
        """Whatever was fetched and not settled shall be fetched again."""
        reading.epoch = next(_epochs)
        reading.waiting.clear()
