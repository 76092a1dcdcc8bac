"""What identity is made of; the only place that knows all its parts."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from services.identity import store
from services.identity.api import create_router
from services.identity.api.keys import roster
from services.identity.clerk import Clerk, on_privacy
from services.identity.domain.mentions import owner_of
from services.identity.handlers import Desk, on_activity, on_customer_updates, on_poison
from services.identity.known import Known
from services.identity.recovery import FirstOffset, SourcePartitions, begin
from services.identity.retention import rules
from services.identity.settings import IdentitySettings
from shared.beside import BesideTheStream
from shared.clock import Clock, WallClock
from shared.contracts.topics import CUSTOMER_UPDATES, DEAD_LETTERS, INTERACTIONS, PRIVACY, PURCHASES
from shared.letters import Letters, ReadLetters
from shared.mongo import in_store
from shared.privacy import reference_digest
from shared.retention import STEP_SECONDS, Retention
from shared.service import Publisher, Service, Timer
from shared.streaming.reader import first_of_partition, read_topic
from shared.vault import use

SETTINGS = IdentitySettings


def build(
    publisher: Publisher,
    settings: IdentitySettings,
    clock: Clock,
    first_offset: FirstOffset | None = None,
    read_letters: ReadLetters | None = None,
) -> Service:
    """Put the service together; nothing is connected yet. `first_offset` and `read_letters` are the broker's unless a test gives others."""
    wall = WallClock()
    digest = partial(reference_digest, settings.master) if settings.master else None
    known = Known(settings.reference_cache, digest)
    owner = partial(owner_of, naming=settings.naming, digest=digest)
    desk = Desk(publisher.publish, known, settings.reporting_currency, clock, wall, settings.naming, settings.rules, owner)
    vault = use("identity", settings.master)
    read = read_letters or partial(read_topic, settings.kafka_bootstrap_servers, DEAD_LETTERS)
    letters = Letters("identity", vault, read, owner)
    clerk = Clerk(publisher.publish, wall, settings.privacy_rules, digest, letters)
    answering = BesideTheStream(clerk.work)
    retention = Retention("identity", settings.retention_days, rules(clock, wall), wall)

    async def stop() -> None:
        await answering.stop()
        await retention.stop()

    async def start(topic_ids: Mapping[str, str]) -> None:
        await in_store(store.prepare)
        await begin(topic_ids, desk)

    return Service(
        name="identity",
        listens={
            PURCHASES: partial(on_activity, desk=desk),
            INTERACTIONS: partial(on_activity, desk=desk),
            CUSTOMER_UPDATES: partial(on_customer_updates, desk=desk),
            PRIVACY: on_privacy,
        },
        api=create_router(publisher, settings, clock, wall),
        partitions=SourcePartitions(desk, first_offset or partial(first_of_partition, settings.kafka_bootstrap_servers)),
        timers=(Timer(1.0, answering.start), Timer(STEP_SECONDS, retention.start)),
        start=start,
        stop=stop,
        learn_keys=roster,
        seal_letters=letters.seal,
        on_poison=partial(on_poison, desk=desk),
    )
