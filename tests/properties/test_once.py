"""Every event takes effect once, whatever is delivered again, re-sent, crashes or is lost."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from services.segmentation.changelog import meta_key, read_meta
from services.segmentation.domain.segments import SHIPPED
from services.segmentation.owned import Owned
from services.segmentation.partitions import SegmentationPartitions
from services.segmentation.positions import Positions
from shared.contracts.envelope import Event, derived_id
from shared.contracts.scores import SegmentEntered, SegmentLeft
from shared.contracts.topics import CUSTOMER_EVENTS, CUSTOMERS, DEAD_LETTERS, SCORES, SEGMENT_CHANGES, SEGMENTATION_STATE, Topic
from shared.streaming.errors import Stuck, Unavailable
from shared.streaming.partitions import partition_for
from shared.streaming.settling import REPLAY_HEADER
from tests.unit.segmentation.bed import Bed, Kept, profile, without

PEOPLE = [f"{n}" for n in range(12)]


def run(story: Callable[[Bed], Awaitable[None]], directory: Path) -> Bed:
    bed = Bed(directory)

    async def play() -> None:
        await bed.start()
        await story(bed)

    asyncio.run(play())
    return bed


async def trade(bed: Bed, seed: int, events: int = 60, first_day: int = 0) -> None:
    """Some purchases, refunds and interactions of a dozen people over half a year."""
    chance = random.Random(seed)
    for n in range(events):
        who, day = chance.choice(PEOPLE), first_day + n * 3
        if (what := chance.random()) < 0.7:
            await bed.buy(who, day, *(chance.randrange(5000) for _ in range(chance.randrange(1, 4))))
        elif what < 0.85:
            await bed.refund(who, day, chance.randrange(500))
        else:
            await bed.interact(who, day, chance.choice(["CouponRedeemed", "ComplaintMade", "ProductViewed"]))


async def undisturbed(bed: Bed) -> None:
    for who in PEOPLE:
        await bed.introduce(who)
    await trade(bed, 1)
    await bed.settle()


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Bed:
    """What it should look like: nothing went wrong."""
    bed = run(undisturbed, tmp_path_factory.mktemp("undisturbed"))
    assert bed.totals["purchases"] > 30
    assert bed.totals["customers"] == len(PEOPLE)
    assert bed.catch_ups == 8
    return bed


def test_a_batch_delivered_twice_counts_once(tmp_path: Path, expected: Bed) -> None:
    async def story(bed: Bed) -> None:
        await undisturbed(bed)
        for offset in (0, 3, 0):
            bed.bus.redeliver(CUSTOMER_EVENTS, from_offset=offset)
            bed.bus.redeliver(CUSTOMERS, from_offset=offset)
            await bed.settle()

    bed = run(story, tmp_path)
    assert bed.rows == expected.rows
    assert bed.distinct_changes == expected.distinct_changes


def test_events_sent_again_with_new_offsets_count_once(tmp_path: Path, expected: Bed) -> None:
    async def story(bed: Bed) -> None:
        await undisturbed(bed)
        await bed.pass_on(*bed.timeline[:40])
        await bed.settle()
        await bed.crash()
        await bed.pass_on(*bed.timeline)
        await bed.settle()

    assert run(story, tmp_path).rows == expected.rows


@pytest.mark.parametrize("topic", [SEGMENTATION_STATE, SEGMENT_CHANGES])
@pytest.mark.parametrize("sent_first", [0, 1, 3])
def test_an_outage_between_any_two_steps_changes_nothing(tmp_path: Path, expected: Bed, topic: Topic, sent_first: int) -> None:
    async def story(bed: Bed) -> None:
        for _ in range(12):
            bed.bus.fail_publishes(1, topic, sent_first=sent_first)
        await undisturbed(bed)

    bed = run(story, tmp_path)
    assert bed.rows == expected.rows
    assert bed.distinct_changes == expected.distinct_changes
    assert_news_add_up(bed)


class Crash(BaseException):
    """Stands for kill -9: nothing after it runs."""


async def disturbed(bed: Bed, topic: Topic, sent_first: int, every: int) -> None:
    """The same trade, with a crash at that step of every so many batches."""
    for who in PEOPLE:
        await bed.introduce(who)
    await trade(bed, 1)
    crashes = 0
    while True:
        if crashes < 25:
            for _ in range(every - 1):
                bed.bus.fail_publishes(1, topic, sent_first=10**6, error=_NoError())
            bed.bus.fail_publishes(1, topic, sent_first=sent_first, error=_Killed())
        try:
            await bed.settle()
        except Crash:
            crashes += 1
            bed.bus._failures.clear()
            await bed.crash()
        else:
            break
    assert crashes >= 5


class _NoError(Unavailable):
    """A publish that succeeded, of which the worker was told nothing."""


class _Killed(Exception):
    pass


@pytest.mark.parametrize("topic", [SEGMENTATION_STATE, SEGMENT_CHANGES])
@pytest.mark.parametrize(("sent_first", "every"), [(0, 1), (1, 1), (100, 1), (2, 3)])
def test_a_crash_between_any_two_steps_recovers_to_the_state_that_never_crashed(
    tmp_path: Path, expected: Bed, topic: Topic, sent_first: int, every: int
) -> None:
    bed = run(lambda bed: _with_kills(bed, topic, sent_first, every), tmp_path)
    assert _counts(bed) == _counts(expected)
    assert_news_add_up(bed)
    assert bed.catch_ups == 8  # Only the empty start.


async def _with_kills(bed: Bed, topic: Topic, sent_first: int, every: int) -> None:
    original = bed.bus.publish

    async def publish(to: Topic, messages: Any) -> None:
        try:
            await original(to, messages)
        except _Killed:
            raise Crash from None

    bed.bus.publish = publish  # type: ignore[method-assign]
    await disturbed(bed, topic, sent_first, every)


def test_a_recovered_worker_is_the_worker_that_crashed(tmp_path: Path, expected: Bed) -> None:
    async def story(bed: Bed) -> None:
        await undisturbed(bed)
        await bed.crash()

    bed = run(story, tmp_path)
    assert bed.rows == expected.rows
    assert {n: owned.positions.vector for n, owned in bed.worker.owned.items()} == {
        n: owned.positions.vector for n, owned in expected.worker.owned.items()
    }


def test_a_restart_reads_little_of_the_changelog_because_of_its_snapshot(tmp_path: Path, expected: Bed) -> None:
    read: list[tuple[int, int]] = []

    async def story(bed: Bed) -> None:
        await undisturbed(bed)
        original = bed._read_changelog

        def counting(partition: int, start: int) -> Any:
            read.append((len(bed.bus.records(SEGMENTATION_STATE, partition)), start))
            return original(partition, start)

        bed._read_changelog = counting  # type: ignore[method-assign]
        await bed.restart()

    assert run(story, tmp_path).rows == expected.rows
    assert len(read) == 8
    assert all(length == start for length, start in read)


def test_an_unreadable_or_old_snapshot_costs_only_time(tmp_path: Path, expected: Bed) -> None:
    async def story(bed: Bed) -> None:
        await undisturbed(bed)
        await bed.bus.stop()
        for number, path in enumerate(sorted((tmp_path / "segmentation").glob("*.npz"))):
            path.write_bytes(path.read_bytes()[: 100 * number] if number else b"")
        await bed.crash()

    assert run(story, tmp_path).rows == expected.rows


def test_a_stale_snapshot_is_completed_from_the_changelog(tmp_path: Path, expected: Bed) -> None:
    async def story(bed: Bed) -> None:
        for who in PEOPLE:
            await bed.introduce(who)
        await trade(bed, 1, events=20)
        await bed.settle()
        await bed.restart()
        await bed.pass_on()
        await _rest_of_trade(bed)
        await bed.settle()
        await bed.crash()

    assert _counts(run(story, tmp_path)) == _counts(expected)


async def _rest_of_trade(bed: Bed) -> None:
    """What `trade(bed, 1)` says after its first 20 events."""
    whole = Bed(bed.directory / "whole")
    await whole.start()
    await trade(whole, 1)
    for kept in whole.timeline[20:]:
        next(bed.origins[kept.origin.partition])
        bed.timeline.append(kept)
        await bed.pass_on(kept)


def test_a_lost_customer_events_log_is_caught_up_from_the_timeline(tmp_path: Path, expected: Bed) -> None:
    async def story(bed: Bed) -> None:
        await undisturbed(bed)
        await bed.lose(CUSTOMER_EVENTS)
        await bed.pass_on(*bed.timeline[30:])
        await bed.settle()

    bed = run(story, tmp_path)
    assert _counts(bed) == _counts(expected)
    assert bed.catch_ups == 16


def test_what_retention_took_before_it_was_read_comes_from_the_timeline(tmp_path: Path, expected: Bed) -> None:
    async def story(bed: Bed) -> None:
        for who in PEOPLE:
            await bed.introduce(who)
        await trade(bed, 1, events=20)
        await bed.settle()
        await _rest_of_trade(bed)
        bed.events_begin = 4
        await bed.crash()
        await bed.settle()

    bed = run(story, tmp_path)
    assert _counts(bed) == _counts(expected)
    assert 8 < bed.catch_ups <= 16


def test_events_that_were_only_in_the_lost_log_and_the_timeline_count_once(tmp_path: Path, expected: Bed) -> None:
    async def story(bed: Bed) -> None:
        for who in PEOPLE:
            await bed.introduce(who)
        await trade(bed, 1, events=20)
        await bed.settle()
        await _rest_of_trade(bed)  # Passed on, not handled: lost with the log.
        await bed.lose(CUSTOMER_EVENTS)
        await bed.settle()
        await bed.pass_on(*bed.timeline[15:])
        await bed.settle()

    bed = run(story, tmp_path)
    assert _counts(bed) == _counts(expected)


@pytest.mark.parametrize("keep_snapshots", [True, False])
def test_a_new_broker_is_caught_up_from_the_timeline(tmp_path: Path, expected: Bed, keep_snapshots: bool) -> None:
    async def story(bed: Bed) -> None:
        await undisturbed(bed)
        if keep_snapshots:
            await bed.bus.stop()
        await bed.lose(CUSTOMER_EVENTS, CUSTOMERS, SEGMENTATION_STATE, SEGMENT_CHANGES, SCORES)
        for who in PEOPLE:
            await bed.introduce(who)
        await bed.settle()
        await bed.crash()

    bed = run(story, tmp_path)
    assert _counts(bed) == _counts(expected)
    assert bed.catch_ups == 16
    assert not bed.changes  # A rebuild is nobody's news.
    members = [row["membership"] for row in bed.rows.values()]
    asyncio.run(bed.age(0))
    assert not bed.changes
    assert [row["membership"] for row in bed.rows.values()] != members  # By the market of everyone, and still silently.
    asyncio.run(bed.age(400))
    assert bed.changes


def test_a_snapshot_of_a_lost_changelog_outlives_an_identity_that_is_still_starting(tmp_path: Path, expected: Bed) -> None:
    async def story(bed: Bed) -> None:
        await undisturbed(bed)
        await bed.bus.stop()
        bed.identity_is_away = True
        with pytest.raises(Unavailable):
            await bed.lose(CUSTOMER_EVENTS, CUSTOMERS, SEGMENTATION_STATE)
        assert not bed.bus.records(SEGMENTATION_STATE)
        bed.identity_is_away = False
        bed.timeline.clear()  # Only the snapshot has the events now.
        await bed.bus.start()

    assert run(story, tmp_path).totals == expected.totals


def test_the_timeline_is_let_go_when_the_changelog_is_away(tmp_path: Path) -> None:
    async def story(bed: Bed) -> None:
        bed.bus.fail_publishes(1, SEGMENTATION_STATE)
        with pytest.raises(Unavailable):
            await bed.crash()

    bed = Bed(tmp_path)
    bed._new_worker()
    asyncio.run(story(bed))
    assert [history.closed for history in bed.histories] == [True]


@pytest.mark.parametrize("dies", [False, True])
def test_customers_who_never_bought_are_no_news_after_a_rebuild_from_nothing(tmp_path: Path, dies: bool) -> None:
    async def introduce_all(bed: Bed) -> None:
        for who in PEOPLE:
            await bed.introduce(who, customer_type="retailer")

    async def story(bed: Bed) -> None:
        await introduce_all(bed)
        await bed.settle()
        bed.bus._logs.update({topic.name: bed.bus._new_log(topic) for topic in (CUSTOMERS, SEGMENTATION_STATE, SEGMENT_CHANGES)})
        await introduce_all(bed)  # Identity, before it answers.
        await bed.lose(CUSTOMER_EVENTS)
        await bed.age(0)  # Rounds of re-scoring before anybody is read.
        if dies:
            await bed.crash()
        await bed.settle()
        assert all(SHIPPED.names_of(row["membership"]) == ("prospects", "traders") for row in bed.rows.values())
        await bed.age(0)
        assert not bed.changes
        assert not any(owned.silent_rounds or owned.silent_customers_until for owned in bed.worker.owned.values())
        await bed.introduce("somebody new")
        await bed.settle()

    bed = run(story, tmp_path)
    assert [(each["data"]["customer_id"], each["data"]["segment"]) for each in bed.changes] == [(profile("somebody new"), "prospects")]


def test_rounds_that_are_nobodys_news_wait_for_the_customers(tmp_path: Path) -> None:
    async def story(bed: Bed) -> None:
        await undisturbed(bed)
        await bed.bus.stop()
        for path in (tmp_path / "segmentation").glob("*.npz"):
            path.unlink()
        await bed.lose(CUSTOMER_EVENTS, SEGMENTATION_STATE)
        await bed.age(0)
        waiting = [owned for owned in bed.worker.owned.values() if owned.silent_customers_until]
        assert waiting
        assert all(owned.silent_rounds == 2 for owned in waiting)
        await bed.settle()
        await bed.age(0)
        assert all(owned.silent_rounds == 0 for owned in waiting)

    run(story, tmp_path)


@pytest.mark.parametrize("sent_first", [0, 1])
def test_a_crash_anywhere_inside_a_catch_up_begins_again_from_nothing(tmp_path: Path, expected: Bed, sent_first: int) -> None:
    async def story(bed: Bed) -> None:
        await undisturbed(bed)
        bed.bus._logs[CUSTOMER_EVENTS.name] = bed.bus._new_log(CUSTOMER_EVENTS)
        crashes = await _open_with_a_crash_at_every_step(bed, sent_first)
        assert crashes >= 8
        for who in PEOPLE:
            await bed.introduce(who, version=2)
        await bed.settle()

    bed = run(story, tmp_path)
    assert _counts(bed) == _counts(expected)


async def _open_with_a_crash_at_every_step(bed: Bed, sent_first: int) -> int:
    """The n-th attempt dies at its n-th publish; the answer is how many died."""
    original = bed.bus.publish
    for dies_at in range(1, 200):
        published = count(1)

        async def publish(to: Topic, messages: Any, published: Any = published, dies_at: int = dies_at) -> None:
            if next(published) == dies_at:
                await original(to, messages[:sent_first])
                raise Crash
            await original(to, messages)

        bed.bus.publish = publish  # type: ignore[method-assign]
        try:
            await bed.crash()
        except Crash:
            continue
        finally:
            bed.bus.publish = original  # type: ignore[method-assign]
        return dies_at - 1
    raise AssertionError("it never opened")


def test_rows_ahead_of_their_position_are_not_counted_twice_after_the_log_is_lost(tmp_path: Path, expected: Bed) -> None:
    async def story(bed: Bed) -> None:
        await _with_rows_ahead(bed)
        bed.bus._logs[CUSTOMER_EVENTS.name] = bed.bus._new_log(CUSTOMER_EVENTS)
        await bed.crash()
        for who in PEOPLE:
            await bed.introduce(who, version=2)
        await bed.settle()

    assert _counts(run(story, tmp_path)) == _counts(expected)


async def _with_rows_ahead(bed: Bed) -> None:
    """A worker dies after writing rows and before writing how far they are."""
    original = bed.bus.publish

    async def publish(to: Topic, messages: Any) -> None:
        if to is SEGMENTATION_STATE and len(messages) > 1:
            await original(to, messages[:-1])
            raise Crash
        await original(to, messages)

    for who in PEOPLE:
        await bed.introduce(who)
    await bed.settle()
    await trade(bed, 1)
    bed.bus.publish = publish  # type: ignore[method-assign]
    for _ in range(3):
        with pytest.raises(Crash):
            await bed.settle()
        await bed.crash()
    bed.bus.publish = original  # type: ignore[method-assign]
    assert any(owned.ahead for owned in bed.worker.owned.values())


def test_rows_ahead_of_their_position_are_not_counted_twice(tmp_path: Path, expected: Bed) -> None:
    async def story(bed: Bed) -> None:
        await _with_rows_ahead(bed)
        await bed.settle()
        assert not any(owned.ahead for owned in bed.worker.owned.values())

    bed = run(story, tmp_path)
    assert _counts(bed) == _counts(expected)
    assert_news_add_up(bed)


def test_a_row_that_is_ahead_stays_ahead_when_it_is_written_for_another_reason(tmp_path: Path, expected: Bed) -> None:
    async def story(bed: Bed) -> None:
        await _with_rows_ahead(bed)
        for owned in bed.worker.owned.values():  # As a round of re-scoring or customers-v1 would, before the batch is read again.
            owned.touch(owned.state.every_row())
            await bed.worker.write(owned)
        ahead = {number: owned.ahead for number, owned in bed.worker.owned.items()}
        await bed.crash()
        assert {number: owned.ahead for number, owned in bed.worker.owned.items()} == ahead
        await bed.settle()

    assert _counts(run(story, tmp_path)) == _counts(expected)


def test_what_a_predecessor_writes_late_loses_and_is_written_over(tmp_path: Path, expected: Bed) -> None:
    async def story(bed: Bed) -> None:
        for who in PEOPLE:
            await bed.introduce(who)
        await trade(bed, 1, events=20)
        await bed.settle()
        zombie = dict(bed.worker.owned)
        await bed.crash()
        await _rest_of_trade(bed)
        await bed.settle()
        market = bed.worker.market
        for owned in zombie.values():
            owned.touch(owned.state.every_row())
            owned.revision += 1000
            await bed.bus.publish(SEGMENTATION_STATE, owned.messages(market))
        await bed.crash()
        for number in range(8):
            last = {record.key: record.value for record in bed.bus.records(SEGMENTATION_STATE, number)}
            assert read_meta(last[meta_key(number)] or b"").generation == bed.worker.owned[number].generation
        # Compaction keeps the last record of each key: a third worker sees only those.
        for log in bed.bus._logs[SEGMENTATION_STATE.name].partitions:
            log[:] = sorted({record.key: record for record in log}.values(), key=lambda record: record.offset)
        await bed.crash()

    bed = run(story, tmp_path)
    assert _counts(bed) == _counts(expected)
    assert_news_add_up(bed)


def test_every_change_of_membership_is_told_once_and_adds_up(expected: Bed) -> None:
    assert_news_add_up(expected)
    assert len(expected.distinct_changes) == len(expected.changes)


def assert_news_add_up(bed: Bed) -> None:
    """Who takes every event id once, in the order of the topic, ends with the memberships that the rows have."""
    inside: dict[str, set[str]] = {}
    numbers: dict[str, int] = {}
    seen: dict[str, tuple[str, int]] = {}
    for each in bed.changes:
        data, this = each["data"], (each["type"], each["data"]["change_number"])
        assert seen.setdefault(each["id"], this) == this  # One id never means two things.
        assert each["id"] == derived_id("segment", data["customer_id"], data["segment"], data["change_number"])
    for each in {each["id"]: each for each in bed.changes}.values():
        data = each["data"]
        members = inside.setdefault(data["customer_id"], set())
        assert data["change_number"] >= numbers.get(data["customer_id"], 0)
        numbers[data["customer_id"]] = data["change_number"]
        assert (data["segment"] in members) == (each["type"] == "dear.SegmentLeft")
        members.symmetric_difference_update({data["segment"]})
    held = {who: set(SHIPPED.names_of(row["membership"])) for who, row in bed.rows.items()}
    assert {who: members for who, members in inside.items() if members} == {who: members for who, members in held.items() if members}


def test_time_alone_moves_customers_between_segments(tmp_path: Path) -> None:
    async def story(bed: Bed) -> None:
        for week in range(20):
            await bed.buy("1", 7 * week)
        await bed.settle()
        await bed.age(60)
        await bed.age(300)
        await bed.crash()

    bed = run(story, tmp_path)
    moves = [(each["type"], each["data"]["segment"]) for each in bed.changes]
    assert ("dear.SegmentEntered", "new") in moves
    assert ("dear.SegmentLeft", "new") in moves
    assert ("dear.SegmentEntered", "lost") in moves
    for each in bed.changes:
        model = SegmentEntered if each["type"] == SegmentEntered.event_type else SegmentLeft
        Event[model].model_validate_json(json.dumps(each))  # type: ignore[valid-type]
    assert "lost" in SHIPPED.names_of(bed.rows[profile("1")]["membership"])
    entered = next(each["data"] for each in bed.changes if each["data"]["segment"] == "lost")
    assert entered["caused_at"] > "2025-07"


def test_a_rejected_event_is_parked_even_if_the_worker_dies_before_it_is(tmp_path: Path) -> None:
    async def story(bed: Bed) -> None:
        bad = await _say_something_invalid(bed, "1")
        await bed.buy("1", 2, 200)
        bed.bus.fail_publishes(1, DEAD_LETTERS, error=Crash())  # type: ignore[arg-type]
        with pytest.raises(Crash):
            await bed.settle()
        await bed.crash()
        await bed.settle()
        assert [each["reason"] for each in bed.bus.parked()] == ["foreign-currency"]
        assert bed.totals["bought_minor"] == 200
        await _replay_twice(bed, bad)
        assert bed.totals["purchases"] == 1  # Still in a foreign currency: parked again.

    run(story, tmp_path)


def test_a_parked_event_that_is_put_back_passes_once(tmp_path: Path) -> None:
    async def story(bed: Bed) -> None:
        bad = await _say_something_invalid(bed, "1")
        await bed.buy("1", 2, 200)
        await bed.settle()
        good = Kept(bad.key, bad.value.replace(b"EUR", b"USD"), bad.origin)
        await bed.pass_on(good)  # Without the operator's mark it is a repeat.
        await bed.settle()
        assert bed.totals["bought_minor"] == 200
        await _replay_twice(bed, good)
        assert bed.totals["bought_minor"] == 1200
        await bed.crash()
        await _replay_twice(bed, good)
        assert bed.totals["bought_minor"] == 1200

    run(story, tmp_path)


async def _say_something_invalid(bed: Bed, who: str) -> Kept:
    kept = await bed.buy(who, 1, 1000)
    log = bed.bus._logs[CUSTOMER_EVENTS.name].partitions[partition_for(kept.key.encode())]
    bad = Kept(kept.key, kept.value.replace(b"USD", b"EUR"), kept.origin)
    log.pop()
    await bed.pass_on(bad)
    return bad


async def _replay_twice(bed: Bed, kept: Kept) -> None:
    for _ in range(2):
        await bed.pass_on(kept, headers=((REPLAY_HEADER, b"segmentation"),))
        await bed.settle()


@pytest.mark.parametrize(
    ("breaks", "reason"),
    [
        ((b'"dear.PurchaseRecorded"', b'"dear.Unheard"'), "unknown-type"),
        ((b'"amount_minor":1000', b'"amount_minor":-1'), "invalid-event"),
        ((b'"currency":"USD"', b'"currency":"EUR"'), "foreign-currency"),
        ((b"2025-01-02", b"2199-01-02"), "time-out-of-range"),
        ((b'"specversion"', b"specversion"), "invalid-json"),
    ],
)
def test_what_cannot_be_applied_is_parked_with_its_reason_and_neighbours_pass(
    tmp_path: Path, breaks: tuple[bytes, bytes], reason: str
) -> None:
    async def story(bed: Bed) -> None:
        await bed.buy("1", 0, 1)
        bad = await bed.buy("1", 1, 1000)
        await bed.buy("1", 2, 10)
        log = bed.bus._logs[CUSTOMER_EVENTS.name].partitions[partition_for(bad.key.encode())]
        record = log[1]
        log[1] = type(record)(record.offset, record.timestamp, record.key, bad.value.replace(*breaks), record.headers)
        assert log[1].value != bad.value
        await bed.settle()

    bed = run(story, tmp_path)
    assert [each["reason"] for each in bed.bus.parked()] == [reason]
    assert bed.totals["bought_minor"] == 11


def test_a_customer_who_never_bought_is_a_prospect_and_counted_once(tmp_path: Path) -> None:
    async def story(bed: Bed) -> None:
        await bed.introduce("1")
        await bed.introduce("1", version=2, customer_type="wholesaler")
        await bed.introduce("1", version=1)
        await bed.settle()
        bed.bus.redeliver(CUSTOMERS)
        await bed.settle()

    bed = run(story, tmp_path)
    assert bed.totals["customers"] == 1
    row = bed.rows[profile("1")]
    assert (row["customer_version"], row["customer_type"]) == (2, 2)
    assert SHIPPED.names_of(row["membership"]) == ("prospects", "traders")


def test_scores_are_told_once_however_often_they_moved(tmp_path: Path) -> None:
    async def story(bed: Bed) -> None:
        await trade(bed, 1)
        await bed.settle()
        for _ in range(3):
            await bed.bus.tick()

    bed = run(story, tmp_path)
    told = [each["data"]["customer_id"] for each in bed.bus.events(SCORES)]
    assert sorted(set(told)) == sorted(bed.rows)
    assert len(told) <= 2 * len(bed.rows)


# Guards, each taken away to see that something above would notice.


def test_without_the_vector_an_event_sent_again_would_count_twice(tmp_path: Path, expected: Bed) -> None:
    async def story(bed: Bed) -> None:
        await undisturbed(bed)
        for owned in bed.worker.owned.values():
            owned.positions.vector.clear()
        await bed.pass_on(*bed.timeline)
        await bed.settle()

    assert run(story, tmp_path).totals["purchases"] == 2 * expected.totals["purchases"]


def test_without_looking_at_rows_ahead_a_crash_would_count_twice(tmp_path: Path, expected: Bed) -> None:
    async def story(bed: Bed) -> None:
        await _with_rows_ahead(bed)
        with without(Owned, "skips", lambda *_: False):
            await bed.settle()

    assert run(story, tmp_path).totals["purchases"] > expected.totals["purchases"]


def test_without_forgetting_rows_ahead_a_lost_log_would_count_twice(tmp_path: Path, expected: Bed) -> None:
    async def story(bed: Bed) -> None:
        await _with_rows_ahead(bed)
        bed.bus._logs[CUSTOMER_EVENTS.name] = bed.bus._new_log(CUSTOMER_EVENTS)
        with without(SegmentationPartitions, "_forget", lambda _, owned: owned):
            await bed.crash()

    assert run(story, tmp_path).totals["purchases"] > expected.totals["purchases"]


def test_without_doubts_a_crash_before_parking_would_lose_the_event(tmp_path: Path) -> None:
    async def story(bed: Bed) -> None:
        with without(Positions, "reject", lambda *_: None):
            await test_story(bed)

    async def test_story(bed: Bed) -> None:
        await _say_something_invalid(bed, "1")
        bed.bus.fail_publishes(1, DEAD_LETTERS, error=Crash())  # type: ignore[arg-type]
        with pytest.raises(Crash):
            await bed.settle()
        await bed.crash()
        await bed.settle()

    assert run(story, tmp_path).bus.parked() == []


def test_a_batch_that_was_applied_half_is_never_gone_on_with(tmp_path: Path) -> None:
    async def story(bed: Bed) -> None:
        await bed.buy("1", 1)
        number = partition_for(profile("1").encode())
        bed.worker.owned[number].applying = True
        with pytest.raises(Stuck):
            await bed.settle()
        await bed.crash()
        await bed.settle()

    assert run(story, tmp_path).totals["purchases"] == 1


def _counts(bed: Bed) -> dict[str, dict[str, Any]]:
    """Rows without what depends on when and how often they were settled."""
    apart = ("change_number", "membership", "customer_version")
    return {who: {name: value for name, value in row.items() if name not in apart} for who, row in bed.rows.items()}


def test_segments_have_room_for_more() -> None:
    assert len(SHIPPED.names()) == len(SHIPPED.by_bit) < 64
