"""Programs: what ships, what is refused, which version holds when."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from services.campaigns.domain.programs import Program, in_force, started_by_entering, started_by_first_sight
from services.campaigns.programs import shipped_programs

EARLY, LATE = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 6, 1, tzinfo=UTC)
SHIPPED = {program.name: program for program in shipped_programs()}


def version(name: str, number: int, /, **changes: Any) -> Program:
    return Program.model_validate({**SHIPPED[name].model_dump(), "version": number, **changes})


def faults(**changes: Any) -> list[str]:
    with pytest.raises(ValidationError) as refused:
        version("win_back", 2, **changes)
    return ["/".join(str(part) for part in fault["loc"]) for fault in refused.value.errors()]


def test_three_programs_ship() -> None:
    assert {name: (program.kind, program.objective, program.version) for name, program in SHIPPED.items()} == {
        "welcome": ("welcome", "create", 1),
        "win_back": ("win_back", "keep", 1),
        "points": ("loyalty", "tighten", 1),
    }


def test_a_first_sight_starts_the_welcome_and_two_segments_the_win_back() -> None:
    every = list(SHIPPED.values())
    assert [program.name for program in started_by_first_sight(every)] == ["welcome"]
    assert [program.name for program in started_by_entering(every, "leaving")] == ["win_back"]
    assert [program.name for program in started_by_entering(every, "falling_spend")] == ["win_back"]
    assert started_by_entering(every, "champions") == []


def test_a_version_holds_from_its_start_until_the_next() -> None:
    versions = [version("win_back", 3, starts_at=LATE), version("win_back", 1), version("win_back", 2, starts_at=EARLY)]
    assert [program.version for program in in_force(versions, datetime(2025, 1, 1, tzinfo=UTC))] == [1]
    assert [program.version for program in in_force(versions, EARLY)] == [2]
    assert [program.version for program in in_force(versions, LATE)] == [3]


def test_a_version_that_is_switched_off_ends_the_program() -> None:
    versions = [version("win_back", 1), version("win_back", 2, active=False, starts_at=EARLY)]
    assert in_force(versions, LATE) == []


@pytest.mark.parametrize(("changes", "at"), [
    ({"holdout_share": 1.5}, "holdout_share"),
    ({"customization_level": 4}, "customization_level"),
    ({"bond": "emotional"}, "bond"),
    ({"name": "Win back"}, "name"),
    ({"starts_at": "2026-01-01T00:00:00"}, "starts_at"),
    ({"trigger": {"on": "segment_entered", "segments": []}}, "trigger/segment_entered/segments"),
    ({"trigger": {"on": "full_moon"}}, "trigger"),
    ({"proposal": {"template": "win_back", "window_days": 0, "cooldown_days": 1, "valid_days": 1}}, "proposal/window_days"),
    ({"proposal": {"template": "win_back", "windw_days": 7, "cooldown_days": 1, "valid_days": 1}}, "proposal/windw_days"),
    ({"proposal": None}, ""),
    ({"earning": {"minor_per_point": 100}}, ""),
    ({"kind": "loyalty"}, ""),
])  # fmt: skip
def test_an_invalid_program_is_refused_with_the_path(changes: dict[str, Any], at: str) -> None:
    assert at in faults(**changes)


def test_points_are_held_out_from_nobody() -> None:
    with pytest.raises(ValidationError, match="points are everybody's"):
        version("points", 2, holdout_share=0.1)
