"""A real mail to the newest address of a customer, as identity publishes what forms said, and to none that was retired."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

import pytest

from services.identity.domain.customers import announcement, join, seen_as, what_it_says
from services.identity.domain.events import SourceEvent, read_event
from shared.contracts.topics import CUSTOMERS
from shared.streaming.records import Message
from tests.identity.world import consent, day, identify, purchase
from tests.notifications.world import Sink, World, customer_id

pytestmark = pytest.mark.anyio
CARD, OLD, NEW = "loyalty_card:1", "email:abel.old@example.com", "email:zoe.new@example.com"
ALLOWED = [{"purpose": "marketing", "channel": "email", "granted": True}]


async def say(world: World, version: int, *profiles: Sequence[dict[str, Any]]) -> None:
    """Identity publishes what was said of the profiles of one customer, oldest first."""
    known = {}
    for number, sent in enumerate(profiles, 1):
        events = [read_event(json.dumps(each).encode(), "USD") for each in sent]
        profile = customer_id(number)
        said = [what_it_says(each, profile, profile, each.references) for each in events if isinstance(each, SourceEvent)]
        known[profile] = replace(reduce(join, said), version=version)
    for profile in known:
        seen = seen_as(profile, version, known.keys(), known)
        await world.bus.publish(CUSTOMERS, [Message(profile.encode(), announcement(seen).model_dump_json().encode())])
    await world.bus.settle()


async def test_mail_goes_to_the_newest_address(world: World, sink: Sink) -> None:
    await world.bus.start()
    first = [identify("1", (CARD, OLD)), identify("2", (CARD, NEW), at=day(5), consents=ALLOWED), purchase("3", OLD, at=day(6))]
    await say(world, 1, first)
    await world.offer(1)
    assert sink.recipients == ["zoe.new@example.com"]


async def test_mail_goes_to_the_newest_address_of_all_profiles(world: World, sink: Sink) -> None:
    await world.bus.start()
    await say(world, 1, [identify("1", (CARD, OLD)), consent("2", True, CARD)], [identify("3", ("user:9", NEW), at=day(5))])
    await world.offer(1)
    assert sink.recipients == ["zoe.new@example.com"]


async def test_no_mail_goes_to_an_address_that_was_retired(world: World, sink: Sink) -> None:
    await world.bus.start()
    said = [identify("1", (CARD, OLD), consents=ALLOWED), identify("2", (CARD, NEW), at=day(1))]
    retired = identify("3", (CARD,), at=day(2), retired=[NEW])
    await say(world, 1, [*said, retired, purchase("4", NEW, at=day(3))])
    await world.offer(1)
    assert sink.recipients == ["abel.old@example.com"]
    await say(world, 2, [*said, retired, identify("5", (CARD,), at=day(2), retired=[OLD])])
    await world.offer(1, offer_id="later", program="later")
    assert ("suppressed", "no_address") in world.outcomes()
    assert len(sink.mails) == 1
