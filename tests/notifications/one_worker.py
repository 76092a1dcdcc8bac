"""A process of notifications with one customer and one offer, for tests that kill it: `one_worker.py DATABASE_URI SMTP_PORT`."""

from __future__ import annotations

import asyncio
import sys

from services.notifications.settings import NotificationsSettings
from shared.mongo import connect
from tests.notifications.world import World


async def main(uri: str, smtp_port: int) -> None:
    client = connect("notifications", uri)
    world = World(NotificationsSettings(mongodb_uri=uri, smtp_port=smtp_port), client["notifications"])
    await world.bus.start()
    await world.know(1)
    await world.offer(1)


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
