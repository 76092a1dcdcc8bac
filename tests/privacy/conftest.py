"""All services on one memory bus and one embedded database, because what somebody asks about their data goes to all of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.mongo import connect, disconnect
from tests.privacy.world import SERVICES, Everything


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def everything(database: str, tmp_path: Path) -> Iterator[Everything]:
    """An empty system at noon of a day."""
    clients = {name: connect(name, database) for name in SERVICES}
    for name, client in clients.items():
        client.drop_database(name)
    yield Everything(tmp_path, {name: client[name] for name, client in clients.items()})
    for name in SERVICES:
        disconnect(name)
