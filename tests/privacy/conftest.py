"""All services on one memory bus and one embedded database, because what somebody asks about their data goes to all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shared.mongo import connect, disconnect
from shared.retained import Retained
from tests.privacy.world import SERVICES, Everything


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def new_everything(database: str, tmp_path: Path) -> Iterator[Callable[..., Everything]]:
    """Makes an empty system at noon of a day, with these retention rules."""
    clients = {name: connect(name, database) for name in SERVICES}
    for name, client in clients.items():
        client.drop_database(name)
    databases = {name: client[name] for name, client in clients.items()}
    yield lambda **days: Everything(tmp_path, databases, {Retained(kind): count for kind, count in days.items()})
    for name in SERVICES:
        disconnect(name)


@pytest.fixture
def everything(new_everything: Callable[..., Everything]) -> Everything:
    """An empty system at noon of a day."""
    return new_everything()
