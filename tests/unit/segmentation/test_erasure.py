"""A row that was erased is gone: from memory, from the changelog, from the copies on disk, and for whoever recovers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.segmentation.domain.state import CustomerState
from services.segmentation.holder import SegmentationHolder
from services.segmentation.positions import Positions
from services.segmentation.read_model import ReadModel
from services.segmentation.store import history
from services.segmentation.store import scores as store
from services.segmentation.trait_columns import fill
from shared.contracts.topics import OFFERS, PROFILE_ROWS, SCORES, SEGMENTATION_STATE
from tests.unit.segmentation.bed import Bed, profile, without

pytestmark = [pytest.mark.anyio, pytest.mark.properties]
WHO = [str(number) for number in range(24)]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _no_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies in the database is tested with one (tests/privacy)."""
    for module, name, answer in ((store, "forget", 0), (history, "forget", None), (history, "read_score_points", [])):
        monkeypatch.setattr(module, name, lambda _, answer=answer: answer)


async def a_shop(directory: Path) -> Bed:
    bed = Bed(directory)
    await bed.start()
    for who in WHO:
        await bed.introduce(who)
        await bed.buy(who, 1, 1000 + int(who))
    await bed.settle()
    return bed


async def erase(bed: Bed, who: str) -> dict[str, int]:
    holder = SegmentationHolder(bed.worker, bed.partitions, ReadModel(bed.worker, bed.rescoring))
    return await holder.erase(profile(who), ())


def rows_but(rows: dict[str, Any], who: str) -> dict[str, Any]:
    return {customer: row for customer, row in rows.items() if customer != profile(who)}


@pytest.mark.parametrize("how", ["go on", "restart", "crash"])
async def test_an_erased_row_stays_gone_and_the_others_are_as_before(tmp_path: Path, how: str) -> None:
    bed = await a_shop(tmp_path)
    for owned in bed.worker.owned.values():
        await bed.partitions.keep_snapshot(owned)
    before = bed.rows
    assert (await erase(bed, "7"))["rows"] == 1
    bed.timeline = [each for each in bed.timeline if each.key != profile("7")]
    if how == "restart":
        await bed.restart()
    elif how == "crash":
        await bed.crash()
    await bed.settle()
    assert bed.rows == rows_but(before, "7")
    for topic in (SEGMENTATION_STATE, SCORES):
        assert {record.key: record.value for record in bed.bus.records(topic)}[profile("7").encode()] is None
    await bed.buy("8", 2, 500)
    await bed.settle()
    assert bed.rows[profile("8")] != before[profile("8")]


async def test_the_others_keep_the_traits_that_rules_name(tmp_path: Path) -> None:
    bed = await a_shop(tmp_path)
    for who in WHO:
        await bed.introduce(who, 2, age=int(who))
    await bed.settle()
    for number, owned in bed.worker.owned.items():
        await fill(owned.state, number, ("age",), bed._read_customers)
    await erase(bed, "7")
    ages = {}
    for owned in bed.worker.owned.values():
        column = owned.state.traits["age"]
        assert column.is_whole
        ages |= {profile_of(owned.state, row): column.value(row) for row in owned.state.every_row().tolist()}
    assert ages == {profile(who): int(who) for who in WHO if who != "7"}


def profile_of(state: CustomerState, row: int) -> str:
    found: str = state.ids[row].astype(">u8").tobytes().hex()
    return found


async def test_a_copy_from_before_the_erasure_does_not_bring_the_row_back(tmp_path: Path) -> None:
    bed = await a_shop(tmp_path)
    for owned in bed.worker.owned.values():
        await bed.partitions.keep_snapshot(owned)
    copies = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert copies
    before = bed.rows
    await erase(bed, "7")
    for path, content in copies.items():
        path.write_bytes(content)
    await bed.crash()
    assert bed.rows == rows_but(before, "7")


async def test_erasing_twice_or_nobody_changes_nothing(tmp_path: Path) -> None:
    bed = await a_shop(tmp_path)
    await erase(bed, "7")
    before = bed.rows
    assert (await erase(bed, "7"))["rows"] == 0
    assert (await erase(bed, "nobody"))["rows"] == 0
    assert bed.rows == before


async def test_an_offer_that_comes_again_begins_no_row_for_who_was_erased(tmp_path: Path) -> None:
    bed = await a_shop(tmp_path)
    await bed.offer("7", 2, "welcome")
    await bed.offer("8", 2, "welcome")
    await bed.settle()
    before = bed.rows
    await erase(bed, "7")
    for how in (bed.settle, bed.crash, bed.restart):
        bed.bus.redeliver(OFFERS)
        await how()
        bed.bus.redeliver(OFFERS)
        await bed.settle()
        assert bed.rows == rows_but(before, "7")


async def test_without_knowing_which_offers_it_has_a_worker_would_begin_that_row(tmp_path: Path) -> None:
    bed = await a_shop(tmp_path)
    await bed.offer("7", 2, "welcome")
    await bed.settle()
    await erase(bed, "7")
    bed.bus.redeliver(OFFERS)
    with without(Positions, "new_offers", lambda _, __, records: records):
        await bed.settle()
    assert profile("7") in bed.rows


async def test_an_offer_after_a_new_log_of_offers_is_read(tmp_path: Path) -> None:
    bed = await a_shop(tmp_path)
    for day in range(3):
        await bed.offer("7", 2 + 7 * day, "welcome")
    await bed.settle()
    await bed.lose(OFFERS)
    await bed.offer("7", 30, "again")
    await bed.settle()
    assert "offer:again" in bed.rows[profile("7")]


async def test_who_was_merged_is_erased_with_every_copy_of_the_row(tmp_path: Path) -> None:
    bed = await a_shop(tmp_path)
    for home in WHO[:7]:
        await bed.publish_customer(home, 2, "7")
    await bed.publish_customer("7", 2, into="0")
    await bed.settle()
    await bed.publish_customer("7", 3, into="1")
    await bed.settle()
    assert any(profile("7") in owned.copies.held for owned in bed.worker.owned.values())
    await erase(bed, "7")
    await bed.settle()
    for _ in range(2):
        assert not any(profile("7") in owned.copies.held for owned in bed.worker.owned.values())
        assert profile("7") not in bed.rows
        last = {(number, record.key): record.value for number in range(8) for record in bed.bus.records(PROFILE_ROWS, number)}
        assert not any(value for (_, key), value in last.items() if (key or b"").startswith(profile("7").encode()))
        await bed.crash()


async def test_who_comes_back_after_the_erasure_has_a_new_row(tmp_path: Path) -> None:
    bed = await a_shop(tmp_path)
    await erase(bed, "7")
    await bed.introduce("7")
    await bed.buy("7", 3, 250)
    await bed.settle()
    await bed.crash()
    assert bed.rows[profile("7")]["bought_minor"] == 250
