"""A customer's numbers are those of all its profiles, wherever their rows lie; a split gives each side back what it had."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.segmentation.domain.arrays import ids_from_hex
from services.segmentation.domain.segments import SHIPPED
from services.segmentation.domain.told import told
from shared.contracts.topics import PROFILE_ROWS, SCORES
from shared.streaming.partitions import partition_for
from tests.unit.segmentation.bed import Bed, profile

pytestmark = pytest.mark.anyio


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
    await bed.publish_customer(FAR, 2, into=ANN)
    await bed.settle()
    assert segments(bed, ANN) == was[0] | {"complainers"}


def test_partitions_are_as_the_tests_need_them() -> None:
    assert partition_of(NEAR) == partition_of(ANN) != partition_of(FAR)
    assert np.unique([partition_of(who) for who in WHO]).size == 8
