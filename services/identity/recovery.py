"""What identity does before its first batch: finish what lost logs left half done, and fill a new topic with all customers."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from services.identity.handlers import Desk, on_activity, on_customer_updates
from services.identity.people import announce
from services.identity.store import customers, positions, timeline
from shared.contracts.topics import CUSTOMER_UPDATES, CUSTOMERS, INTERACTIONS, PURCHASES
from shared.mongo import in_store
from shared.streaming.errors import InvalidEvents
from shared.streaming.records import Batch, Handler, StoredRecord

log = logging.getLogger(__name__)


async def begin(topic_ids: Mapping[str, str], desk: Desk) -> None:
    """Make the state agree with the logs that are there now. Doing it again, or in two processes at once, is harmless."""
    sources = {topic.name: topic_ids[topic.name] for topic in (PURCHASES, INTERACTIONS, CUSTOMER_UPDATES) if topic.name in topic_ids}
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
            records = [StoredRecord(each.offset, each.appended_ms, None, each.event) for each in for_rest]
            await _finish(Batch(topic, topic_id, partition, records), desk)
    await in_store(positions.settle_logs, {topic_id for _, (topic_id, _) in lost})


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
        await announce(page, desk.publish)
    await in_store(positions.set_published_topic, CUSTOMERS.name, topic_id)
