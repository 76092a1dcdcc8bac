"""Every event ends in exactly one outcome: parked once is parked, put back it becomes something else, and what is gone is counted."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pymongo.errors import AutoReconnect

from services.identity.store import positions, timeline
from shared.contracts.dead_letters import EventParked
from shared.contracts.envelope import Event
from shared.contracts.topics import CUSTOMER_UPDATES, DEAD_LETTERS, INTERACTIONS, PURCHASES, TOPICS, Topic
from shared.streaming.errors import Unavailable
from shared.streaming.memory import MemoryBus
from shared.streaming.partitions import partition_for
from shared.streaming.records import Message
from stack import dead_letters
from tests.identity.test_handlers import effects, passed_on
from tests.identity.world import CARD, World, batch, consent, day, identify, interaction, message, purchase

pytestmark = pytest.mark.anyio
SOURCES = (PURCHASES, INTERACTIONS, CUSTOMER_UPDATES)


def outcomes(**expected: int) -> dict[str, int]:
    """All outcomes, those not named being 0."""
    return {**dict.fromkeys((*positions.COUNTED, "parked"), 0), **expected}


class Operator:
    """Puts dead letters back, as `dear dead-letters replay` does."""

    def __init__(self, bus: MemoryBus) -> None:
        self._bus = bus
        self._sent: list[tuple[Topic, Message]] = []

    def send(self, topic: str, key: bytes | None, value: bytes | None, *, headers: Any = (), partition: int | None = None) -> None:
        [into] = [each for each in TOPICS if each.name == topic]
        assert partition in (None, partition_for(key or b"", into.partitions))
        self._sent.append((into, Message(key or b"", value, headers)))

    def flush(self) -> None:
        """Acknowledged when it is in the log, which is at the next await."""

    async def replay(self, *, take_away: bool = True) -> None:
        letters = {record.key: record.value for record in self._bus.records(DEAD_LETTERS)}
        parked = {(key or b"").decode(): Event[EventParked].model_validate_json(value).data for key, value in letters.items() if value}
        dead_letters.replay(parked, dead_letters.Keys(None, None).open(parked), self)  # type: ignore[arg-type]
        for topic, each in self._sent:
            if take_away or topic is not DEAD_LETTERS:
                await self._bus.publish(topic, [each])
        self._sent.clear()
        await self._bus.settle()


async def redeliver(world: World) -> None:
    for topic in SOURCES:
        world.bus.redeliver(topic)
    await world.bus.settle()


async def test_what_was_parked_stays_parked_though_the_clock_has_moved_on(world: World) -> None:
    """Killed after it was parked and before the offset was committed; by then its time has come."""
    await (await world.start()).send(purchase("1"), purchase("early", at=day(40)))
    assert positions.outcomes() == outcomes(accepted=1, parked=1)
    world.clock.observe(day(35))
    await redeliver(world)
    assert positions.outcomes() == outcomes(accepted=1, parked=1)
    assert effects(world.bus) == {"1": 1}
    assert {each["reason"] for each in world.bus.parked()} == {"ahead_of_clock"}
    assert world.clock.now() == day(35), "what is parked moves no clock"


async def test_what_was_noted_is_parked_by_the_next_worker_where_this_one_died_first(world: World) -> None:
    await world.start()
    world.bus.fail_publishes(1, DEAD_LETTERS)
    await world.send(purchase("early", at=day(40)))
    assert len(world.bus.parked()) == 1
    assert positions.outcomes() == outcomes(parked=1)


async def test_the_bytes_of_what_is_parked_outlive_the_log_of_dead_letters(world: World) -> None:
    bad = purchase("1", amount=-1)
    await (await world.start()).send(bad)
    await world.bus.append(PURCHASES, Message(b"big", b"{" * 50_000))
    await world.bus.settle()
    kept = sorted((bytes(each["event"]) for each in world.database["outcomes"].find({"outcome": "parked"})), key=len)
    assert kept == [message(bad).value, b"{" * 32 * 1024]


@pytest.fixture
def poisonous(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of events that the timeline fails on for a reason that nobody foresaw."""
    names: list[str] = []
    insert = timeline.insert

    def failing(topic_id: str, partition: int, entries: Any) -> Any:
        if any(entry.key.endswith(f"\x1f{name}") for entry in entries for name in names):
            raise ZeroDivisionError("unforeseen")
        return insert(topic_id, partition, entries)

    monkeypatch.setattr(timeline, "insert", failing)
    return names


