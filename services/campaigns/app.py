"""What campaigns is made of; the only place that knows all its parts."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from services.campaigns.api import create_router
from services.campaigns.audit import BesideTheStream, LedgerAudit
from services.campaigns.handlers.facts import Strangers, on_products, on_scores
from services.campaigns.handlers.loyalty import Posting, on_customer_events
from services.campaigns.handlers.offers import Offering, on_customers, on_deliveries, on_segment_changes
from services.campaigns.holder import CampaignsHolder
from services.campaigns.partitions import FirstOffset, LedgerPartitions, ReadTimeline
from services.campaigns.programs import shipped_programs
from services.campaigns.settings import CampaignsSettings
from services.campaigns.store import prepare, programs, watermarks
from shared.clock import Clock
from shared.contracts.topics import CUSTOMER_EVENTS, CUSTOMERS, DELIVERIES, OFFERS, PRIVACY, PRODUCTS, SCORES, SEGMENT_CHANGES
from shared.mongo import in_store
from shared.privacy import answer_privacy
from shared.service import Publisher, Service, Timer
from shared.streaming.reader import first_of_partition
from shared.timeline import read_timeline

SETTINGS = CampaignsSettings


def build(
    publisher: Publisher,
    settings: CampaignsSettings,
    clock: Clock,
    timeline: ReadTimeline | None = None,
    first_offset: FirstOffset | None = None,
) -> Service:
    """Put campaigns together. `timeline` is identity's and `first_offset` the broker's unless a test gives others."""
    posting, offering = Posting(publisher, clock), Offering(publisher, clock)
    first_offset = first_offset or partial(first_of_partition, settings.kafka_bootstrap_servers, CUSTOMER_EVENTS)
    timeline = timeline or partial(read_timeline, settings.identity_url, credential=settings.credential("campaigns"))
    partitions = LedgerPartitions(posting, timeline, first_offset)
    audit = LedgerAudit(settings.point_value_minor)
    checking, measuring = BesideTheStream(audit.check_some), BesideTheStream(audit.measure)

    async def stop() -> None:
        await partitions.save()
        await checking.stop()
        await measuring.stop()

    return Service(
        "campaigns",
        listens={
            CUSTOMER_EVENTS: partial(on_customer_events, posting=posting, advance=partitions.advance),
            CUSTOMERS: partial(on_customers, offering=offering),
            SEGMENT_CHANGES: partial(on_segment_changes, offering=offering),
            SCORES: partial(on_scores, strangers=Strangers()),
            DELIVERIES: on_deliveries,
            PRODUCTS: on_products,
            PRIVACY: answer_privacy("campaigns", CampaignsHolder(), publisher.publish),
        },
        api=create_router(clock, settings),
        partitions=partitions,
        timers=(Timer(1.0, partitions.save), Timer(30.0, checking.start), Timer(60.0, measuring.start)),
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
