"""What identity is made of; the only place that knows all its parts."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from services.identity import store
from services.identity.api import create_router
from services.identity.api.keys import roster
from services.identity.handlers import Desk, on_activity, on_customer_updates, on_poison
from services.identity.known import Known
from services.identity.recovery import FirstOffset, SourcePartitions, begin
from services.identity.settings import IdentitySettings
from shared.clock import Clock, WallClock
from shared.contracts.topics import CUSTOMER_UPDATES, INTERACTIONS, PURCHASES
from shared.mongo import in_store
from shared.service import Publisher, Service
from shared.streaming.reader import first_of_partition

SETTINGS = IdentitySettings


def build(publisher: Publisher, settings: IdentitySettings, clock: Clock, first_offset: FirstOffset | None = None) -> Service:
    """Put the service together; nothing is connected yet. `first_offset` is the broker's unless a test gives another."""
    wall = WallClock()
    desk = Desk(
        publisher.publish,
        Known(settings.reference_cache),
        settings.reporting_currency,
        clock,
        wall,
        settings.naming,
        settings.rules,
    )

    async def start(topic_ids: Mapping[str, str]) -> None:
        await in_store(store.prepare)
        await begin(topic_ids, desk)

    return Service(
        name="identity",
        listens={
            PURCHASES: partial(on_activity, desk=desk),
            INTERACTIONS: partial(on_activity, desk=desk),
            CUSTOMER_UPDATES: partial(on_customer_updates, desk=desk),
        },
        api=create_router(publisher, settings, clock, wall),
        partitions=SourcePartitions(desk, first_offset or partial(first_of_partition, settings.kafka_bootstrap_servers)),
        start=start,
        learn_keys=roster,
        on_poison=partial(on_poison, desk=desk),
    )
