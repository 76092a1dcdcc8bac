"""Rules about what customers do and are: events, categories, programs, stated needs, bonds, traits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from services.segmentation.domain.names import code_of
from services.segmentation.domain.rules import View, explain
from services.segmentation.domain.scoring import score
from services.segmentation.domain.segments import FIRST_OWN_BIT, SHIPPED, Segment, Segments
from services.segmentation.product_list import take_products
from shared.contracts.envelope import envelope
from shared.contracts.products import ProductPublished
from shared.streaming.records import StoredRecord
from tests.unit.segmentation.bed import START, Bed, profile


def play(story: Callable[[Bed], Awaitable[None]], directory: Path) -> None:
    async def begin() -> None:
        bed = Bed(directory)
        await bed.start()
        await story(bed)

    asyncio.run(begin())


def whom(bed: Bed, rule: dict[str, Any]) -> set[str]:
    """The customers that a rule holds for now."""
    segment = Segment.model_validate({"name": "asked", "enters": rule})
    found = set()
    for owned in bed.worker.owned.values():
        rows = owned.state.every_row()
        if len(rows):
            view = View(owned.state, score(owned.state, rows, bed.worker.ask()), bed.worker.ask())
            holds = segment.enters.holds(view)
            found |= {owned.state.ids[row].astype(">u8").tobytes().hex() for row in rows[holds].tolist()}
    return {who for who in ("ann", "bob", "cid") if profile(who) in found}


def own(rule: dict[str, Any], version: int = 1) -> Segments:
    segment = Segment.model_validate({"name": "own", "enters": rule})
    return Segments({**SHIPPED.by_bit, FIRST_OWN_BIT: segment}, version)


def test_what_was_done_is_counted_in_weeks(tmp_path: Path) -> None:
    async def story(bed: Bed) -> None:
        for day in (0, 1, 30):
            await bed.interact("ann", day, "ProductViewed")
        await bed.interact("bob", 30, "ProductViewed")
        await bed.refund("cid", 30, 100)
        await bed.settle()
        assert whom(bed, {"event": "ProductViewed"}) == {"ann", "bob"}
        assert whom(bed, {"event": "ProductViewed", "at_least": 3}) == {"ann"}
        assert whom(bed, {"event": "ProductViewed", "within_weeks": 2, "at_least": 2}) == set()
        assert whom(bed, {"event": "ProductViewed", "at_most": 0}) == {"cid"}
        assert whom(bed, {"event": "(refund)"}) == {"cid"}
        await bed.age(400)
        assert whom(bed, {"event": "ProductViewed"}) == set()

    play(story, tmp_path)


def test_categories_programs_needs_and_bonds(tmp_path: Path) -> None:
    async def story(bed: Bed) -> None:
        await bed.buy("ann", 0, 100, 200, department="DAIRY")
        await bed.buy("bob", 0, 100, category="cheese")
        await bed.interact("bob", 1, "SurveyAnswered", need="organic")
        await bed.offer("ann", 2, "welcome")
        await bed.settle()
        assert whom(bed, {"category": "DAIRY", "at_least": 2}) == {"ann"}
        assert whom(bed, {"category": "cheese"}) == {"bob"}
        assert whom(bed, {"need": "organic"}) == {"bob"}
        assert whom(bed, {"bond": "customization"}) == {"bob"}
        assert whom(bed, {"program": "welcome"}) == {"ann"}
        assert whom(bed, {"program": "welcome", "at_least": 2}) == set(), "an offer that is read twice is one"
        await bed.crash()
        await bed.settle()
        assert whom(bed, {"program": "welcome"}) == {"ann"}

    play(story, tmp_path)


def test_a_rule_about_a_trait_waits_until_everybodys_was_read(tmp_path: Path) -> None:
    async def story(bed: Bed) -> None:
        await bed.introduce("ann", city="Bangkok", age=30, member=True)
        await bed.introduce("bob", city="Paris", age=60)
        await bed.settle()
        await bed.age(0)
        bed.worker.new_segments = own({"all": [{"trait": "city", "in": ["Bangkok"]}, {"trait": "age", "below": 40}]})
        await bed.age(0)
        await bed.age(0)
        entered = [each["data"] for each in bed.changes if each["data"]["segment"] == "own"]
        assert [(each["customer_id"], each["cause"]) for each in entered] == [(profile("ann"), "rule")]
        assert whom(bed, {"trait": "member", "in": [True]}) == set(), "no rule in use names it"
        await bed.introduce("bob", 2, city="Bangkok", age=39)
        await bed.settle()
        assert {each["data"]["customer_id"] for each in bed.changes if each["data"]["segment"] == "own"} == {profile("ann"), profile("bob")}
        told = bed.distinct_changes
        segments = bed.worker.segments
        bed._new_worker()
        bed.worker.segments = segments
        await bed.bus.start()
        await bed.settle()
        assert bed.distinct_changes == told, "a restart is nobody's news"
        assert whom(bed, {"trait": "age", "at_least": 39}) == {"bob"}

    play(story, tmp_path)


def test_what_lines_do_not_say_a_product_list_does(tmp_path: Path) -> None:
    async def story(bed: Bed) -> None:
        said = ProductPublished(sku="apple", name="An apple", department="FRUIT", unit_cost_minor=40)
        value = envelope(said, id="1", source="shop", time=START).model_dump_json().encode()
        take_products([StoredRecord(0, 0, b"apple", value), StoredRecord(1, 0, b"pear", b"{")], bed.worker.reading)
        await bed.buy("ann", 0, 100)
        await bed.buy("bob", 0, 100, unit_cost_minor=90, department="OTHER")
        await bed.settle()
        await bed.age(1)
        assert whom(bed, {"category": "FRUIT"}) == {"ann"}
        costs = {
            owned.state.ids[row].astype(">u8").tobytes().hex(): owned.state.optional["costs"][row].tolist()
            for owned in bed.worker.owned.values()
            if "costs" in owned.state.optional
            for row in owned.state.every_row().tolist()
        }
        assert costs == {profile("ann"): [0, 0, 100, 40], profile("bob"): [100, 90, 0, 0]}
        assert bed.worker.margin_share == pytest.approx(70 / 200)

    play(story, tmp_path)


def test_every_new_condition_explains_itself(tmp_path: Path) -> None:
    rule = {
        "all": [
            {"event": "ProductViewed", "within_weeks": 4},
            {"category": "DAIRY"},
            {"program": "welcome"},
            {"need": "organic"},
            {"bond": "social"},
            {"trait": "city", "in": ["Bangkok"]},
            {"trait": "age", "at_least": 3},
        ]
    }

    async def story(bed: Bed) -> None:
        await bed.buy("ann", 0)
        await bed.settle()
        owned = next(each for each in bed.worker.owned.values() if each.state.count)
        view = View(owned.state, score(owned.state, owned.state.every_row(), bed.worker.ask()), bed.worker.ask())
        told = explain(Segment.model_validate({"name": "asked", "enters": rule}).enters, view)["all"]
        assert [each["is"] for each in told] == [0, 0, 0, 0, False, None, None]
        assert not any(each["holds"] for each in told)

    play(story, tmp_path)


@pytest.mark.parametrize(
    "rule",
    [
        {"event": ""},
        {"event": "a", "within_weeks": 53},
        {"category": "a", "within_weeks": 5},
        {"bond": "iron"},
        {"trait": "city"},
        {"trait": "city", "in": ["a"], "below": 3},
        {"event": "a", "field": "risk"},
    ],
)
def test_what_makes_no_sense_is_refused(rule: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Segment.model_validate({"name": "asked", "enters": rule})


def test_a_code_is_the_same_everywhere_and_never_nothing() -> None:
    assert (code_of("DAIRY"), code_of("need:organic")) == (code_of("DAIRY"), code_of("need:organic"))
    assert 0 < code_of("DAIRY") < 2**32


def test_by_profit_a_customer_of_small_margins_is_worth_less(tmp_path: Path) -> None:
    async def story(bed: Bed) -> None:
        bed.worker.settings = bed.worker.settings.model_copy(update={"value_by": "profit"})
        for day in range(20):
            await bed.buy("ann", day, 1000, unit_cost_minor=990)
            await bed.buy("bob", day, 900, unit_cost_minor=100)
        await bed.settle()
        for _ in range(3):
            await bed.age(1)
        worth = {}
        for owned in bed.worker.owned.values():
            rows = owned.state.every_row()
            if len(rows):
                scores = score(owned.state, rows, bed.worker.ask())
                for place, row in enumerate(rows.tolist()):
                    worth[owned.state.ids[row].astype(">u8").tobytes().hex()] = int(scores.year_worth_minor[place])
                    assert scores.margins is not None
                    assert scores.margins.realised_minor[place] in (200, 16_000)
        assert worth[profile("ann")] < worth[profile("bob")] < 18_000
        assert whom(bed, {"field": "year_worth_minor", "above": 10_000}) == {"bob"}

    play(story, tmp_path)
