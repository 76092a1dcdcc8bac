"""Fills the columns of traits that rules name, from customers-v1, before anybody is judged by them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from typing import Any

from services.segmentation.domain.arrays import ids_from_hex
from services.segmentation.domain.state import CustomerState
from services.segmentation.domain.state.traits import TraitColumn
from services.segmentation.worker import Worker
from shared.contracts.customers import CustomerPublished
from shared.contracts.envelope import Event
from shared.contracts.fast import fast_decoder
from shared.streaming.errors import Unavailable
from shared.streaming.records import Record

log = logging.getLogger(__name__)

_CUSTOMER = fast_decoder(Event[CustomerPublished], only=("data.customer_id", "data.version", "data.traits"))

Read = Callable[[int, int], AsyncIterator[Sequence[Record]]]
"""(partition, first offset) -> record batches up to the present end."""


async def fill(state: CustomerState, number: int, names: Collection[str], read: Read) -> None:
    """Read a partition of customers-v1 from its beginning and keep these traits. Raises Unavailable."""
    missing = [name for name in names if name not in state.traits or not state.traits[name].is_whole]
    if not missing:
        return
    for name in missing:
        # Known from now on, so that what comes over the stream meanwhile is kept, too: versions say what is newer.
        state.traits.setdefault(name, TraitColumn())
    async for records in read(number, 0):
        put(state, _customers(records), missing)
    for name in missing:
        state.traits[name].is_whole = True


def put(state: CustomerState, customers: Sequence[Any], names: Collection[str]) -> None:
    """Keep what these customers' traits say under these names."""
    if not customers or not names:
        return
    # Who has no row yet comes over the stream, later, with everything.
    found = zip(state.find(ids_from_hex("".join([each.customer_id for each in customers]).encode())).tolist(), customers, strict=True)
    known = [(row, each) for row, each in found if row >= 0]
    for name in names:
        state.traits[name].put([row for row, _ in known], [each.version for _, each in known], [each.traits.get(name) for _, each in known])


def _customers(records: Sequence[Record]) -> list[Any]:
    found = []
    for record in records:
        if record.value is not None:
            try:
                found.append(_CUSTOMER.decode(record.value).data)
            except (ValueError, RecursionError):
                # Parked when it came over the stream.
                continue
    return found


class TraitColumns:
    """A timer that fills what new rules ask for, beside the stream: the rules wait for it."""

    def __init__(self, worker: Worker, read: Read) -> None:
        self._worker = worker
        self._read = read
        self._filling: asyncio.Task[None] | None = None

    async def tick(self) -> None:
        """Begin where something is missing, unless it is under way; forget what no rule names any more. Returns at once."""
        wanted = self._worker.wanted_traits()
        if self._filling is not None:
            if not self._filling.done():
                return
            filled, self._filling = self._filling, None
            failure = filled.exception()
            if isinstance(failure, Unavailable):
                log.warning("traits that rules name cannot be read yet: %s", failure)
            elif failure is not None:
                raise failure
        if wanted and not self._worker.has_traits(wanted):
            self._filling = asyncio.create_task(self._fill(wanted))
        for owned in self._worker.owned.values():
            for name in owned.state.traits.keys() - wanted:
                del owned.state.traits[name]

    async def finish(self) -> None:
        """Stop; the next owner fills them again."""
        if self._filling is not None:
            self._filling.cancel()
            await asyncio.gather(self._filling, return_exceptions=True)

    async def _fill(self, wanted: Collection[str]) -> None:
        for number, owned in list(self._worker.owned.items()):
            await fill(owned.state, number, wanted, self._read)
