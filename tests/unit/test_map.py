"""Each service listens to exactly what the map says."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

import mongoengine
import pytest

from shared.clock import WallClock
from shared.contracts.topics import TOPICS, Topic, topics_read_by
from shared.streaming.errors import NotSent
from shared.streaming.records import Message

SERVICES = ("identity", "segmentation", "campaigns", "notifications")


class NoBroker:
    """A publisher for building services that are only looked at."""

    async def publish(self, topic: Topic, messages: Sequence[Message]) -> None:
        raise AssertionError("nothing is sent while building")

    async def append(self, topic: Topic, message: Message) -> None:
        raise AssertionError("nothing is sent while building")

    async def append_all(self, topic: Topic, messages: Sequence[Message]) -> list[NotSent | None]:
        raise AssertionError("nothing is sent while building")


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_listens_to_exactly_what_the_map_says(name: str) -> None:
    app = importlib.import_module(f"services.{name}.app")
    service = app.build(NoBroker(), app.SETTINGS(), WallClock())
    assert service.name == name
    assert {topic.name for topic in service.listens} == {topic.name for topic in topics_read_by(name)}


def test_only_known_services_are_in_the_map() -> None:
    said = {reader for topic in TOPICS for reader in topic.consumers}
    assert said == set(SERVICES)


def test_no_two_documents_have_the_same_name() -> None:
    """mongoengine knows them by it: of two, only one would let go of a closed connection."""
    for name in SERVICES:
        importlib.import_module(f"services.{name}.app")
    names = [document.__name__ for document in mongoengine.Document.__subclasses__() if document.__module__.startswith("services.")]
    assert len(names) > 10
    assert sorted(names) == sorted(set(names))
