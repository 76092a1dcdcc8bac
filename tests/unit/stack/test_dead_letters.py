"""Choosing parked records, and putting them back as they were."""

from base64 import b64encode
from datetime import UTC, datetime

import pytest

from shared.contracts.dead_letters import EventParked
from stack.dead_letters import CannotOpen, Choice, Keys, NoSuchLetter, NothingChosen, purge, replay


def letter(offset, group="identity", reason="invalid", headers=()):
    return EventParked(
        group=group, topic="purchases-v1", topic_id="t", partition=3, offset=offset, reason=reason, detail="because",
        key_base64=b64encode(b"key").decode(), value_base64=b64encode(b"\xff value").decode(),
        headers=tuple((name, b64encode(value).decode()) for name, value in headers), parked_at=datetime(2026, 1, 1, tzinfo=UTC),
    )  # fmt: skip


LETTERS = {"one": letter(1), "two": letter(2, reason="poison"), "three": letter(3, group="campaigns")}


def put_back(letters):
    out = Outbox()
    replay(letters, Keys(None, None).open(letters), out)
    return out.sent


class Outbox:
    def __init__(self):
        self.sent = []

    def send(self, topic, key, value, **more):
        self.sent.append((topic, key, value, more))

    def flush(self):
        self.sent.append("flushed")


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        (Choice(("two",)), ["two"]),
        (Choice(group="campaigns"), ["three"]),
        (Choice(reason="poison", group="identity"), ["two"]),
        (Choice(everything=True), ["one", "two", "three"]),
        (Choice(("one", "two"), reason="poison"), ["two"]),
    ],
)
def test_letters_are_chosen_by_name_group_and_reason(choice, names):
    assert list(choice.of(LETTERS)) == names


def test_nothing_is_chosen_by_accident():
    with pytest.raises(NothingChosen, match="--all"):
        Choice().of(LETTERS)
    with pytest.raises(NoSuchLetter, match="four"):
        Choice(("four",)).of(LETTERS)


def test_a_replay_sends_the_original_bytes_to_the_group_that_parked_them_and_then_takes_the_letter_away():
    sent = put_back({"one": letter(1, headers=[("dear-origin", b"t/0/7/1"), ("dear-replay-group", b"identity")])})
    headers = [("dear-origin", b"t/0/7/1"), ("dear-replay-group", b"identity"), ("dear-replay-of", b"t/3/1")]
    assert sent == [
        ("purchases-v1", b"key", b"\xff value", {"headers": headers, "partition": 3}),
        "flushed",
        ("dead-letters-v1", b"one", None, {}),
        "flushed",
    ]


def test_a_letter_that_was_parked_again_is_still_the_event_that_was_parked_first():
    sent = put_back({"one": letter(9, headers=[("dear-replay-of", b"t/3/1"), ("dear-replay-group", b"identity")])})
    assert sent[0][-1]["headers"] == [("dear-replay-group", b"identity"), ("dear-replay-of", b"t/3/1")]


def test_a_purge_only_takes_the_letter_away():
    out = Outbox()
    purge(["one"], out)
    assert out.sent == [("dead-letters-v1", b"one", None, {}), "flushed"]


def test_a_sealed_letter_says_what_opens_it_and_one_without_a_key_is_not_sent():
    sealed = {"one": letter(1).model_copy(update={"sealed_for": "somebody", "sealed_base64": "AQ=="})}
    with pytest.raises(CannotOpen, match="MONGODB_URI and DEAR_MASTER_KEY"):
        Keys(None, b"a master key of the tests").open(sealed)
    out = Outbox()
    with pytest.raises(CannotOpen, match=r"erased: one\. `dear dead-letters purge`"):
        replay(sealed, {}, out)
    assert out.sent == []
