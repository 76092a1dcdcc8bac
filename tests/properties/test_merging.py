"""Whatever order merges, splits, events and copies come in, and whoever dies in between: customers end as if all had been known at once."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from hypothesis import given
from hypothesis import strategies as st

from services.segmentation.copies import tombstones
from services.segmentation.domain.arrays import hex_from_ids
from services.segmentation.domain.models.scoring_model import Market
from services.segmentation.domain.scoring import Question
from services.segmentation.domain.segments import SHIPPED
from services.segmentation.domain.told import told
from services.segmentation.handlers import on_customer_events, on_customers, on_offers, on_profile_rows
from services.segmentation.owned import Owned
from services.segmentation.partitions import SegmentationPartitions
from services.segmentation.rescoring import Rescoring
from services.segmentation.worker import Worker
from shared.contracts.topics import CUSTOMER_EVENTS, CUSTOMERS, OFFERS, PROFILE_ROWS, SEGMENT_CHANGES, SEGMENTATION_STATE, Topic
from shared.service import OpenedPartition, Service, Timer
from shared.streaming.errors import Unavailable
from tests.properties.test_once import Crash, assert_news_add_up
from tests.unit.segmentation.bed import Bed, profile

PEOPLE = [str(number) for number in range(7)]
TOPICS = (CUSTOMER_EVENTS, CUSTOMERS, PROFILE_ROWS, OFFERS)
PATH_DEPENDENT = {segment.name for segment in SHIPPED.by_bit.values() if segment.stays is not None}
"""Whoever was in stays in for a while: where somebody passed through counts."""


@dataclass
class TwoWorkers(Bed):
    """Even partitions are one worker's, odd ones another's; each may die alone."""

    workers: list[Worker] = field(default_factory=list)
    openers: list[SegmentationPartitions] = field(default_factory=list)
    rescorings: list[Rescoring] = field(default_factory=list)
    zombies: list[Worker] = field(default_factory=list)
    versions: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PEOPLE, 1))
    home: dict[str, str] = field(default_factory=lambda: {who: who for who in PEOPLE})
    compacted_to: dict[int, int] = field(default_factory=dict)
    day: int = 0

    def _new_worker(self) -> None:
        self.zombies += self.workers
        self._begin(0, 1)

    def _begin(self, *which: int) -> None:
        """Workers in the place of these."""
        for place in which:
            Bed._new_worker(self)
            for parts, part in ((self.workers, self.worker), (self.openers, self.partitions), (self.rescorings, self.rescoring)):
                parts[place : place + 1] = [part]  # type: ignore[list-item]
        handlers: dict[Topic, Callable[..., Any]] = {
            CUSTOMER_EVENTS: on_customer_events, CUSTOMERS: on_customers, PROFILE_ROWS: on_profile_rows, OFFERS: on_offers,
        }  # fmt: skip
        self.bus.add(
            Service(
                "segmentation",
                listens={topic: partial(self._handle, handler) for topic, handler in handlers.items()},
                api=APIRouter(),
                partitions=self,  # type: ignore[arg-type]
                timers=tuple(Timer(0.1, rescoring.tick) for rescoring in self.rescorings),
                start=self._start_both,
            )
        )

    async def _handle(self, handler: Callable[..., Any], batch: Any) -> None:
        await handler(batch, worker=self.workers[batch.partition % 2])

    async def _start_both(self, topic_ids: Mapping[str, str]) -> None:
        for each in self.openers:
            await each.start(topic_ids)

    async def open(self, opened: OpenedPartition) -> int | None:
        return await self.openers[opened.partition % 2].open(opened)

    async def close(self, topic: str, partition: int) -> None:
        await self.openers[partition % 2].close(topic, partition)

    async def crash(self) -> None:
        self._compact()
        await super().crash()

    async def crash_one(self, which: int) -> None:
        """The other goes on as it is."""
        self._compact()
        self.zombies.append(self.workers[which])
        self._begin(which)
        await self.bus.start()

    def _compact(self) -> None:
        """Compaction reaches what the owners have read: it waits an hour."""
        self.compacted_to = {number: owned.copies.position for worker in self.workers for number, owned in worker.owned.items()}

    async def _read_copies(self, partition: int, start: int) -> Any:
        records, reached = self.bus.records(PROFILE_ROWS, partition), self.compacted_to.get(partition, 0)
        last = {record.key: record.offset for record in records if record.offset < reached}
        yield [each for each in records if each.offset >= start and (each.offset >= reached or last[each.key] == each.offset)]

    async def late(self, chance: random.Random) -> None:
        """Whoever owned partitions before wakes up, and says once more what was true then."""
        for owned in (chance.choice(self.zombies).owned if self.zombies else {}).values():
            if owned.applying:
                continue
            owned.touch(owned.state.every_row())
            await self.bus.publish(PROFILE_ROWS, tombstones(self._everywhere(owned), owned.generation))
            await self.bus.publish(SEGMENTATION_STATE, owned.messages(Market()))
            await self.bus.publish(PROFILE_ROWS, owned.copy_messages())

    def _everywhere(self, owned: Owned) -> list[tuple[str, int]]:
        return [(each, number) for each in hex_from_ids(owned.state.ids[: owned.state.count]) for number in range(8)]

    @property
    def owned(self) -> dict[int, Owned]:
        return {number: owned for worker in self.workers for number, owned in worker.owned.items()}

    @property
    def rows(self) -> dict[str, dict[str, Any]]:
        return {who: row for rows in self._of_each(lambda: super(TwoWorkers, self).rows) for who, row in rows.items()}

    @property
    def totals(self) -> dict[str, int]:
        one, other = self._of_each(lambda: super(TwoWorkers, self).totals)
        return {name: one[name] + other[name] for name in one}

    def _of_each(self, look: Callable[[], Any]) -> list[Any]:
        found = []
        for worker in self.workers:
            self.worker = worker
            found.append(look())
        return found

    # What identity does.

    async def regroup(self, home: Mapping[str, str], chance: random.Random) -> None:
        """From now on these are the customers: everybody concerned is published, in any order."""
        concerned = {who for who in PEOPLE if self.home[who] != home[who]}
        groups = {of[who] for who in concerned for of in (self.home, home)}
        concerned |= {who for who in PEOPLE if self.home[who] in groups or home[who] in groups}
        self.home = dict(home)
        for who in concerned:
            self.versions[who] += 1
        for who in sorted(concerned, key=lambda _: chance.random()):
            await self.publish(who)

    async def publish(self, who: str, version: int | None = None) -> None:
        into = self.home[who] if self.home[who] != who else None
        others = [other for other in PEOPLE if other != who and self.home[other] == who] if into is None else []
        await self.publish_customer(who, version or self.versions[who], *others, into=into)


Step = tuple[str, int, int]
EVENTS = ("buy", "shop", "act", "offer")
OFTEN = ("group", "group", "alone", "deliver", "deliver", "kill", "buy")
PLACES = (SEGMENTATION_STATE, PROFILE_ROWS, SEGMENT_CHANGES)
"""What a worker publishes, and may die publishing."""


async def play(bed: TwoWorkers, steps: list[Step]) -> None:
    for step in steps:
        try:
            await take(bed, step)
        except Crash:
            bed.bus._failures.clear()
            await bed.crash()
        bed.bus._failures.clear()
    await bed.settle()


async def take(bed: TwoWorkers, step: Step) -> None:
    what, one, other = step
    chance = random.Random(one * 7919 + other)
    if what in EVENTS:
        bed.day += other % 9
        await happen(bed, what, PEOPLE[one % len(PEOPLE)], chance)
    elif what in ("group", "alone"):
        await regroup(bed, what, chance)
    else:
        await STEPS[what](bed, one, other)


async def regroup(bed: TwoWorkers, what: str, chance: random.Random) -> None:
    """Whoever is grouped goes to the first of the group, as identity's oldest; who is left behind stays together."""
    chosen = sorted(chance.sample(PEOPLE, chance.randrange(1, 4)))
    stay = {
        who: min(other for other in PEOPLE if bed.home[other] == bed.home[who] and other not in chosen)
        for who in PEOPLE
        if who not in chosen
    }
    await bed.regroup(stay | {who: chosen[0] if what == "group" else who for who in chosen}, chance)


