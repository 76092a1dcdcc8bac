"""What notifications is made of; the only place that knows all its parts."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from services.notifications import store
from services.notifications.api import create_router
from services.notifications.handlers import on_customers, on_offers
from services.notifications.holder import NotificationsHolder
from services.notifications.links import Links
from services.notifications.outbox import Outbox
from services.notifications.ownership import OwnedPartitions
from services.notifications.responses import Responses
from services.notifications.retention import rules
from services.notifications.settings import NotificationsSettings
from services.notifications.smtp import Courier
from services.notifications.store import suppressions
from services.notifications.templates import Templates
from services.notifications.writing import Writer
from shared.clock import Clock, WallClock
from shared.contracts.topics import CUSTOMERS, DEAD_LETTERS, OFFERS, PRIVACY
from shared.letters import Letters, ReadLetters
from shared.mongo import in_store
from shared.privacy import answer_privacy
from shared.retention import STEP_SECONDS, Retention
from shared.service import Publisher, Service, Timer
from shared.streaming.reader import read_topic
from shared.vault import use

SETTINGS = NotificationsSettings


def build(publisher: Publisher, settings: NotificationsSettings, clock: Clock, read_letters: ReadLetters | None = None) -> Service:
    """Put the service together; nothing is connected yet. `read_letters` is the broker's unless a test gives another."""
    owned = OwnedPartitions()
    links = Links(settings.public_url)
    writer = Writer(Templates(), links, settings)
    outbox = Outbox(Courier(settings), writer, publisher.publish, owned, settings=settings, clock=clock)
    vault = use("notifications", settings.master)
    letters = Letters("notifications", vault, read_letters or partial(read_topic, settings.kafka_bootstrap_servers, DEAD_LETTERS))
    responses = Responses(publisher.publish, owned, clock, track=settings.track_opens)
    retention = Retention("notifications", settings.retention_days, rules(clock), WallClock())

    async def stop() -> None:
        await outbox.close()
        await retention.stop()

    async def start(topic_ids: Mapping[str, str]) -> None:
        await in_store(store.prepare)
        links.use_key(await in_store(suppressions.signing_key))

    return Service(
        name="notifications",
        listens={
            CUSTOMERS: on_customers,
            OFFERS: partial(on_offers, outbox=outbox, clock=clock),
            PRIVACY: answer_privacy("notifications", NotificationsHolder(settings.master), publisher.publish, letters),
        },
        api=create_router(publisher, writer, links, responses, settings=settings, clock=clock),
        partitions=owned,
        timers=(Timer(0.5, outbox.send_due), Timer(1.0, outbox.tidy), Timer(1.0, responses.tell), Timer(STEP_SECONDS, retention.start)),
        seal_letters=letters.seal,
        start=start,
        stop=stop,
    )
