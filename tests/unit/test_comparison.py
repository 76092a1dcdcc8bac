"""The stream benchmark's figures side by side."""

from __future__ import annotations

import pytest

from benchmarks.comparison import beside_goals, ratios
from benchmarks.peers import summed
from shared.contracts.envelope import Event
from shared.contracts.purchases import PurchaseLine, PurchaseRecorded


def figures(by_clock: float, by_cpu: float) -> dict[str, float]:
    return {"events_per_second": by_clock, "events_per_cpu_second": by_cpu}


MEASURED = {"decode-only": figures(300, 300), "quix": figures(50, 60), "segmentation": figures(120, 90)}


def test_ratios_say_how_many_times_as_fast_ours_is() -> None:
    assert ratios(MEASURED) == {"decode-only": 0.4, "quix": 2.4}
    assert ratios(MEASURED, "events_per_cpu_second") == {"decode-only": 0.3, "quix": 1.5}


def test_a_goal_stands_only_where_both_sides_ran() -> None:
    stated = {goal["goal"]: (goal["measured"], goal["measured_by_cpu"], goal["reached"]) for goal in beside_goals(MEASURED)}
    assert stated == {
        "segmentation ≥ 100,000 events/s": (120, 90, False),
        "segmentation ≥ 2 × quix": (2.4, 1.5, True),
        "segmentation ≥ 0.35 × decode-only": (0.4, 0.3, True),
    }


def test_without_ours_there_is_nothing_to_compare() -> None:
    alone = {"quix": MEASURED["quix"]}
    assert ratios(alone) == {}
    assert beside_goals(alone) == []


@pytest.mark.parametrize("days", [("2026-01-01", "2026-03-05"), ("2026-03-05", "2026-01-01")])
def test_the_plain_peers_keep_count_money_and_newest_day(days: tuple[str, str]) -> None:
    summary = [0, 0, 0]
    for day in days:
        lines = tuple(PurchaseLine(sku="a", quantity=1, amount_minor=amount) for amount in (250, 50))
        data = PurchaseRecorded(reference="loyalty_card:1", store="main street", currency="USD", lines=lines)
        event = Event[PurchaseRecorded].model_validate(
            {"id": day, "source": "till/1", "type": "dear.PurchaseRecorded", "time": f"{day}T12:00:00Z", "data": data}
        )
        summary = summed(summary, event)
    assert summary == [2, 600, event.time.replace(month=3, day=5).toordinal()]
