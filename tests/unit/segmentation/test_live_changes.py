"""Whoever listens hears each change once and in order, however slow he is, and goes on where he was when he comes again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

import pytest

from services.segmentation import live_changes
from services.segmentation.live_changes import (
    BadPosition,
    Change,
    ChangesLog,
    Listener,
    LiveChanges,
    Missed,
    Position,
    TooManyListeners,
    Wanted,
)
from shared.contracts.envelope import derived_id, envelope
from shared.contracts.schema import EXAMPLES
from shared.contracts.scores import Scores, SegmentEntered
from shared.contracts.topics import PARTITION_COUNT
from shared.streaming.errors import Unavailable
from shared.streaming.partitions import partition_for
from shared.streaming.records import StoredRecord
from tests.unit.segmentation.bed import START

SCORES = Scores.model_validate_json(json.dumps(json.loads((EXAMPLES / "SegmentEntered.json").read_text())["data"]["scores"]))


@dataclass
class MemoryLog:
    """The log of changes, in memory; a test takes it away, makes it anew or lets its beginning expire."""

    log_id: str = "log-1"
    partitions: list[list[StoredRecord]] = field(default_factory=lambda: [[] for _ in range(PARTITION_COUNT)])
    first: int = 0
    is_away: bool = False
    reads: int = 0
    followers: int = 0
    when_read: Callable[[], None] = lambda: None

    def add(self, customer: str, segment: str = "leaving", number: int = 1) -> int:
        """Somebody enters a segment; the partition in which that is told."""
        data = SegmentEntered(customer_id=derived_id(customer), segment=segment, change_number=number + 1, caused_at=START, scores=SCORES)
        partition = partition_for(derived_id(customer).encode())
        self.put(partition, envelope(data, id=f"{customer}-{number}", source="test", time=START).model_dump_json().encode())
        return partition

    def put(self, partition: int, value: bytes) -> None:
        self.partitions[partition].append(StoredRecord(len(self.partitions[partition]), 0, b"", value))

    def recreate(self) -> None:
        self.log_id, self.partitions = "log-2", [[] for _ in range(PARTITION_COUNT)]

    async def identify(self) -> str:
        self._check()
        return self.log_id

    async def bounds(self) -> Mapping[int, tuple[int, int]]:
        self._check()
        return {number: (min(self.first, len(held)), len(held)) for number, held in enumerate(self.partitions)}

    async def read(self, partition: int, start: int) -> AsyncGenerator[Sequence[StoredRecord], None]:
        self._check()
        self.reads += 1
        self.when_read()
        held = self.partitions[partition][max(start, self.first) :]
        for place in range(0, len(held), 3):
            await asyncio.sleep(0)
            self.when_read()
            yield held[place : place + 3]

    async def follow(self, starts: Mapping[int, int]) -> AsyncGenerator[tuple[int, Sequence[StoredRecord]], None]:
        at, log_id = dict(starts), self.log_id
        self.followers += 1
        try:
            while True:
                self._check()
                if self.log_id != log_id:
                    at, log_id = dict.fromkeys(at, 0), self.log_id
                for partition, offset in at.items():
                    if records := self.partitions[partition][offset:]:
                        at[partition] = offset + len(records)
                        yield partition, records
                await asyncio.sleep(0)
        finally:
            self.followers -= 1

    def _check(self) -> None:
        if self.is_away:
            raise Unavailable("broker: a test took it away")


def play(story: Callable[[MemoryLog, LiveChanges], Awaitable[None]]) -> None:
    async def begin() -> None:
        log = MemoryLog()
        live = LiveChanges(ChangesLog(log.identify, log.bounds, log.read, log.follow))
        await story(log, live)
        await live.finish()
        assert log.followers == 0

    asyncio.run(asyncio.wait_for(begin(), 20))


@asynccontextmanager
async def hearing(listener: Listener) -> AsyncGenerator[Callable[[int], Awaitable[list[str]]], None]:
    """`await hear(n)`: the ids of the next n changes."""
    async with aclosing(listener.told()) as telling:
        waiting: list[Change] = []

        async def hear(count: int) -> list[str]:
            while len(waiting) < count:
                waiting.extend(change for change, _ in await anext(telling) if change is not None)
            heard, waiting[:] = waiting[:count], waiting[count:]
            return [json.loads(change.event)["id"] for change in heard]

        yield hear


def test_who_listens_hears_of_what_comes_and_of_nothing_before() -> None:
    async def story(log: MemoryLog, live: LiveChanges) -> None:
        log.add("early")
        async with hearing(await live.listen(Wanted())) as hear:
            log.add("a")
            assert await hear(1) == ["a-1"]
            log.add("b")
            log.add("b", number=2)
            assert await hear(2) == ["b-1", "b-2"]
            assert log.followers == 1
        await asyncio.sleep(0.01)
        assert log.followers == 0, "nobody listens"

    play(story)


def test_one_hears_only_what_is_wanted() -> None:
    async def story(log: MemoryLog, live: LiveChanges) -> None:
        wanted = Wanted(frozenset({"lost"}), frozenset({derived_id("a"), derived_id("b")}))
        async with hearing(await live.listen(wanted)) as hear:
            for number, (customer, segment) in enumerate([("a", "new"), ("c", "lost"), ("b", "lost"), ("a", "lost")]):
                log.add(customer, segment, number)
            assert sorted(await hear(2)) == ["a-3", "b-2"]

    play(story)


def test_who_comes_again_goes_on_where_he_was_whatever_came_meanwhile() -> None:
    async def story(log: MemoryLog, live: LiveChanges) -> None:
        expected = [f"{customer}-{number}" for number in range(40) for customer in "abcde"]
        heard: list[str] = []
        position = (await live.listen(Wanted())).position
        for number in range(40):
            for customer in "abcde":
                log.add(customer, number=number)
            if number % 8 == 7:
                async with aclosing((await live.listen(Wanted(), position)).told()) as telling:
                    taken = 0
                    while taken < 25:
                        for change, at in await anext(telling):
                            position = at
                            if change is not None:
                                heard.append(json.loads(change.event)["id"])
                                taken += 1
                            if taken == 25:
                                break
        async with hearing(await live.listen(Wanted(), position)) as hear:
            heard += await hear(len(expected) - len(heard))
        assert sorted(heard) == sorted(expected)
        for customer in "abcde":
            assert [each for each in heard if each[0] == customer] == [each for each in expected if each[0] == customer]

    play(story)


def test_what_comes_while_somebody_catches_up_is_told_once() -> None:
    async def story(log: MemoryLog, live: LiveChanges) -> None:
        start = str(Position(log.log_id, dict.fromkeys(range(PARTITION_COUNT), 0)))
        for number in range(10):
            log.add("a", number=number)
        numbers = iter(range(10, 16))
        log.when_read = lambda: [log.add("a", number=number) for number in [next(numbers, None)] if number is not None] and None
        async with hearing(await live.listen(Wanted(), start)) as hear:
            assert await hear(14) == [f"a-{number}" for number in range(14)]
            log.when_read = lambda: None
            log.add("a", number=99)
            left = [f"a-{number}" for number in range(14, next(numbers, 16))]
            assert await hear(len(left) + 1) == [*left, "a-99"]

    play(story)


def test_who_is_too_slow_reads_the_log_and_misses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_changes, "LONGEST_QUEUE", 5)

    async def story(log: MemoryLog, live: LiveChanges) -> None:
        slow = await live.listen(Wanted())
        async with hearing(slow) as hear, hearing(await live.listen(Wanted())) as other:
            log.add("a", number=0)
            assert await hear(1) == await other(1) == ["a-0"]
            for number in range(1, 30):
                log.add("a", number=number)
                assert await other(1) == [f"a-{number}"]
            assert len(slow._queue) <= 5
            assert log.reads == 2, "once by each of them, for what came before he was first asked"
            assert await hear(29) == [f"a-{number}" for number in range(1, 30)]
            assert log.reads == 3

    play(story)


def test_without_news_the_position_still_moves_and_the_connection_is_kept_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_changes, "HEARTBEAT_SECONDS", 0.01)

    async def story(log: MemoryLog, live: LiveChanges) -> None:
        listener = await live.listen(Wanted(segments={"lost"}))
        async with aclosing(listener.told()) as telling:
            assert await anext(telling) == [(None, listener.position)]
            partition = log.add("a", "new")
            while Position.read(listener.position, PARTITION_COUNT).offsets[partition] == 0:
                assert [change for change, _ in await anext(telling)] == [None]

    play(story)


def test_when_the_process_leaves_every_stream_ends() -> None:
    async def story(log: MemoryLog, live: LiveChanges) -> None:
        async def listen() -> int:
            return len([told async for told in (await live.listen(Wanted())).told()])

        listening = [asyncio.create_task(listen()) for _ in range(3)]
        await asyncio.sleep(0.01)
        assert not any(task.done() for task in listening)
        live.hang_up()
        assert await asyncio.gather(*listening) == [0, 0, 0]
        assert await listen() == 0

    play(story)


def test_a_log_that_was_made_anew_ends_every_stream_and_is_followed_from_its_beginning() -> None:
    async def story(log: MemoryLog, live: LiveChanges) -> None:
        listener = await live.listen(Wanted())
        async with hearing(listener) as hear:
            log.add("a")
            await hear(1)
            log.recreate()
            log.add("a", number=7)
            with pytest.raises(StopAsyncIteration):
                await hear(1)
        again = await live.listen(Wanted(), listener.position)
        assert again.missed is Missed.LOG_REPLACED
        async with hearing(again) as hear:
            assert await hear(1) == ["a-7"]

    play(story)


def test_who_comes_too_late_is_told_so() -> None:
    async def story(log: MemoryLog, live: LiveChanges) -> None:
        position = (await live.listen(Wanted())).position
        for number in range(5):
            log.add("a", number=number)
        log.first = 3
        late = await live.listen(Wanted(), position)
        assert late.missed is Missed.EXPIRED
        async with hearing(late) as hear:
            assert await hear(2) == ["a-3", "a-4"]

    play(story)


def test_an_outage_of_the_broker_delays_and_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_changes, "RETRY_SECONDS", 0.0)

    async def story(log: MemoryLog, live: LiveChanges) -> None:
        async with hearing(await live.listen(Wanted())) as hear:
            log.add("a")
            assert await hear(1) == ["a-1"]
            log.is_away = True
            log.add("a", number=2)
            await asyncio.sleep(0.01)
            with pytest.raises(Unavailable):
                await live.listen(Wanted(), str(Position(log.log_id, dict.fromkeys(range(PARTITION_COUNT), 0))))
            log.is_away = False
            assert await hear(1) == ["a-2"]

    play(story)


def test_what_cannot_be_read_is_passed_over() -> None:
    async def story(log: MemoryLog, live: LiveChanges) -> None:
        async with hearing(await live.listen(Wanted())) as hear:
            log.put(partition_for(derived_id("a").encode()), b"{")
            log.add("a")
            assert await hear(1) == ["a-1"]

    play(story)


@pytest.mark.parametrize(
    "text", ["x", "log-1:1.2", "log-1:a.0.0.0.0.0.0.0", ":0.0.0.0.0.0.0.0", "log-1:-1.0.0.0.0.0.0.0", "1.0.0.0.0.0.0.0"]
)
def test_a_position_that_we_never_gave_is_refused(text: str) -> None:
    async def story(log: MemoryLog, live: LiveChanges) -> None:
        with pytest.raises(BadPosition):
            await live.listen(Wanted(), text)

    play(story)


def test_there_is_a_limit_to_listeners(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_changes, "MOST_LISTENERS", 1)

    async def story(log: MemoryLog, live: LiveChanges) -> None:
        async with hearing(await live.listen(Wanted())) as hear:
            log.add("a")
            await hear(1)
            with pytest.raises(TooManyListeners):
                await live.listen(Wanted())
        await live.listen(Wanted())

    play(story)
