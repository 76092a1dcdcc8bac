"""A customer's numbers are those of all its profiles, wherever their rows lie; a split gives each side back what it had."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.segmentation.copies import Copies
from services.segmentation.domain.arrays import ids_from_hex
from services.segmentation.domain.need_labels import NeedLabels
from services.segmentation.domain.needs import NeedModel
from services.segmentation.domain.segments import SHIPPED, Segment
from services.segmentation.domain.state import CustomerState
from services.segmentation.domain.told import told
from services.segmentation.metrics import MEMBERS_WAITING
from services.segmentation.owned import Owned
from services.segmentation.refit import read_rows
from services.segmentation.trait_columns import fill
from shared.contracts.customers import Consent
from shared.contracts.topics import CUSTOMER_EVENTS, PROFILE_ROWS, SCORES, SEGMENT_CHANGES, SEGMENTATION_STATE, Topic
from shared.streaming.partitions import partition_for
from shared.streaming.records import Message
from tests.properties.test_once import assert_news_add_up
from tests.unit.segmentation.bed import START, Bed, profile, without
from tests.unit.segmentation.histories import rows_by_id

pytestmark = [pytest.mark.anyio, pytest.mark.properties]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def partition_of(who: str) -> int:
    return partition_for(profile(who).encode())


WHO = [str(number) for number in range(40)]
ANN = WHO[0]
NEAR = next(who for who in WHO[1:] if partition_of(who) == partition_of(ANN))
FAR = next(who for who in WHO[1:] if partition_of(who) != partition_of(ANN))


def scores(bed: Bed, who: str) -> dict[str, Any] | None:
    """What is told of a customer now; None of who is none, or is waited for."""
    owned = bed.worker.owned[partition_of(who)]
    rows = owned.state.find(ids_from_hex(profile(who).encode()))
    seen = [each for each in owned.customers(rows[rows >= 0]) if len(each.rows)]
    return told(seen[0].state, seen[0].view(bed.worker.ask()).scores, "m")[0] if seen else None


def segments(bed: Bed, who: str) -> set[str]:
    return set(SHIPPED.names_of(bed.rows[profile(who)]["membership"]))


async def two_customers(directory: Path, other: str) -> Bed:
    bed = Bed(directory)
    await bed.start()
    for who in (ANN, other):
        await bed.introduce(who)
    for day in (1, 8, 15):
        await bed.buy(ANN, day, 1000)
    for day in (8, 20):
        await bed.shop(other, day, "dairy", "bakery")
    await bed.interact(other, 21, "ComplaintMade")
    await bed.settle()
    return bed


async def merge(bed: Bed, other: str, version: int = 2) -> None:
    await bed.publish_customer(ANN, version, other)
    await bed.publish_customer(other, version, into=ANN)
    await bed.settle()


async def split(bed: Bed, other: str, version: int = 3) -> None:
    await bed.publish_customer(ANN, version)
    await bed.publish_customer(other, version)
    await bed.settle()


@pytest.mark.parametrize("other", [NEAR, FAR])
async def test_a_merged_customer_has_the_numbers_of_one_who_did_all_of_it(tmp_path: Path, other: str) -> None:
    bed = await two_customers(tmp_path / "merged", other)
    await merge(bed, other)
    alone = Bed(tmp_path / "alone", clock=bed.clock)
    await alone.start()
    await alone.introduce(ANN)
    for day in (1, 8, 15):
        await alone.buy(ANN, day, 1000)
    for day in (8, 20):
        await alone.shop(ANN, day, "dairy", "bakery")
    await alone.interact(ANN, 21, "ComplaintMade")
    await alone.settle()
    assert scores(bed, ANN) == scores(alone, ANN)
    assert scores(bed, ANN)["frequency"] == 3  # type: ignore[index]
    assert segments(bed, ANN) == segments(alone, ANN)


@pytest.mark.parametrize("other", [NEAR, FAR])
async def test_who_is_part_of_another_customer_has_no_scores_and_is_in_no_segment(tmp_path: Path, other: str) -> None:
    bed = await two_customers(tmp_path, other)
    await bed.bus.tick()
    was = segments(bed, other)
    assert was
    await merge(bed, other)
    await bed.bus.tick()
    assert segments(bed, other) == set()
    assert scores(bed, other) is None
    left = {each["data"]["segment"] for each in bed.changes if each["data"]["customer_id"] == profile(other) and "Left" in each["type"]}
    assert left >= was
    last = {record.key: record.value for record in bed.bus.records(SCORES)}
    assert last[profile(other).encode()] is None
    assert last[profile(ANN).encode()] is not None


@pytest.mark.parametrize("other", [NEAR, FAR])
async def test_sums_over_rows_are_what_they_were_and_customers_are_fewer(tmp_path: Path, other: str) -> None:
    bed = await two_customers(tmp_path, other)
    before = bed.totals
    await merge(bed, other)
    assert bed.totals == before | {"customers": 1}
    await split(bed, other)
    assert bed.totals == before


@pytest.mark.parametrize("other", [NEAR, FAR])
@pytest.mark.parametrize("how", ["go on", "restart", "crash"])
async def test_a_split_undoes_a_merge_exactly(tmp_path: Path, other: str, how: str) -> None:
    bed = await two_customers(tmp_path, other)
    before = {who: (scores(bed, who), segments(bed, who)) for who in (ANN, other)}
    await merge(bed, other)
    merged = scores(bed, ANN), segments(bed, ANN)
    if how == "restart":
        await bed.restart()
    elif how == "crash":
        await bed.crash()
    await bed.settle()
    assert (scores(bed, ANN), segments(bed, ANN)) == merged
    await split(bed, other)
    assert {who: (scores(bed, who), segments(bed, who)) for who in (ANN, other)} == before
    assert not bed.worker.owned[partition_of(ANN)].copies.held
    assert [record.value for record in bed.bus.records(PROFILE_ROWS)][-1] is None


@pytest.mark.parametrize("other", [NEAR, FAR])
async def test_what_a_profile_does_later_moves_its_customer(tmp_path: Path, other: str) -> None:
    bed = await two_customers(tmp_path, other)
    await merge(bed, other)
    changes = len(bed.changes)
    for day in (22, 23, 24):
        await bed.interact(other, day, "CouponRedeemed")
    await bed.settle()
    assert "coupon_lovers" in segments(bed, ANN)
    assert segments(bed, other) == set()
    told_now = [each["data"] for each in bed.changes[changes:] if each["data"]["segment"] == "coupon_lovers"]
    assert [(each["customer_id"], each["caused_at"][:10], each["cause"]) for each in told_now] == [(profile(ANN), "2025-01-25", "event")]


async def test_a_round_of_rescoring_sees_customers(tmp_path: Path) -> None:
    bed = await two_customers(tmp_path, FAR)
    await merge(bed, FAR)
    await bed.age(1)
    await bed.age(1)
    assert bed.worker.market.buyers == 1
    assert sum(cell["customers"] for tally in bed.rescoring.tallies.values() for cell in tally.cells().values()) == 1
    assert segments(bed, FAR) == set()


def row_of(bed: Bed, who: str) -> int:
    return int(bed.worker.owned[partition_of(who)].state.find(ids_from_hex(profile(who).encode()))[0])


async def test_a_customer_whose_other_rows_have_not_come_stays_as_it_was(tmp_path: Path) -> None:
    bed = await two_customers(tmp_path, FAR)
    was = segments(bed, ANN), int(bed.rows[profile(ANN)]["change_number"])
    await bed.publish_customer(ANN, 2, FAR)
    await bed.settle()
    await bed.interact(ANN, 22, "ComplaintMade")
    await bed.settle()
    assert (segments(bed, ANN), int(bed.rows[profile(ANN)]["change_number"])) == was
    await bed.age(1)
    assert MEMBERS_WAITING._value.get() == 1
    assert (segments(bed, ANN), int(bed.rows[profile(ANN)]["change_number"])) == was
    await bed.publish_customer(FAR, 2, into=ANN)
    await bed.settle()
    await bed.age(1)
    assert MEMBERS_WAITING._value.get() == 0
    assert "complainers" in segments(bed, ANN)


@pytest.mark.parametrize("other", [NEAR, FAR])
async def test_what_a_paused_owner_says_late_changes_nothing_and_is_written_over(tmp_path: Path, other: str) -> None:
    bed = await two_customers(tmp_path, other)
    await merge(bed, other)
    zombie = bed.worker.owned[partition_of(other)]
    await bed.crash()
    await bed.interact(other, 22, "CouponRedeemed")
    await bed.settle()
    expected = scores(bed, ANN), segments(bed, ANN), bed.rows[profile(ANN)]["change_number"]
    zombie.touch(zombie.state.every_row())
    await bed.bus.publish(PROFILE_ROWS, zombie.copy_messages())
    await bed.settle()
    assert (scores(bed, ANN), segments(bed, ANN), bed.rows[profile(ANN)]["change_number"]) == expected
    # What compaction keeps is the row as it is now.
    last = {record.key: record for record in bed.bus.records(PROFILE_ROWS)}
    kept = Copies()
    kept.take(sorted(last.values(), key=lambda record: record.offset))
    now = bed.worker.owned[partition_of(ANN)].copies
    assert {who: copy.written for who, copy in kept.held.items()} == {who: copy.written for who, copy in now.held.items()}


async def test_without_looking_at_who_wrote_it_a_late_copy_would_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.segmentation.copies.written_by", lambda _: (0, 0))
    with pytest.raises(AssertionError):
        await test_what_a_paused_owner_says_late_changes_nothing_and_is_written_over(tmp_path, FAR)


async def test_a_copy_of_who_is_no_member_changes_nothing(tmp_path: Path) -> None:
    bed = await two_customers(tmp_path, FAR)
    await merge(bed, FAR)
    stale = [record for record in bed.bus.records(PROFILE_ROWS) if record.value is not None]
    await split(bed, FAR)
    before = scores(bed, ANN), segments(bed, ANN)
    await bed.bus.publish(PROFILE_ROWS, [Message(record.key or b"", record.value) for record in stale])
    await bed.settle()
    assert (scores(bed, ANN), segments(bed, ANN)) == before
    await bed.crash()
    assert (scores(bed, ANN), segments(bed, ANN)) == before


async def test_a_copy_that_names_another_customer_is_not_this_ones(tmp_path: Path) -> None:
    """Two homes in one partition: the copy lies there, and still says that its profile belongs to the first."""
    bed = await two_customers(tmp_path, FAR)
    await bed.introduce(NEAR)
    await merge(bed, FAR)
    await bed.publish_customer(NEAR, 2, FAR)
    await bed.publish_customer(ANN, 3)
    await bed.settle()
    assert scores(bed, NEAR) is None
    assert scores(bed, ANN)["frequency"] == 2  # type: ignore[index]
    await bed.publish_customer(FAR, 3, into=NEAR)
    await bed.settle()
    assert scores(bed, NEAR)["frequency"] == 1  # type: ignore[index]


async def dies_publishing(bed: Bed, topic: Topic, sent_first: int) -> None:
    bed.bus.fail_publishes(1, topic, sent_first=sent_first, error=Killed())  # type: ignore[arg-type]
    with pytest.raises(Killed):
        await bed.settle()
    await bed.crash()


class Killed(BaseException):
    """Stands for kill -9."""


@pytest.mark.parametrize("topic", [SEGMENTATION_STATE, PROFILE_ROWS, SEGMENT_CHANGES])
@pytest.mark.parametrize("sent_first", [0, 1, 10])
@pytest.mark.parametrize("other", [NEAR, FAR])
async def test_whoever_dies_while_merging_splitting_or_counting_leaves_nothing_undone(
    tmp_path: Path, topic: Topic, sent_first: int, other: str
) -> None:
    bed = await two_customers(tmp_path, other)
    await bed.publish_customer(ANN, 2, other)
    await bed.publish_customer(other, 2, into=ANN)
    await dies_publishing(bed, topic, sent_first)
    await bed.settle()
    assert scores(bed, other) is None
    assert scores(bed, ANN)["frequency"] == 3  # type: ignore[index]
    await bed.buy(other, 22, 700)
    if topic is not SEGMENT_CHANGES:
        await dies_publishing(bed, topic, sent_first)
    await bed.settle()
    assert scores(bed, ANN)["frequency"] == 4  # type: ignore[index]
    await bed.publish_customer(ANN, 3)
    await bed.publish_customer(other, 3)
    await dies_publishing(bed, topic, sent_first)
    await bed.settle()
    assert [(scores(bed, who) or {})["frequency"] for who in (ANN, other)] == [2, 2]
    last = {record.key: record.value for record in bed.bus.records(PROFILE_ROWS)}
    assert set(last.values()) == {None}
    assert_news_add_up(bed)


async def test_without_saying_every_copy_again_a_death_would_leave_an_old_one(tmp_path: Path) -> None:
    bed = await two_customers(tmp_path, FAR)
    await merge(bed, FAR)
    await bed.buy(FAR, 22, 700)
    with without(Owned, "owe_copies", lambda _: None):
        await dies_publishing(bed, PROFILE_ROWS, 0)
    await bed.settle()
    assert scores(bed, ANN)["frequency"] == 3  # type: ignore[index]


async def test_copies_of_a_lost_log_are_said_again_and_nobody_moves_meanwhile(tmp_path: Path) -> None:
    bed = await two_customers(tmp_path, FAR)
    await merge(bed, FAR)
    before, changes = (scores(bed, ANN), segments(bed, ANN)), bed.distinct_changes
    await bed.lose(PROFILE_ROWS)
    await bed.settle()
    assert (scores(bed, ANN), segments(bed, ANN)) == before
    assert bed.distinct_changes == changes


async def test_a_rebuild_of_merged_customers_is_nobodys_news(tmp_path: Path) -> None:
    bed = await two_customers(tmp_path, FAR)
    await merge(bed, FAR)
    before = scores(bed, ANN) or {}
    await bed.bus.stop()
    for path in (tmp_path / "segmentation").glob("*.npz"):
        path.unlink()
    await bed.lose(CUSTOMER_EVENTS, SEGMENTATION_STATE, PROFILE_ROWS, SEGMENT_CHANGES)
    await bed.settle()
    after = scores(bed, ANN) or {}
    of_the_row = ("frequency", "recency_days", "realised_minor", "needs", "next_purchase_on")
    assert [after[name] for name in of_the_row] == [before[name] for name in of_the_row]
    assert scores(bed, FAR) is None
    for _ in range(3):
        await bed.age(0)
    assert not bed.changes
    for day in (22, 23, 24):
        await bed.interact(FAR, day, "CouponRedeemed")
    await bed.settle()
    assert {(each["data"]["customer_id"], each["data"]["segment"]) for each in bed.changes} == {(profile(ANN), "coupon_lovers")}


async def test_needs_are_those_of_all_profiles(tmp_path: Path) -> None:
    bed = await two_customers(tmp_path, FAR)
    bed.judge_needs_by(NeedLabels(_dairy_or_fish(), 1))
    for day in (30, 31):
        await bed.shop(ANN, day, "fish")
    for day in (32, 33, 34):
        await bed.shop(FAR, day, *["dairy"] * 9)
    await bed.settle()
    await bed.age(1)
    alone = [bed.rows[profile(who)]["need"] for who in (ANN, FAR)]
    assert len(set(alone)) == 2
    await merge(bed, FAR)
    await bed.age(1)
    assert bed.rows[profile(ANN)]["need"] == alone[1]
    await split(bed, FAR)
    await bed.age(1)
    assert [bed.rows[profile(who)]["need"] for who in (ANN, FAR)] == alone


def _dairy_or_fish() -> NeedModel:
    apart = np.eye(2)
    return NeedModel(("dairy", "fish"), np.ones(2), apart, apart, (0, 1), ("Dairy", "Fish"), (0.5, 0.5))


async def test_rules_look_at_the_traits_consents_and_doings_of_the_whole_customer(tmp_path: Path) -> None:
    bed = await two_customers(tmp_path, FAR)
    for number, owned in bed.worker.owned.items():
        await fill(owned.state, number, ("city",), bed._read_customers)
    agreed = Consent(purpose="marketing", channel="email", granted=True, at=START)
    await bed.publish_customer(ANN, 2, FAR, traits={"city": "Bangkok"}, consents=(agreed,), customer_type="retailer")
    await bed.publish_customer(FAR, 2, into=ANN)
    await bed.offer(FAR, 21, "welcome")
    await bed.settle()
    rules = (
        {"trait": "city", "in": ["Bangkok"]}, {"consent": "marketing/email"}, {"field": "customer_type", "in": ["retailer"]},
        {"event": "ComplaintMade"}, {"category": "dairy", "at_least": 2}, {"program": "welcome"},
        {"field": "purchase_days", "within_days": 30, "at_least": 4}, {"field": "lines", "at_least": 7, "at_most": 7},
    )  # fmt: skip
    owned = bed.worker.owned[partition_of(ANN)]
    (seen,) = [each for each in owned.customers(np.array([row_of(bed, ANN)])) if len(each.rows)]
    for rule in rules:
        segment = Segment.model_validate({"name": "tried", "enters": rule})
        assert segment.enters.holds(seen.view(bed.worker.ask())).tolist() == [True], rule


async def test_a_refit_reads_customers_from_the_rows_of_all_partitions(tmp_path: Path) -> None:
    bed = await two_customers(tmp_path, FAR)
    alone = await read_rows(bed._read_changelog)
    assert alone.count == 2
    await merge(bed, FAR)
    customers = await read_rows(bed._read_changelog)
    assert [each.hex() for each in rows_by_id(customers)] == [profile(ANN)]
    assert int(customers.day_count[0]) == 4
    await split(bed, FAR)
    assert rows_of(await read_rows(bed._read_changelog)) == rows_of(alone)


def rows_of(state: CustomerState) -> dict[bytes, dict[str, Any]]:
    """Without what the publications of a merge and a split count on."""
    apart = ("customer_version", "change_number")
    return {who: {name: value for name, value in row.items() if name not in apart} for who, row in rows_by_id(state).items()}


def test_partitions_are_as_the_tests_need_them() -> None:
    assert partition_of(NEAR) == partition_of(ANN) != partition_of(FAR)
    assert np.unique([partition_of(who) for who in WHO]).size == 8
