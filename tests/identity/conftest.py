"""Identity on the memory bus and the embedded database."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from services.identity.settings import IdentitySettings
from shared.clock import WallClock
from shared.mongo import connect, disconnect
from tests.identity.world import World


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def empty(database: str) -> Iterator[Any]:
    """Identity's database with nothing in it."""
    client = connect("identity", database)
    client.drop_database("identity")
    yield client["identity"]
    disconnect("identity")


@pytest.fixture
def world(empty: Any) -> World:
    """Identity in a replay that has come to noon of a day."""
    return World(IdentitySettings(), empty)


@pytest.fixture
def live_world(empty: Any) -> World:
    """Identity by the wall clock."""
    return World(IdentitySettings(), empty, WallClock())
