"""At most one send for each offer, customer and channel: under redelivery, under two workers, under kill -9."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from services.notifications import outbox
from services.notifications.domain.messages import Message, message_id
from services.notifications.store import messages as store
from shared.contracts.topics import CUSTOMERS, DELIVERIES, OFFERS
from shared.streaming.partitions import partition_for
from shared.streaming.records import Batch, StoredRecord
from stack.embedded import Database
from tests.notifications.world import NOON, Sink, World, customer_id, customer_message, offer_message

WEEK = timedelta(days=7)
ROOT = Path(__file__).resolve().parents[2]
WORKER = [sys.executable, "-m", "tests.notifications.one_worker"]
NO_CAPS = {"email_cap_per_day": 100, "marketing_cap_per_week": 100}


@pytest.fixture
def world(new_world: Callable[..., World]) -> World:
    """Without caps, which would hide a second send."""
    return new_world(**NO_CAPS)


def test_a_redelivered_offer_is_answered_again_but_not_sent_again(world: World, sink: Sink) -> None:
    async def scenario() -> None:
        await world.bus.start()
        await world.know(*range(20))
        await world.offer(*range(20))
        world.bus.redeliver(OFFERS)
        await world.bus.settle()

    asyncio.run(scenario())
    assert len(sink.mails) == 20
    assert Counter(delivery["offer_id"] for delivery in world.deliveries()) == {f"offer-{number}": 2 for number in range(20)}
    assert set(world.outcomes()) == {("sent", None)}


def test_two_workers_with_the_same_offers_send_each_once(new_world: Callable[..., World], sink: Sink) -> None:
    """As in a rebalance, when one worker does not know yet that its partitions are another's."""
    first, second = new_world(**NO_CAPS), new_world(**NO_CAPS)
    everyone = range(60)

    async def scenario() -> None:
        await first.bus.start()
        await second.bus.start()
        await first.know(*everyone)
        await second.bus.publish(CUSTOMERS, [customer_message(number) for number in everyone])
        for world in (first, second):
            await world.bus.publish(OFFERS, [offer_message(number) for number in everyone])
        await asyncio.gather(first.bus.settle(), second.bus.settle(), first.bus.tick(), second.bus.tick())
        await asyncio.gather(first.bus.tick(), second.bus.tick())

    asyncio.run(scenario())
    assert Counter(sink.recipients) == {f"household-{number}@example.com": 1 for number in everyone}
    assert first.states() == [("sent", None)] * 60
    reported = {delivery["offer_id"] for world in (first, second) for delivery in world.deliveries()}
    assert reported == {f"offer-{number}" for number in everyone}


def test_two_claims_at_the_same_moment_share_the_messages_between_them(world: World) -> None:
    async def scenario() -> list[set[str]]:
        await world.bus.start()
        world.database["messages"].insert_many([{"_id": str(number), "state": "due"} for number in range(200)])
        now = datetime.now(UTC)
        ids = [str(number) for number in range(200)]
        tasks = [asyncio.to_thread(store.claim, ids, f"token{number}", now, now + timedelta(seconds=9)) for number in range(4)]
        return list(await asyncio.gather(*tasks))

    shares = asyncio.run(scenario())
    assert sorted(one for share in shares for one in share) == sorted(str(number) for number in range(200))


@pytest.mark.parametrize("moment", ["before the mail was handed over", "after the mail was handed over"])
def test_a_worker_killed_in_the_middle_of_sending_leaves_an_unknown_that_is_never_sent_again(
    world: World, sink: Sink, database_uri: str, moment: str
) -> None:
    def kill(*_: object) -> None:
        os.kill(worker.pid, signal.SIGKILL)

    if moment.startswith("before"):
        sink.at_recipient = kill
    else:
        sink.after_content = kill
    worker = subprocess.Popen([*WORKER, database_uri, str(sink.port)], cwd=ROOT)
    assert worker.wait(30) == -signal.SIGKILL
    sink.at_recipient, sink.after_content = lambda _: None, lambda: None
    had_left = len(sink.mails)
    assert had_left == (0 if moment.startswith("before") else 1)
    assert world.states() == [("sending", None)]

    async def successor() -> None:
        await world.bus.start()
        await world.offer(1)  # Delivered again, since it was never acknowledged.
        await world.bus.tick()
        assert world.states() == [("sending", None)]
        world.leases_run_out()
        await world.bus.tick()
        await world.offer(1)
        await world.bus.tick()

    asyncio.run(successor())
    assert len(sink.mails) == had_left
    assert world.states() == [("unknown", "process_died")]
    assert set(world.outcomes()) == {("unknown", "process_died")}