@pytest.mark.parametrize("sell", [purchase, interaction, lambda id: consent(id, True)], ids=["purchases", "interactions", "updates"])
async def test_poison_is_counted_once(world: World, poisonous: list[str], sell: Any) -> None:
    poisonous += ["2", "3"]
    await (await world.start()).send(*(sell(str(number)) for number in range(5)))
    assert positions.outcomes() == outcomes(accepted=3, parked=2)
    await redeliver(world)
    assert positions.outcomes() == outcomes(accepted=3, parked=2)
    assert len({(each["partition"], each["offset"]) for each in world.bus.parked()}) == 2
    noted = [json.loads(each["event"])["id"] for each in world.database["outcomes"].find({"reason": "poison"})]
    assert sorted(noted) == ["2", "3"]


async def test_poison_at_the_end_of_a_log_is_counted_though_nothing_follows(world: World, poisonous: list[str]) -> None:
    await world.start()
    poisonous.append("1")
    await world.bus.append(PURCHASES, message(purchase("0")))
    await world.bus.append(PURCHASES, message(purchase("1")))
    await world.bus.settle()
    assert positions.outcomes() == outcomes(accepted=1, parked=1)


async def test_poison_that_was_noted_stays_parked_where_the_worker_died_before_its_letter_was_out(
    world: World, poisonous: list[str]
) -> None:
    """Next time it might have passed: then it would be parked and accepted."""
    await world.start()
    poisonous.append("1")
    world.bus.fail_publishes(1, DEAD_LETTERS, error=ValueError("the worker dies"))
    await world.bus.append(PURCHASES, message(purchase("0")))
    await world.bus.append(PURCHASES, message(purchase("1")))
    with pytest.raises(Exception, match="cannot be parked"):
        await world.bus.settle()
    poisonous.clear()
    await redeliver(world)
    assert positions.outcomes() == outcomes(accepted=1, parked=1)
    assert [each["reason"] for each in world.bus.parked()] == ["poison"]


async def test_a_letter_that_is_put_back_and_passes_is_accepted_and_not_parked_any_more(world: World, poisonous: list[str]) -> None:
    await world.start()
    poisonous.append("2")
    await world.send(purchase("0"), purchase("early", at=day(40)), identify("1"))
    await world.bus.append(PURCHASES, message(purchase("2")))
    await world.bus.append(PURCHASES, message(purchase("3")))
    await world.bus.settle()
    assert positions.outcomes() == outcomes(accepted=3, parked=2)
    poisonous.clear()
    world.clock.observe(day(35))
    await Operator(world.bus).replay()
    assert positions.outcomes() == outcomes(accepted=5)
    assert effects(world.bus) == {"0": 1, "2": 1, "3": 1, "early": 1}
    await redeliver(world)
    assert positions.outcomes() == outcomes(accepted=5)
    assert effects(world.bus) == {"0": 1, "2": 1, "3": 1, "early": 1}


async def test_a_letter_that_is_put_back_and_is_still_wrong_counts_once(world: World) -> None:
    await (await world.start()).send(purchase("0"), purchase("1", amount=-1), purchase("2", None))
    for _ in range(3):
        await Operator(world.bus).replay()
        await redeliver(world)
        assert positions.outcomes() == outcomes(accepted=1, anonymous=1, parked=1)
    assert world.database["outcomes"].count_documents({}) == 1


