"""What identity does before it reads: finish what lost logs left half done, count what is gone, fill a new topic with all customers."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

from services.identity import metrics
from services.identity.handlers import Desk, on_activity, on_customer_updates
from services.identity.merging import published_as
from services.identity.people import announce
from services.identity.store import customers, outcomes, positions, timeline
from services.identity.store.timeline import Told
from shared.contracts.topics import CUSTOMER_UPDATES, CUSTOMERS, INTERACTIONS, PURCHASES, Topic
from shared.mongo import in_store
from shared.service import OpenedPartition
from shared.streaming.errors import InvalidEvents
from shared.streaming.records import Batch, Handler, StoredRecord

log = logging.getLogger(__name__)

FirstOffset = Callable[[Topic, int], Awaitable[int]]
"""The first offset that retention has left in a partition of a topic. Raises Unavailable."""
_TOPICS = {topic.name: topic for topic in (PURCHASES, INTERACTIONS, CUSTOMER_UPDATES)}


async def begin(topic_ids: Mapping[str, str], desk: Desk) -> None:
    """Make the state agree with the logs that are there now. Doing it again, or in two processes at once, is harmless."""
    sources = {name: topic_ids[name] for name in _TOPICS if name in topic_ids}
    if sources:
        await in_store(positions.register_logs, sources)
        await _finish_lost_logs(tuple(sources.values()), desk)
    if CUSTOMERS.name in topic_ids:
        await _fill(topic_ids[CUSTOMERS.name], desk)


async def _finish_lost_logs(current: tuple[str, ...], desk: Desk) -> None:
    """A batch may have come into the timeline and no further when its log was lost: nobody will deliver it again but the timeline."""
    lost = await in_store(positions.lost_logs, current)
    for topic, (topic_id, partition) in lost:
        done = await in_store(positions.committed_of, (topic_id, partition))
        for_rest = await in_store(timeline.tail, topic_id, partition, done)
        if for_rest:
            log.warning("finishing %d events of partition %d of a lost log of %s", len(for_rest), partition, topic)
            await _finish(_batch_of(topic, topic_id, partition, for_rest), desk)
    await in_store(positions.settle_logs, {topic_id for _, (topic_id, _) in lost})


def _batch_of(topic: str, topic_id: str, partition: int, told: Sequence[Told]) -> Batch:
    return Batch(topic, topic_id, partition, [StoredRecord(each.offset, each.appended_ms, None, each.event) for each in told])


class SourcePartitions:
    """Implements Partitions: nobody delivers again what retention removed before it was read, and Kafka's clients do not tell."""

    def __init__(self, desk: Desk, first_offset: FirstOffset) -> None:
        self._desk = desk
        self._first_offset = first_offset

    async def open(self, opened: OpenedPartition) -> int | None:
        """Finish what is in the timeline of the part that is gone, and count the rest of it as lost."""
        if opened.topic not in _TOPICS:
            return None
        first = await self._first_offset(_TOPICS[opened.topic], opened.partition)
        done = await in_store(positions.committed_of, (opened.topic_id, opened.partition))
        if done + 1 >= first:
            return None
        rest = await in_store(timeline.tail, opened.topic_id, opened.partition, done)
        for run in _runs([each for each in rest if each.offset < first]):
            # In the order of the log, so that dying in between counts nothing twice.
            await self._pass_over(opened, run[0].offset - 1)
            await _finish(_batch_of(opened.topic, opened.topic_id, opened.partition, run), self._desk)
        await self._pass_over(opened, first - 1)
        return first

    async def _pass_over(self, opened: OpenedPartition, upto: int) -> None:
        here = (opened.topic_id, opened.partition)
        done = await in_store(positions.committed_of, here)
        parked = await in_store(outcomes.parked_between, *here, done + 1, upto)
        lost_count = await in_store(positions.pass_over, here, upto, len(parked))
        if lost_count:
            metrics.LOST.inc(lost_count)
            log.error("%s/%d: retention removed %d events before they were read", opened.topic, opened.partition, lost_count)

    async def close(self, topic: str, partition: int) -> None:
        """Nothing is held."""


def _runs(told: Sequence[Told]) -> list[list[Told]]:
    """Events whose offsets follow on each other."""
    runs: list[list[Told]] = []
    for each in told:
        if not runs or runs[-1][-1].offset + 1 != each.offset:
            runs.append([])
        runs[-1].append(each)
    return runs


async def _finish(batch: Batch, desk: Desk) -> None:
    async def handle(batch: Batch) -> None:
        await (on_customer_updates if batch.topic == CUSTOMER_UPDATES.name else on_activity)(batch, desk)

    await _or_say_so(handle, batch)


async def _or_say_so(handle: Handler, batch: Batch) -> None:
    try:
        await handle(batch)
    except InvalidEvents as invalid:
        # They were valid when they came, under other settings; they stay in the timeline.
        log.warning("%d events of a lost log are not valid any more: %s", len(invalid.rejects), invalid)


async def _fill(topic_id: str, desk: Desk) -> None:
    """Publish every customer to a topic that does not hold them yet."""
    if await in_store(positions.published_topic, CUSTOMERS.name) == topic_id:
        return
    pages = await in_store(customers.every)
    while page := await in_store(next, pages, None):
        seen = await in_store(published_as, [state.customer_id for state in page])
        await announce(list(seen.values()), desk.publish)
    await in_store(positions.set_published_topic, CUSTOMERS.name, topic_id)
