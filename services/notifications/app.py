"""What notifications is made of; the only place that knows all its parts."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from services.notifications import store
from services.notifications.api import create_router
from services.notifications.handlers import on_customers, on_offers
from services.notifications.links import Links
from services.notifications.outbox import Outbox
from services.notifications.ownership import OwnedPartitions
from services.notifications.responses import Responses
from services.notifications.settings import NotificationsSettings
from services.notifications.smtp import Courier
from services.notifications.store import suppressions
from services.notifications.templates import Templates
from services.notifications.writing import Writer
from shared.clock import Clock
from shared.contracts.topics import CUSTOMERS, OFFERS
from shared.mongo import in_store
from shared.service import Publisher, Service, Timer

SETTINGS = NotificationsSettings


def build(publisher: Publisher, settings: NotificationsSettings, clock: Clock) -> Service:
    """Put the service together; nothing is connected yet."""
    owned = OwnedPartitions()
    links = Links(settings.public_url)
    writer = Writer(Templates(), links, settings)
    outbox = Outbox(Courier(settings), writer, publisher.publish, owned, settings=settings, clock=clock)
    responses = Responses(publisher.publish, owned, clock, track=settings.track_opens)

    async def start(topic_ids: Mapping[str, str]) -> None:
        await in_store(store.prepare)
        links.use_key(await in_store(suppressions.signing_key))

    return Service(
        name="notifications",
        listens={CUSTOMERS: on_customers, OFFERS: partial(on_offers, outbox=outbox, clock=clock)},
        api=create_router(publisher, writer, links, responses, settings=settings, clock=clock),
        partitions=owned,
        timers=(Timer(0.5, outbox.send_due), Timer(1.0, outbox.tidy), Timer(1.0, responses.tell)),
        start=start,
        stop=outbox.close,
    )
