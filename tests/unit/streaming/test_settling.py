"""What becomes of a batch, without a broker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from shared.contracts.topics import PURCHASES, Topic
from shared.streaming.errors import InvalidEvents, MessageTooLarge, Reject, Stuck, Unavailable
from shared.streaming.parking import WINDOW_SECONDS, Parking, ParkLimit
from shared.streaming.progress import Progress
from shared.streaming.records import Batch, Handler, Message, StoredRecord
from shared.streaming.settling import BATCH_ATTEMPTS, REPLAY_HEADER, NotOurs, Settler


class World:
    """A settler with one handler, what it parked, and how long it waited."""

    def __init__(self, handler: Handler, *, park_limit: int = 500, group: str = "identity") -> None:
        self.parked: list[Message] = []
        self.waited: list[float] = []
        self.outages = 0
        self.park_failure: Exception | None = None
        self.progress = Progress()
        parking = Parking(group, self._publish, ParkLimit(park_limit))
        self.settler = Settler(
            group=group, handlers={PURCHASES.name: handler}, parking=parking, progress=self.progress, lock=asyncio.Lock(), sleep=self._sleep
        )

    async def _sleep(self, seconds: float) -> None:
        if seconds:
            self.waited.append(seconds)

    async def _publish(self, topic: Topic, messages: Sequence[Message]) -> None:
        assert topic.name == "dead-letters-v1"
        if self.outages:
            self.outages -= 1
            raise Unavailable("no broker")
        if self.park_failure is not None:
            raise self.park_failure
        self.parked.extend(messages)

    def settle(self, batch: Batch, is_ours: Callable[[], bool] = lambda: True) -> None:
        asyncio.run(self.settler.settle(batch, is_ours))

    def parked_keys(self) -> list[str]:
        return [message.key.decode() for message in self.parked]


def batch_of(*values: bytes, first: int = 0, headers: tuple[tuple[str, bytes], ...] = ()) -> Batch:
    records = [StoredRecord(first + number, 1, b"key", value, headers) for number, value in enumerate(values)]
    return Batch(PURCHASES.name, "topic-id", 2, records)


class Handling:
    """A handler that raises what it is told and remembers what it applied."""

    def __init__(self, raises: dict[bytes, Exception] | None = None, first: Sequence[Exception] = ()) -> None:
        self.raises, self.first = raises or {}, list(first)
        self.calls: list[list[bytes | None]] = []
        self.applied: list[bytes | None] = []

    async def __call__(self, batch: Batch) -> None:
        values = [record.value for record in batch.records]
        self.calls.append(values)
        if self.first:
            raise self.first.pop(0)
        for value in values:
            if value in self.raises:
                raise self.raises[value]
        self.applied += values


def test_a_batch_is_handed_over_once_and_whole() -> None:
    handling = Handling()
    world = World(handling)
    world.settle(batch_of(b"a", b"b"))
    assert handling.calls == [[b"a", b"b"]]
    assert world.parked == []


def test_an_outage_is_waited_for_however_long_and_parks_nothing() -> None:
    handling = Handling(first=[Unavailable("away")] * 40)
    world = World(handling)
    world.settle(batch_of(b"a"))
    assert handling.applied == [b"a"]
    assert world.parked == []
    assert world.waited[:4] == [0.1, 0.2, 0.4, 0.8]
    assert max(world.waited) == 5.0


def test_an_outage_turns_ready_off_until_it_is_over() -> None:
    seen: list[bool] = []

    class Away(Handling):
        async def __call__(self, batch: Batch) -> None:
            seen.append(world.progress.ready)
            await super().__call__(batch)

    world = World(Away(first=[Unavailable("away")] * 2))
    world.progress.done("starting")
    world.settle(batch_of(b"a"))
    assert seen == [True, False, False]
    assert world.progress.ready


def test_what_fails_now_and_then_is_tried_again_whole() -> None:
    handling = Handling(first=[RuntimeError("flaky")] * (BATCH_ATTEMPTS - 1))
    world = World(handling)
    world.settle(batch_of(b"a", b"b"))
    assert handling.applied == [b"a", b"b"]
    assert world.parked == []


def test_what_fails_while_its_neighbours_pass_is_poison() -> None:
    handling = Handling({b"bad": ValueError("unreadable")})
    world = World(handling)
    world.settle(batch_of(b"a", b"bad", b"c", first=10))
    assert handling.applied == [b"a", b"c"]
    assert world.parked_keys() == ["identity/topic-id/2/11"]
    assert b"ValueError: unreadable" in (world.parked[0].value or b"")


def test_where_nothing_passes_it_is_not_the_events_that_are_wrong() -> None:
    world = World(Handling({b"a": RuntimeError(), b"b": RuntimeError()}))
    with pytest.raises(Stuck):
        world.settle(batch_of(b"a", b"b"))
    assert world.parked == []


def test_a_lone_event_is_judged_by_what_passed_before_it_but_only_once() -> None:
    world = World(Handling({b"bad": RuntimeError("no"), b"worse": RuntimeError("no")}))
    world.settle(batch_of(b"good"))
    world.settle(batch_of(b"bad", first=1))
    assert world.parked_keys() == ["identity/topic-id/2/1"]
    with pytest.raises(Stuck):
        world.settle(batch_of(b"worse", first=2))
    world.settle(batch_of(b"good", first=3))
    world.settle(batch_of(b"worse", first=2))
    assert len(world.parked) == 2


def test_a_lone_first_event_that_fails_leaves() -> None:
    with pytest.raises(Stuck):
        World(Handling({b"bad": RuntimeError()})).settle(batch_of(b"bad"))


def test_invalid_events_are_parked_with_their_reason_and_the_rest_was_applied() -> None:
    class Rejecting(Handling):
        async def __call__(self, batch: Batch) -> None:
            await super().__call__(batch)
            raise InvalidEvents((Reject(1, "malformed", "not JSON"),))

    handling = Rejecting()
    world = World(handling)
    world.settle(batch_of(b"a", b"{"))
    assert len(handling.calls) == 1
    assert world.parked_keys() == ["identity/topic-id/2/1"]
    assert b'"reason":"malformed"' in (world.parked[0].value or b"")


def test_parking_waits_for_the_broker() -> None:
    world = World(Handling({b"bad": ValueError()}))
    world.outages = 3
    world.settle(batch_of(b"a", b"bad"))
    assert world.parked_keys() == ["identity/topic-id/2/1"]


def test_what_can_be_neither_applied_nor_parked_is_stuck() -> None:
    world = World(Handling({b"bad": ValueError()}))
    world.park_failure = MessageTooLarge("more than any broker takes")
    with pytest.raises(Stuck):
        world.settle(batch_of(b"a", b"bad"))


def test_a_reject_of_an_event_that_is_not_in_the_batch_is_a_fault_of_the_handler() -> None:
    class Confused(Handling):
        async def __call__(self, batch: Batch) -> None:
            raise InvalidEvents((Reject(99, "malformed", ""),))

    with pytest.raises(Stuck):
        World(Confused()).settle(batch_of(b"a", b"b"))


def test_a_batch_of_a_partition_that_went_is_not_tried_again() -> None:
    handling = Handling(first=[Unavailable("away")] * 5)
    answers = iter([True, True, False])
    with pytest.raises(NotOurs):
        World(handling).settle(batch_of(b"a"), lambda: next(answers))
    assert len(handling.calls) == 2


def test_a_replayed_dead_letter_is_for_the_group_that_parked_it() -> None:
    handling = Handling()
    world = World(handling)
    world.settle(batch_of(b"theirs", headers=((REPLAY_HEADER, b"campaigns"),)))
    world.settle(batch_of(b"ours", headers=((REPLAY_HEADER, b"identity"), ("dear-origin", b"x"))))
    assert handling.calls == [[b"ours"]]


def test_no_handler_runs_beside_another_holder_of_the_lock() -> None:
    handling = Handling()
    world = World(handling)

    async def scenario() -> None:
        lock = world.settler._lock
        async with lock:
            settling = asyncio.create_task(world.settler.settle(batch_of(b"a"), lambda: True))
            await asyncio.sleep(0.01)
            assert handling.calls == []
        await settling

    asyncio.run(scenario())
    assert handling.applied == [b"a"]


def test_the_limit_looks_at_number_and_share_within_the_window() -> None:
    now = [0.0]
    limit = ParkLimit(10, now=lambda: now[0])
    limit.count(settled=1000)
    limit.check(11)
    limit.count(settled=90, parked=90)
    with pytest.raises(Stuck, match="DEAR_PARK_LIMIT is 10"):
        limit.check(30)
    now[0] = WINDOW_SECONDS + 1
    limit.check(10)
    with pytest.raises(Stuck):
        limit.check(11)


def test_the_limit_remembers_seconds_and_not_batches() -> None:
    now = [0.0]
    limit = ParkLimit(10, now=lambda: now[0])
    for number in range(100_000):
        now[0] = number / 100
        limit.count(settled=1)
    assert len(limit._window) <= WINDOW_SECONDS + 2
