"""What campaigns is made of; the only place that knows all its parts."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from services.campaigns.api import create_router
from services.campaigns.audit import LedgerAudit
from services.campaigns.handlers.facts import Strangers, on_products, on_scores
from services.campaigns.handlers.loyalty import Posting, on_customer_events
from services.campaigns.handlers.offers import Offering, on_customers, on_deliveries, on_segment_changes
from services.campaigns.holder import CampaignsHolder
from services.campaigns.partitions import FirstOffset, LedgerPartitions, ReadTimeline
from services.campaigns.programs import shipped_programs
from services.campaigns.retention import rules
from services.campaigns.settings import CampaignsSettings
from services.campaigns.store import prepare, programs, watermarks
from shared.beside import BesideTheStream
from shared.clock import Clock, WallClock
from shared.contracts.topics import CUSTOMER_EVENTS, CUSTOMERS, DEAD_LETTERS, DELIVERIES, OFFERS, PRIVACY, PRODUCTS, SCORES, SEGMENT_CHANGES
from shared.letters import Letters, ReadLetters
from shared.mongo import in_store
from shared.privacy import answer_privacy
from shared.retention import STEP_SECONDS, Retention
from shared.service import Publisher, Service, Timer
from shared.streaming.reader import first_of_partition, read_topic
from shared.timeline import read_timeline
from shared.vault import use

SETTINGS = CampaignsSettings


def build(
    publisher: Publisher,
    settings: CampaignsSettings,
    clock: Clock,
    timeline: ReadTimeline | None = None,
    first_offset: FirstOffset | None = None,
    *,
    read_letters: ReadLetters | None = None,
) -> Service:
    """Put campaigns together. `timeline` is identity's, `first_offset` and `read_letters` are the broker's unless a test gives others."""
    posting, offering = Posting(publisher, clock), Offering(publisher, clock)
    first_offset = first_offset or partial(first_of_partition, settings.kafka_bootstrap_servers, CUSTOMER_EVENTS)
    timeline = timeline or partial(read_timeline, settings.identity_url, credential=settings.credential("campaigns"))
    partitions = LedgerPartitions(posting, timeline, first_offset)
    vault = use("campaigns", settings.master)
    letters = Letters("campaigns", vault, read_letters or partial(read_topic, settings.kafka_bootstrap_servers, DEAD_LETTERS))
    audit = LedgerAudit(settings.point_value_minor)
    checking, measuring = BesideTheStream(audit.check_some), BesideTheStream(audit.measure)
    retention = Retention("campaigns", settings.retention_days, rules(clock), WallClock())

    async def stop() -> None:
        await partitions.save()
        await checking.stop()
        await measuring.stop()
        await retention.stop()

    return Service(
        "campaigns",
        listens={
            CUSTOMER_EVENTS: partial(on_customer_events, posting=posting, advance=partitions.advance),
            CUSTOMERS: partial(on_customers, offering=offering),
            SEGMENT_CHANGES: partial(on_segment_changes, offering=offering),
            SCORES: partial(on_scores, strangers=Strangers()),
            DELIVERIES: on_deliveries,
            PRODUCTS: on_products,
            PRIVACY: answer_privacy("campaigns", CampaignsHolder(), publisher.publish, letters),
        },
        api=create_router(clock, settings),
        partitions=partitions,
        timers=(
            Timer(1.0, partitions.save),
            Timer(30.0, checking.start),
            Timer(60.0, measuring.start),
            Timer(STEP_SECONDS, retention.start),
        ),
        seal_letters=letters.seal,
        start=partial(_start, offering=offering, clock=clock),
        stop=stop,
    )


async def _start(topic_ids: Mapping[str, str], offering: Offering, clock: Clock) -> None:
    await in_store(prepare)
    await in_store(programs.ship, shipped_programs(), clock.now())
    logs = {topic.name: topic_ids[topic.name] for topic in (OFFERS, DELIVERIES) if topic.name in topic_ids}
    if logs and logs != await in_store(watermarks.last_logs):
        await offering.publish_pending()
        await in_store(watermarks.keep_logs, logs)
