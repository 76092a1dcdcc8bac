"""An embedded database for the session, a mail server and processes of notifications for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from services.notifications.settings import NotificationsSettings
from shared.clock import ReplayClock
from shared.mongo import connect, disconnect
from stack.embedded import Database
from stack.process import free_port
from tests.notifications.world import Sink, World


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    started = Database(Path(tmp_path_factory.mktemp("database")), free_port())
    started.start()
    yield started
    started.stop()


@pytest.fixture
def database_uri(embedded: Database) -> str:
    return embedded.uri


@pytest.fixture
def sink() -> Iterator[Sink]:
    made = Sink()
    made.start()
    yield made
    made.stop()


@pytest.fixture
def new_world(database_uri: str, sink: Sink) -> Iterator[Callable[..., World]]:
    """Makes processes that share an empty database and the mail server."""
    client = connect("notifications", database_uri)
    client.drop_database("notifications")

    def make(clock: ReplayClock | None = None, **settings: Any) -> World:
        chosen = {"smtp_port": sink.port, "smtp_timeout_seconds": 2.0, "sender_name": "Corner Shop", **settings}
        return World(
            NotificationsSettings(mongodb_uri=database_uri, master_key="a master key of the tests", **chosen),
            client["notifications"],
            clock,
        )

    yield make
    disconnect("notifications")


@pytest.fixture
def world(new_world: Callable[..., World]) -> World:
    return new_world()
