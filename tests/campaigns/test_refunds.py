"""A purchase and its refunds are worth what was bought and not given back, in whatever order, however often, whoever dies or races."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymongo.collection import Collection
from pymongo.errors import AutoReconnect

from services.campaigns.audit import LedgerAudit
from services.campaigns.domain.loyalty import LedgerEntry, Purchase, arriving_late, earn_rules, points_for, right_points, rule_at
from services.campaigns.handlers.loyalty import Posting
from services.campaigns.metrics import LEDGER_IMBALANCE
from services.campaigns.programs import shipped_programs
from services.campaigns.store import ledger, prepare, programs
from shared.clock import ReplayClock
from shared.contracts.topics import CUSTOMER_EVENTS
from shared.mongo import connect, disconnect
from shared.streaming.errors import Unavailable
from shared.streaming.memory import MemoryBus
from tests.campaigns.world import NOON, World, bought, profile, refunded

PER_POINT = {False: 100, True: 50}
"""Before the new version of the program, and from NOON on."""
LATER = NOON + timedelta(days=1)
EARLIER = NOON - timedelta(days=1)
_sources = (f"till-{number}" for number in itertools.count())


@pytest.fixture(scope="module")
def points(database: str) -> Iterator[Any]:
    """A ledger with a program that gives twice as many points from NOON on. Tests keep apart by their sources."""
    client = connect("campaigns", database)
    client.drop_database("campaigns")
    prepare()
    [shipped] = [program for program in shipped_programs() if program.earning]
    assert shipped.earning is not None
    programs.ship(shipped_programs(), NOON)
    dearer = shipped.earning.model_copy(update={"minor_per_point": 50})
    programs.add(shipped.model_copy(update={"version": shipped.version + 1, "starts_at": NOON, "earning": dearer}), NOON)
    yield client["campaigns"]
    disconnect("campaigns")


def post(*batches: Sequence[Purchase]) -> None:
    """One worker."""
    posting = Posting(MemoryBus(), ReplayClock(NOON))

    async def all_batches() -> None:
        for each in batches:
            await posting.post(each)

    asyncio.run(all_batches())


def sold(source: str, id: str, amount_minor: int, late: bool = False, who: int = 1) -> Purchase:
    return Purchase(source, id, profile(who), amount_minor, False, LATER if late else EARLIER)


def back(source: str, id: str, amount_minor: int, of: str | None, late: bool = True, who: int = 1) -> Purchase:
    return Purchase(source, id, profile(who), amount_minor, True, LATER if late else EARLIER, of)


def balances(database: Any, source: str) -> Counter[str]:
    held: Counter[str] = Counter()
    for entry in database["ledger"].find({"cause_source": source}):
        held[entry["profile_id"]] += entry["points"]
    return held


def expected(told: Sequence[Purchase]) -> Counter[str]:
    """From the definition: what was bought and not given back, by the purchase's own rule, on the purchase's own profile."""
    held: Counter[str] = Counter()
    for each in told:
        per_point = PER_POINT[each.at >= NOON]
        if not each.refunded:
            given_back = sum(other.amount_minor for other in told if other.refunded and other.purchase_id == each.id)
            held[each.profile_id] += max(0, each.amount_minor - given_back) // per_point
        elif each.purchase_id is None:
            held[each.profile_id] -= each.amount_minor // per_point
    return held


def test_a_refund_takes_back_by_the_rule_that_its_purchase_earned_by(points: Any) -> None:
    source = next(_sources)
    post([sold(source, "p", 10_000)], [back(source, "r", 10_000, "p")])
    assert balances(points, source) == {profile(1): 0}


def test_many_small_refunds_leave_no_free_points(points: Any) -> None:
    source = next(_sources)
    post([sold(source, "p", 250)], *([back(source, f"r{number}", 50, "p")] for number in range(5)))
    assert balances(points, source) == {profile(1): 0}


def test_what_is_given_back_beyond_what_was_bought_takes_nothing_more(points: Any) -> None:
    source = next(_sources)
    post([sold(source, "p", 250)], [back(source, "r1", 200, "p")], [back(source, "r2", 10**6, "p")], [back(source, "r3", 100, "p")])
    assert balances(points, source) == {profile(1): 0}


def test_a_refund_on_another_card_takes_the_points_from_the_card_that_has_them(points: Any) -> None:
    for batches in ([("p",), ("r",)], [("r",), ("p",)], [("r", "p")]):
        source = next(_sources)
        told = {"p": sold(source, "p", 1000), "r": back(source, "r", 400, "p", who=2)}
        post(*([told[name] for name in names] for names in batches))
        assert +balances(points, source) == {profile(1): 6}


def test_a_refund_of_a_refund_takes_nothing_back_and_one_of_itself_does_no_harm(points: Any) -> None:
    for order in itertools.permutations(range(3)):
        source = next(_sources)
        told = [back(source, "r1", 1000, None, late=False), back(source, "r2", 500, "r1"), back(source, "r3", 500, "r3")]
        post(*([told[index]] for index in order))
        assert balances(points, source) == {profile(1): -10}
        assert len(list(points["ledger"].find({"cause_source": source}))) == 3


def test_each_purchase_and_each_refund_has_one_entry_and_awaited_ones_are_no_entries(points: Any) -> None:
    source = next(_sources)
    before = ledger.summary({})
    post([back(source, "r1", 300, "p"), back(source, "r2", 300, "p")])
    waiting = ledger.summary({})
    assert (waiting.entries - before.entries, waiting.ledger_sum - before.ledger_sum) == (2, 0)
    assert set(waiting.by_kind) <= {"earned", "reversed"}
    post([sold(source, "p", 1000)])
    after = ledger.summary({})
    assert (after.entries - before.entries, after.ledger_sum - before.ledger_sum) == (3, 4)


def test_a_refund_that_comes_while_its_purchase_takes_its_place_is_not_overlooked(points: Any) -> None:
    source = next(_sources)
    purchase, late = sold(source, "p", 1000), [back(source, "r2", 300, "p")]
    post([back(source, "r1", 300, "p")])
    rules = earn_rules(programs.every_version())

    def overtaken(entry: LedgerEntry, taken: ledger.Taken) -> LedgerEntry:
        if late:
            post([late.pop()])
        return arriving_late(entry, taken, rules)

    assert ledger.take_place(points_for(purchase, rule_at(rules, purchase.at)), overtaken, NOON)
    post([purchase], [back(source, "r3", 100, "p")])
    assert balances(points, source) == {profile(1): 3}


amounts = st.one_of(st.integers(0, 300), st.integers(0, 10**7))
purchases = st.lists(st.tuples(amounts, st.booleans(), st.integers(1, 2)), min_size=1, max_size=3)
refunds = st.lists(st.tuples(amounts, st.sampled_from([0, 1, 2, None]), st.booleans(), st.integers(1, 3)), max_size=6)


@st.composite
def stories(draw: st.DrawFn) -> tuple[list[Purchase], list[list[Purchase]]]:
    """What was told, and how it is delivered: in any order, some of it again, cut into batches anyhow."""
    source = next(_sources)
    told = [sold(source, f"p{number}", *each) for number, each in enumerate(draw(purchases))]
    told += [
        back(source, f"r{number}", amount, None if of is None else f"p{of}", late, who)
        for number, (amount, of, late, who) in enumerate(draw(refunds))
    ]
    delivered = draw(st.permutations(told + draw(st.lists(st.sampled_from(told), max_size=4))))
    cuts = sorted(draw(st.lists(st.integers(0, len(delivered)), max_size=4)))
    return told, [delivered[first:end] for first, end in itertools.pairwise([0, *cuts, len(delivered)])]


def check(database: Any, told: list[Purchase]) -> None:
    held = balances(database, told[0].source)
    assert {who: held[who] for who in held if held[who]} == {who: due for who, due in expected(told).items() if due}
    entries = ledger.stored([each.entry_id for each in told])
    assert len(entries) == len(told)
    rules = earn_rules(programs.every_version())
    registers = ledger.registers({entry.refund_of for entry in entries if entry.refund_of})
    assert {entry.id: entry.points for entry in entries} == {entry.id: right_points(entry, rules, registers) for entry in entries}


@given(stories())
def test_points_do_not_depend_on_order_repetition_or_batches(points: Any, story: tuple[list[Purchase], list[list[Purchase]]]) -> None:
    told, batches = story
    post(*batches)
    check(points, told)


class Dying:
    """A worker whose process ends at one of its writes, before the database did it or after."""

    WRITES = ("insert_many", "update_one")

    def __init__(self, at: int, done: bool) -> None:
        self._left, self._done = at, done
        self._originals = {name: getattr(Collection, name) for name in self.WRITES}

    def __enter__(self) -> None:
        for name in self.WRITES:
            setattr(Collection, name, self._dying(self._originals[name]))

    def __exit__(self, *_: object) -> None:
        for name, original in self._originals.items():
            setattr(Collection, name, original)

    def _dying(self, original: Any) -> Any:
        def write(collection: Any, *args: Any, **more: Any) -> Any:
            self._left -= 1
            if self._left != 0:
                return original(collection, *args, **more)
            if self._done:
                original(collection, *args, **more)
            raise AutoReconnect("the worker is gone")

        return write


@given(stories(), st.integers(1, 8), st.booleans())
def test_a_worker_may_die_at_any_write(points: Any, story: tuple[list[Purchase], list[list[Purchase]]], at: int, done: bool) -> None:
    told, batches = story
    with Dying(at, done):
        for each in batches:
            try:
                post(each)
            except Unavailable:
                # Its successor gets the whole batch, and by then others may have come.
                post(told[: len(told) // 2], each)
    check(points, told)


@given(stories(), st.randoms())
def test_workers_that_race_agree(points: Any, story: tuple[list[Purchase], list[list[Purchase]]], shuffled: Any) -> None:
    told, batches = story

    async def race() -> None:
        postings = [Posting(MemoryBus(), ReplayClock(NOON)) for _ in range(4)]
        mixed = [shuffled.sample(batches, len(batches)) for _ in postings]
        for together in zip(*mixed, strict=True):
            await asyncio.gather(*(posting.post(each) for posting, each in zip(postings, together, strict=True)))

    asyncio.run(race())
    check(points, told)


@pytest.mark.anyio
@pytest.mark.parametrize("purchase_first", [True, False])
async def test_a_refund_on_the_stream_belongs_to_its_purchase_and_the_audit_agrees(world: World, purchase_first: bool) -> None:
    await world.bus.start()
    told = [bought("p", 250), *(refunded(f"r{number}", 50, of="p") for number in range(5))]
    for each in told if purchase_first else reversed(told):
        await world.identity.tell(1, each)
        await world.bus.settle()
    world.bus.redeliver(CUSTOMER_EVENTS)
    await world.bus.settle()
    assert sum(entry["points"] for entry in world.entries()) == 0
    assert len(world.entries()) == 6
    audit = LedgerAudit(point_value_minor=1)
    for _ in range(2):
        await audit.check_some()
    assert LEDGER_IMBALANCE._value.get() == 0
    world.database["ledger"].update_one({"cause_id": "r4"}, {"$inc": {"points": 1}})
    for _ in range(2):
        await audit.check_some()
    assert LEDGER_IMBALANCE._value.get() >= 1
