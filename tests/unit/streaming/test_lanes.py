"""What many callers send at once to one partition."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from shared.streaming.errors import MessageTooLarge, NotSent, Unavailable
from shared.streaming.lanes import Lane
from shared.streaming.records import Message


def messages(*numbers: int) -> list[Message]:
    return [Message(b"key", b"%d" % number) for number in numbers]


class Road:
    """Notes what is sent together; goes on when it is told to, and fails as it is told to."""

    def __init__(self) -> None:
        self.sent: list[list[int]] = []
        self.faults: dict[int, NotSent] = {}
        self.open = asyncio.Event()
        self.open.set()
        self.breaks = False

    async def send(self, some: Sequence[Message]) -> list[NotSent | None]:
        numbers = [int(message.value or b"") for message in some]
        self.sent.append(numbers)
        await self.open.wait()
        if self.breaks:
            raise ZeroDivisionError
        return [self.faults.get(number) for number in numbers]


def test_what_comes_while_a_batch_is_under_way_goes_together_in_the_next() -> None:
    async def scenario() -> None:
        road = Road()
        lane = Lane(road.send, linger_seconds=0)
        road.open.clear()
        first = lane.put(messages(1, 2))
        while not road.sent:
            await asyncio.sleep(0)
        others = [lane.put(messages(number)) for number in (3, 4, 5)]
        road.open.set()
        assert await asyncio.gather(first, *others) == [[None, None], [None], [None], [None]]
        assert road.sent == [[1, 2], [3, 4, 5]]

    asyncio.run(scenario())


def test_every_caller_learns_what_became_of_his_own() -> None:
    async def scenario() -> None:
        road = Road()
        too_large = road.faults[3] = MessageTooLarge("three")
        lane = Lane(road.send, linger_seconds=0)
        assert await asyncio.gather(lane.put(messages(1, 2)), lane.put(messages(3, 4)), lane.put(messages(5))) == [
            [None, None],
            [too_large, None],
            [None],
        ]

    asyncio.run(scenario())


def test_those_who_wait_behind_an_outage_are_told_of_it_and_later_ones_are_sent() -> None:
    async def scenario() -> None:
        road = Road()
        away = road.faults[1] = Unavailable("away")
        lane = Lane(road.send, linger_seconds=0)
        road.open.clear()
        first = lane.put(messages(1))
        while not road.sent:
            await asyncio.sleep(0)
        behind = lane.put(messages(2, 3))
        road.open.set()
        assert await asyncio.gather(first, behind) == [[away], [away, away]]
        assert await lane.put(messages(4)) == [None]
        assert road.sent == [[1], [4]]

    asyncio.run(scenario())


def test_a_caller_who_stops_waiting_takes_nothing_from_the_others() -> None:
    async def scenario() -> None:
        road = Road()
        lane = Lane(road.send, linger_seconds=0)
        gone, stays = lane.put(messages(1)), lane.put(messages(2))
        gone.cancel()
        assert await stays == [None]
        assert road.sent == [[1, 2]]

    asyncio.run(scenario())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_whatever_goes_wrong_nobody_waits_for_ever() -> None:
    async def scenario() -> None:
        road = Road()
        road.breaks = True
        lane = Lane(road.send, linger_seconds=0)
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        [outcome] = await asyncio.wait_for(lane.put(messages(1)), 5)
        assert isinstance(outcome, Unavailable)
        road.breaks = False
        assert await asyncio.wait_for(lane.put(messages(2)), 5) == [None]

    asyncio.run(scenario())
