"""Campaigns on the memory bus and the embedded database."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from services.campaigns.settings import CampaignsSettings
from shared.clock import ReplayClock
from shared.mongo import connect, disconnect
from shared.streaming.memory import MemoryBus
from tests.campaigns.world import NOON, World


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def world(database: str) -> Iterator[World]:
    """Campaigns on an empty database, at noon."""
    client = connect("campaigns", database)
    client.drop_database("campaigns")
    yield World(CampaignsSettings(), ReplayClock(NOON), MemoryBus(), client["campaigns"])
    disconnect("campaigns")