async def deliver(bed: TwoWorkers, one: int, other: int) -> None:
    """A batch of one partition of one topic, while the others wait."""
    await bed.bus._deliver(bed.bus._groups["segmentation"], TOPICS[one % len(TOPICS)].name, other % 8)


async def say_again(bed: TwoWorkers, one: int, other: int) -> None:
    """What is known, and what is older."""
    who = PEOPLE[one % len(PEOPLE)]
    await bed.publish(who)
    if bed.versions[who] > 1:
        await bed.publish_customer(who, bed.versions[who] - 1, into=PEOPLE[other % len(PEOPLE)])


async def lose_customers(bed: TwoWorkers, one: int, other: int) -> None:
    """Identity fills the new log with everybody, as they are now."""
    await bed.lose(CUSTOMERS)
    for who in PEOPLE:
        await bed.publish(who)


async def redeliver(bed: TwoWorkers, one: int, other: int) -> None:
    bed.bus.redeliver(TOPICS[one % len(TOPICS)], from_offset=other % 5)


async def kill(bed: TwoWorkers, one: int, other: int) -> None:
    bed.bus.fail_publishes(1, PLACES[one % 3], sent_first=other % 4, error=Crash())  # type: ignore[arg-type]
    await bed.settle()


async def kill_opening(bed: TwoWorkers, one: int, other: int) -> None:
    bed.bus.fail_publishes(1, PLACES[one % 2], sent_first=other % 4, error=Crash())  # type: ignore[arg-type]
    await bed.crash()