async def test_a_letter_that_is_put_back_twice_counts_once(world: World) -> None:
    await (await world.start()).send(purchase("early", at=day(40)))
    world.clock.observe(day(35))
    operator = Operator(world.bus)
    await operator.replay(take_away=False)
    await operator.replay(take_away=False)
    assert positions.outcomes() == outcomes(accepted=1)
    assert passed_on(world.bus) == ["early"]


async def test_a_letter_whose_event_came_again_by_itself_is_a_repeat_and_not_parked_any_more(world: World) -> None:
    await (await world.start()).send(purchase("early", at=day(40)))
    world.clock.observe(day(35))
    await world.send(purchase("early", at=day(40)))
    await Operator(world.bus).replay()
    await redeliver(world)
    assert positions.outcomes() == outcomes(accepted=1, repeated=1)
    assert effects(world.bus) == {"early": 1}


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("write", ["insert_many", "update_one", "delete_many"])
async def test_a_worker_may_die_while_it_takes_a_letter_back(world: World, write: str, done: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    await (await world.start()).send(purchase("0"), purchase("early", at=day(40)))
    world.clock.observe(day(35))
    collection = type(world.database["outcomes"])
    original, failures = getattr(collection, write), [AutoReconnect("gone")]

    def failing(this: Any, *args: Any, **more: Any) -> Any:
        answer = original(this, *args, **more) if done or not failures else None
        if failures:
            raise failures.pop()
        return answer

    monkeypatch.setattr(collection, write, failing)
    await Operator(world.bus).replay()
    assert not failures
    assert positions.outcomes() == outcomes(accepted=2)
    assert effects(world.bus) == {"0": 1, "early": 1}


async def test_what_retention_removed_before_it_was_read_is_lost_and_counted(world: World) -> None:
    await (await world.start()).send(purchase("0"), purchase("1", amount=-1))
    await world.bus.stop()
    for number in range(7):
        await world.bus.append(PURCHASES, message(purchase(f"gone-{number}")))
    world.bus.expire(PURCHASES)
    await world.bus.append(PURCHASES, message(purchase("2")))
    for _ in range(2):
        await world.bus.start()
        await world.bus.settle()
        assert positions.outcomes() == outcomes(accepted=2, parked=1, lost=7)
        await world.bus.stop()
    assert effects(world.bus) == {"0": 1, "2": 1}


async def test_what_was_in_the_timeline_when_its_part_of_the_log_went_is_finished(world: World) -> None:
    """Killed in the middle of a batch, and down for longer than the log is kept."""
    await (await world.start()).send(purchase("0"))
    here, topic_id = partition_for(CARD.encode()), world.bus.topic_ids["purchases-v1"]
    sent = [purchase("1"), purchase("2", amount=-1), purchase("3"), purchase("4")]
    half = batch(PURCHASES, *sent, first=1, partition=here, topic_id=topic_id)
    with world.failing_write("timeline", AutoReconnect("gone")), pytest.raises(Unavailable):
        await world.worker().listens[PURCHASES](half)
    for each in [*sent, purchase("5")]:
        await world.bus.append(PURCHASES, message(each))
    world.bus.expire(PURCHASES)
    await world.bus.append(PURCHASES, message(purchase("6")))
    for _ in range(2):
        await world.bus.restart()
        await world.bus.settle()
        assert positions.outcomes() == outcomes(accepted=5, lost=2)
    assert effects(world.bus) == {str(number): 1 for number in (0, 1, 3, 4, 6)}


async def test_what_was_read_before_retention_removed_it_is_not_lost(world: World, poisonous: list[str]) -> None:
    await world.start()
    poisonous.append("2")
    await world.send(purchase("0"))
    for each in (purchase("1"), purchase("2")):
        await world.bus.append(PURCHASES, message(each))
    await world.bus.settle()
    for topic in SOURCES:
        world.bus.expire(topic)
    await world.bus.restart()
    assert positions.outcomes() == outcomes(accepted=2, parked=1)
