"""The ledger of consent."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from services.identity.domain.consents import TextMark, ledger, text_mark


def stated(at: int, granted: bool, channel: str = "email") -> dict[str, Any]:
    return {"_id": f"{at}/{channel}/{granted}", "at": at, "granted": granted, "purpose": "marketing", "channel": channel}


def test_each_statement_says_what_it_did_whatever_order_they_came_in() -> None:
    said = [stated(1, False), stated(2, True), stated(3, True), stated(4, False), stated(2, True, "line")]
    for order in permutations(said):
        told = [(each.statement["at"], each.statement["channel"], each.action.value) for each in ledger(order)]
        assert told == [
            (1, "email", "refused"), (2, "email", "granted"), (2, "line", "granted"), (3, "email", "confirmed"), (4, "email", "withdrawn"),
        ]  # fmt: skip


def test_of_two_statements_of_one_time_the_refusal_is_the_last_word() -> None:
    assert [each.action.value for each in ledger([stated(5, False), stated(5, True)])] == ["granted", "withdrawn"]


@pytest.mark.parametrize(
    ("version", "shown", "registered", "mark"),
    [
        (None, None, None, TextMark.NONE),
        ("v1", "aa", None, TextMark.UNKNOWN),
        ("v1", None, "aa", TextMark.REGISTERED),
        ("v1", "aa", "aa", TextMark.REGISTERED),
        ("v1", "bb", "aa", TextMark.OTHER),
    ],
)
def test_a_statement_says_whether_its_text_is_known(version: str | None, shown: str | None, registered: str | None, mark: TextMark) -> None:
    assert text_mark(version, shown, registered) is mark