async def outage(bed: TwoWorkers, one: int, other: int) -> None:
    bed.bus.fail_publishes(1 + other % 3, PLACES[one % 3], sent_first=other % 2, error=Unavailable("a test took it away"))
    await bed.settle()


async def age(bed: TwoWorkers, one: int, other: int) -> None:
    for _ in range(12):
        await bed.bus.tick()


STEPS: Mapping[str, Callable[[TwoWorkers, int, int], Awaitable[None]]] = {
    "deliver": deliver,
    "settle": lambda bed, *_: bed.settle(),
    "say again": say_again,
    "crash": lambda bed, *_: bed.crash(),
    "crash one": lambda bed, one, _: bed.crash_one(one % 2),
    "lose customers": lose_customers,
    "lose copies": lambda bed, *_: bed.lose(PROFILE_ROWS),
    "restart": lambda bed, *_: bed.restart(),
    "redeliver": redeliver,
    "late": lambda bed, one, other: bed.late(random.Random(one + other)),
    "kill": kill,
    "kill opening": kill_opening,
    "outage": outage,
    "age": age,
}
NUMBER = st.integers(0, 10**6)
STORIES = st.lists(st.tuples(st.sampled_from([*EVENTS, *OFTEN, *STEPS]), NUMBER, NUMBER), max_size=60)


async def happen(bed: TwoWorkers, what: str, who: str, chance: random.Random) -> None:
    if what == "buy":
        await bed.buy(who, bed.day, chance.randrange(100, 5000))
    elif what == "shop":
        await bed.shop(who, bed.day, *chance.sample(["dairy", "bakery", "fish"], 2))
    elif what == "act":
        await bed.interact(who, bed.day, chance.choice(["CouponRedeemed", "ComplaintMade", "ProductViewed"]))
    else:
        await bed.offer(who, bed.day, chance.choice(["welcome", "winback"]))


