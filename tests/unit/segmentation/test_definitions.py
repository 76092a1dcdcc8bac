"""How rules are written: JSON, YAML, and what is said about what is neither."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from services.segmentation.api.segments import MOST_BYTES, read_definition
from services.segmentation.domain.segments import Segment
from shared.operator_error import OperatorError
from shared.problems import Problem
from stack.segments import read_segments

YAML = b"""
about: regulars who became rare
enters:
  all:
    - {field: purchase_days, within_days: 365, at_least: 12}
    - trait: city
      in: [Bangkok]
"""


def request(body: bytes, media: str) -> Request:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return Request({"type": "http", "headers": [(b"content-type", media.encode())]}, receive)


def test_yaml_and_json_say_the_same() -> None:
    said = asyncio.run(read_definition(request(YAML, "application/yaml")))
    segment = Segment.model_validate({**said, "name": "rare"})
    again = segment.model_dump_json(by_alias=True, exclude_none=True, exclude={"name", "retired"}).encode()
    assert Segment.model_validate({**asyncio.run(read_definition(request(again, "application/json"))), "name": "rare"}) == segment


@pytest.mark.parametrize(
    ("body", "media", "status"),
    [
        (b"{", "application/json", 400),
        (b"a: [", "application/yaml", 400),
        (b"!!python/object/apply:os.system [ls]", "application/yaml", 400),
        (b"\xff", "application/json", 400),
        (b"[" * 40_000, "application/json", 400),
        (b"- 1", "application/yaml", 422),
        (b"1: 2", "application/yaml", 422),
        (b" " * (MOST_BYTES + 1), "application/json", 413),
    ],
)
def test_what_is_no_definition_is_a_problem(body: bytes, media: str, status: int) -> None:
    with pytest.raises(Problem) as refused:
        asyncio.run(read_definition(request(body, media)))
    assert refused.value.status == status


def test_a_file_names_segments(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text("rare:\n  enters: {field: risk, at_least: 0.5}\n")
    assert read_segments(file) == {"rare": {"enters": {"field": "risk", "at_least": 0.5}}}


@pytest.mark.parametrize("text", ["- a", "a: 1", "a: ["])
def test_a_file_of_something_else_is_refused_by_its_name(tmp_path: Path, text: str) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(text)
    with pytest.raises(OperatorError, match=r"rules\.yaml"):
        read_segments(file)
    with pytest.raises(OperatorError, match="cannot be read"):
        read_segments(tmp_path / "missing.yaml")