def test_a_worker_that_died_after_recording_a_message_loses_nothing(world: World, sink: Sink) -> None:
    async def scenario() -> None:
        await world.bus.start()
        await world.know(1)
        at = partition_for(offer_message(1).key)
        id = message_id("offer-1", customer_id(1), "email")
        left = Message(id, "offer-1", "win_back", customer_id(1), "email", at, "win_back", "marketing", {}, NOON, NOON + WEEK, NOON, 0)
        store.record([left])
        await world.bus.tick()
        await world.offer(1)  # Delivered again, since it was never acknowledged.

    asyncio.run(scenario())
    assert len(sink.mails) == 1
    assert world.states() == [("sent", None)]


def test_what_became_of_a_mail_is_remembered_while_the_database_is_away(
    new_world: Callable[..., World], sink: Sink, embedded: Database
) -> None:
    world = new_world(**NO_CAPS, smtp_timeout_seconds=30)

    def database_leaves_and_comes_back() -> None:
        """After longer than the driver waits by itself."""
        sink.after_content = lambda: None
        embedded.stop()
        threading.Timer(3.5, embedded.start).start()

    sink.after_content = database_leaves_and_comes_back

    async def scenario() -> None:
        await world.bus.start()
        await world.know(1)
        await world.offer(1)
        await world.bus.tick()

    asyncio.run(scenario())
    assert len(sink.mails) == 1
    assert world.states() == [("sent", None)]
    assert set(world.outcomes()) == {("sent", None)}


def test_a_refusal_whose_news_was_lost_is_told_when_the_offer_returns(world: World, sink: Sink) -> None:
    async def scenario() -> None:
        await world.bus.start()
        await world.know(1, consent=False)
        world.bus.fail_publishes(2, DELIVERIES)
        await world.offer(1)

    asyncio.run(scenario())
    assert world.states() == [("suppressed", "no_consent")]
    assert world.outcomes() == [("suppressed", "no_consent")]


def test_who_stood_still_until_the_claim_ran_out_does_not_send_by_it(world: World, sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    claim = store.claim

    def stand_still(ids: Collection[str], token: str, now: datetime, leased_until: datetime) -> set[str]:
        taken = claim(ids, token, now, leased_until)
        monkeypatch.setattr(outbox, "_wall", lambda: leased_until)
        return taken

    monkeypatch.setattr(store, "claim", stand_still)

    async def scenario() -> None:
        await world.bus.start()
        await world.know(1)
        await world.offer(1)

    asyncio.run(scenario())
    assert sink.mails == []
    assert world.states() == [("due", "try_later")]


def test_another_partitions_messages_are_left_to_their_worker(world: World, sink: Sink) -> None:
    async def scenario() -> None:
        await world.bus.start()
        await world.know(1)
        partition = partition_for(offer_message(1).key)
        assert world.service.partitions is not None
        await world.service.partitions.close(OFFERS.name, partition)
        sink.stop()
        await world.offer(1)
        sink.start()
        await asyncio.sleep(1.1)
        await world.bus.tick()
        assert world.states() == [("due", "server_away")]

    asyncio.run(scenario())
    assert sink.mails == []


def test_the_same_offer_twice_in_one_batch_is_one_message(world: World, sink: Sink) -> None:
    async def scenario() -> None:
        await world.bus.start()
        await world.know(1)
        message = offer_message(1)
        records = [StoredRecord(offset, 0, message.key, message.value) for offset in range(3)]
        await world.service.listens[OFFERS](Batch(OFFERS.name, "id", partition_for(message.key), records))

    asyncio.run(scenario())
    assert len(sink.mails) == 1