async def opened(directory: Path) -> TwoWorkers:
    bed = TwoWorkers(directory)
    await bed.start()
    for who in PEOPLE:
        await bed.publish(who)
    return bed


async def undisturbed(directory: Path, steps: list[Step], clock: Any) -> TwoWorkers:
    """The same events, and who is one customer in the end."""
    bed = await opened(directory)
    for step in steps:
        if step[0] in EVENTS:
            await take(bed, step)
        elif step[0] in ("group", "alone"):
            await take_silently(bed, step)
    home, bed.home = bed.home, {who: who for who in PEOPLE}
    await bed.regroup(home, random.Random(1))
    bed.clock.observe(clock.now())
    await bed.settle()
    return bed


async def take_silently(bed: TwoWorkers, step: Step) -> None:
    """Only remembered: nobody is told of it."""
    published, bed.publish = bed.publish, _nobody_hears  # type: ignore[method-assign]
    await take(bed, step)
    bed.publish = published  # type: ignore[method-assign]


async def _nobody_hears(*_: Any) -> None:
    pass


def customers(bed: TwoWorkers) -> dict[str, tuple[dict[str, Any], set[str]]]:
    """Of each customer: what is told, by one and the same question, and which segments it is in."""
    found = {}
    ask = Question(int(bed.clock.now().timestamp()) // 86_400, bed.workers[0].model, Market())
    names = {profile(who): who for who in PEOPLE}
    for owned in bed.owned.values():
        for seen in owned.customers(owned.state.every_row()):
            ids = [each.tobytes().hex() for each in seen.state.ids[seen.at].astype(">u8")]
            values = told(seen.state, seen.view(ask).scores, "m")
            memberships = owned.state.membership[seen.rows].tolist()
            for who, scores, membership in zip(ids, values, memberships, strict=True):
                found[names[who]] = (scores, set(SHIPPED.names_of(membership)) - PATH_DEPENDENT)
    return found


def check(bed: TwoWorkers, clean: TwoWorkers, steps: list[Step]) -> None:
    assert bed.home == clean.home
    assert customers(bed) == customers(clean)
    assert set(customers(bed)) == set(bed.home.values())
    assert bed.totals == clean.totals
    for who, home in bed.home.items():
        assert bed.rows[profile(who)]["membership"] == 0 or home == who
    assert_news_add_up(bed)
    absorbed = {profile(who) for who in PEOPLE if bed.home[who] != who}
    if any(what == "late" for what, *_ in steps):
        # Of who is a customer by itself again a copy may lie there that nobody uses.
        assert copies_in_topic(bed) >= absorbed
    else:
        assert copies_in_topic(bed) == absorbed


def copies_in_topic(bed: TwoWorkers) -> set[str]:
    """Whose copies compaction would keep, each in one place."""
    last = {(number, record.key): record.value for number in range(8) for record in bed.bus.records(PROFILE_ROWS, number)}
    kept = [(key or b"")[:32].decode() for (_, key), value in last.items() if value is not None]
    return set(kept)


def run(steps: list[Step]) -> tuple[TwoWorkers, TwoWorkers]:
    async def both(directory: Path) -> tuple[TwoWorkers, TwoWorkers]:
        bed = await opened(directory / "disturbed")
        await play(bed, steps)
        clean = await undisturbed(directory / "clean", steps, bed.clock)
        for each in (bed, clean):
            each.clock.observe(max(bed.clock.now(), clean.clock.now()))
            for _ in range(30):
                await each.bus.tick()
            await each.settle()
        return bed, clean

    with tempfile.TemporaryDirectory() as directory:
        return asyncio.run(both(Path(directory)))


@given(STORIES)
def test_customers_end_as_if_nothing_had_been_late_and_nobody_had_died(steps: list[Step]) -> None:
    check(*run(steps), steps)
