"""What segmentation is made of; the only place that knows all its parts."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial

from services.segmentation.ageing import Ageing
from services.segmentation.answering import Answering
from services.segmentation.api import create_router
from services.segmentation.copying import Copying
from services.segmentation.handlers import on_customer_events, on_customers, on_offers, on_profile_rows
from services.segmentation.holder import SegmentationHolder
from services.segmentation.live_changes import ChangesLog, LiveChanges
from services.segmentation.modelling import Modelling
from services.segmentation.own_segments import Watching
from services.segmentation.partitions import SegmentationPartitions, Sources
from services.segmentation.product_list import ProductList, take_products
from services.segmentation.read_model import ReadModel
from services.segmentation.refit import PARTITION, read_published
from services.segmentation.rescoring import Rescoring
from services.segmentation.retention import rules
from services.segmentation.settings import SegmentationSettings
from services.segmentation.shipped import load_shipped_models
from services.segmentation.snapshots import SnapshotFiles
from services.segmentation.store import scores as store
from services.segmentation.telling import ScoreTelling
from services.segmentation.trait_columns import TraitColumns
from services.segmentation.worker import Worker
from shared.clock import Clock, WallClock
from shared.contracts.topics import (
    CUSTOMER_EVENTS,
    CUSTOMERS,
    DEAD_LETTERS,
    OFFERS,
    PRIVACY,
    PRODUCTS,
    PROFILE_ROWS,
    SCORING_MODELS,
    SEGMENT_CHANGES,
    SEGMENTATION_STATE,
)
from shared.kafka_admin import KafkaAdminError, topic_ids
from shared.letters import Letters
from shared.mongo import in_store
from shared.privacy import answer_privacy
from shared.retention import STEP_SECONDS, Retention
from shared.service import Publisher, Service, Timer
from shared.streaming.errors import Unavailable
from shared.streaming.reader import bounds_of_partition, bounds_of_topic, follow_partition, follow_partitions, read_partition, read_topic
from shared.timeline import read_timeline
from shared.vault import use

SETTINGS = SegmentationSettings
BATCH_RECORDS = 16_000
"""About 150 ms of work: each batch waits once for the broker to take the rows, whatever its size."""


def build(publisher: Publisher, settings: SegmentationSettings, clock: Clock) -> Service:
    """Segmentation as it runs: with Kafka's changelog, identity's timeline over HTTP, and snapshots in the data directory."""
    servers = settings.kafka_bootstrap_servers
    sources = Sources(
        read_changelog=partial(read_partition, servers, SEGMENTATION_STATE),
        changelog_bounds=partial(bounds_of_partition, servers, SEGMENTATION_STATE),
        events_bounds=partial(bounds_of_partition, servers, CUSTOMER_EVENTS),
        customers_bounds=partial(bounds_of_partition, servers, CUSTOMERS),
        read_timeline=partial(read_timeline, settings.identity_url, credential=settings.credential("segmentation")),
        read_customers=partial(read_partition, servers, CUSTOMERS),
        read_copies=partial(read_partition, servers, PROFILE_ROWS),
        read_products=partial(read_partition, servers, PRODUCTS),
        follow_products=partial(follow_partitions, servers, PRODUCTS, dict.fromkeys(range(PRODUCTS.partitions), 0)),
        read_models=partial(read_partition, servers, SCORING_MODELS),
        follow_models=partial(follow_partition, servers, SCORING_MODELS, PARTITION, 0),
        read_letters=partial(read_topic, servers, DEAD_LETTERS),
        snapshots=SnapshotFiles(settings.data_dir),
    )
    return compose(publisher, settings, clock, sources, changes_at(servers))


def changes_at(servers: str) -> ChangesLog:
    """segment-changes-v1 at a broker."""

    async def identify() -> str:
        try:
            return (await asyncio.to_thread(topic_ids, servers, [SEGMENT_CHANGES]))[SEGMENT_CHANGES.name]
        except (KafkaAdminError, KeyError) as error:
            raise Unavailable(f"broker: {error!r}") from error

    return ChangesLog(
        identify=identify,
        bounds=partial(bounds_of_topic, servers, SEGMENT_CHANGES),
        read=partial(read_partition, servers, SEGMENT_CHANGES),
        follow=partial(follow_partitions, servers, SEGMENT_CHANGES),
    )


def compose(publisher: Publisher, settings: SegmentationSettings, clock: Clock, sources: Sources, changes: ChangesLog) -> Service:
    """Segmentation from its collaborators; tests give other sources."""
    worker = Worker(publisher, clock, settings, load_shipped_models(settings.scoring_model))
    rescoring = Rescoring(worker)
    telling, read_model = ScoreTelling(worker), ReadModel(worker, rescoring)
    partitions = SegmentationPartitions(worker, sources, read_model.finish)
    copying = Copying(worker, partitions)
    modelling = Modelling(worker, sources.follow_models)
    watching, answering = Watching(worker), Answering(worker)
    letters = Letters("segmentation", use("segmentation", settings.master), sources.read_letters)
    products, traits = ProductList(worker.reading, sources.follow_products), TraitColumns(worker, sources.read_customers)
    live = LiveChanges(changes)
    retention = Retention("segmentation", settings.retention_days, rules(worker), WallClock())

    async def read_product_list(partition: int) -> None:
        async for records in sources.read_products(partition, 0):
            take_products(records, worker.reading)

    async def start(topic_ids: Mapping[str, str]) -> None:
        await in_store(store.prepare)
        await read_published(sources.read_models, worker.models, worker.markets)
        await watching.start()
        await asyncio.gather(*(read_product_list(partition) for partition in range(PRODUCTS.partitions)))
        await partitions.start(topic_ids)

    async def stop() -> None:
        await live.finish()
        await modelling.finish()
        await answering.finish()
        await products.finish()
        await traits.finish()
        await watching.finish()
        await read_model.finish()
        await copying.finish()
        await retention.stop()

    return Service(
        "segmentation",
        listens={
            CUSTOMER_EVENTS: partial(on_customer_events, worker=worker),
            CUSTOMERS: partial(on_customers, worker=worker),
            PROFILE_ROWS: partial(on_profile_rows, worker=worker),
            OFFERS: partial(on_offers, worker=worker),
            PRIVACY: answer_privacy("segmentation", SegmentationHolder(worker, partitions, read_model), publisher.publish, letters),
        },
        api=create_router(clock, live, settings),
        partitions=partitions,
        batch_records=BATCH_RECORDS,
        timers=(
            Timer(0.1, rescoring.tick),
            Timer(1.0, telling.tick),
            Timer(1.0, worker.tell_market),
            Timer(0.75, read_model.tick),
            Timer(1.0, copying.tick),
            Timer(1.0, modelling.tick),
            Timer(1.0, watching.tick),
            Timer(0.2, traits.tick),
            Timer(1.0, products.tick),
            Timer(0.2, answering.tick),
            Timer(5.0, Ageing(worker).tick),
            Timer(STEP_SECONDS, retention.start),
        ),
        seal_letters=letters.seal,
        start=start,
        stop=stop,
        hang_up=live.hang_up,
    )
