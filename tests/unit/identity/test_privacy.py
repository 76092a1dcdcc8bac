"""Who was erased, who is mentioned, and what is proven."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial

import pytest

from services.identity.domain.graves import Grave, Graves
from services.identity.domain.mentions import mentions, needles_of
from services.identity.domain.privacy import OTHERS, Kind, Request, State, proof, waiting_for
from services.identity.domain.resolution import new_profile_id, resolve
from shared.privacy import reference_digest

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
CARD, MAIL = "loyalty_card:42", "email:ann@example.com"
DIGEST = partial(reference_digest, b"a master key")
REQUEST = Request("1" * 32, Kind.ERASURE, State.WORKING, 2, "2" * 32, ("2" * 32, "3" * 32), NOON, NOON)


def test_a_grave_is_found_by_the_key_and_says_nothing_without_it() -> None:
    graves = Graves(1, {DIGEST(MAIL): Grave(5, "a")}, DIGEST)
    assert graves.of(MAIL) == Grave(5, "a")
    assert graves.of(CARD) is None
    assert Graves(1, graves.by_digest, partial(reference_digest, b"another key")).of(MAIL) is None
    assert MAIL not in str(graves)
    assert [graves.cover(MAIL, at) for at in (4, 5, 6)] == [True, True, False]
    assert not graves.cover(CARD, 4)


def test_of_several_graves_the_one_that_reaches_farthest_counts() -> None:
    graves = Graves(1, {DIGEST(MAIL): Grave(5, "a"), DIGEST(CARD): Grave(7, "b")}, DIGEST)
    assert graves.newest_of((MAIL, CARD)) == Grave(7, "b")
    assert graves.newest_of(("phone:1",)) is None


def test_who_comes_back_begins_another_profile_each_time() -> None:
    first, second = (Graves(1, {DIGEST(CARD): Grave(5, request)}, DIGEST).begin(CARD) for request in ("a", "b"))
    assert len({first, second, new_profile_id(CARD)}) == 3
    assert Graves(1, {DIGEST(CARD): Grave(5, "a")}, DIGEST).begin(MAIL) == new_profile_id(MAIL)
    assert resolve((CARD,), {}, begin=lambda _: first).profile == first


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b'{"reference": "EMAIL:Ann@Example.com"}', True),
        (b"half a json of ann@example.com and \xff", True),
        (b'{"reference": "loyalty_card:42"}', True),
        (b'{"amount_minor": 42}', False),
        (b'{"reference": "email:joann@example.org"}', False),
    ],
)
def test_a_text_mentions_somebody_by_a_telling_value_or_the_whole_reference(text: bytes, found: bool) -> None:
    assert mentions(text, needles_of((CARD, MAIL))) is found


@pytest.mark.parametrize("text", [b"phone:0812345678", b'{"phone": "+66812345678"}', b"0066812345678 and others"])
def test_a_phone_number_is_recognised_with_and_without_its_countrys_code(text: bytes) -> None:
    assert mentions(text, needles_of(("phone:+66812345678",)))
    assert not mentions(text, needles_of(("phone:+66812345679",)))


def test_all_services_answer_for_every_member_in_all_parts() -> None:
    members = REQUEST.members
    whole = {(profile, service): (1, {1}) for profile in members for service in OTHERS}
    assert waiting_for(members, whole) == []
    assert waiting_for(members, {**whole, (members[1], "campaigns"): (2, {2})}) == ["campaigns"]
    assert waiting_for(members, {}) == list(OTHERS)


def test_the_proof_names_the_day_from_which_nothing_is_left() -> None:
    told = proof(REQUEST, {"identity": {"events": 3}, "campaigns": {"offers": 1, "kept_ledger_entries": 2}}, NOON)
    assert told["erased"] == {"identity": {"events": 3}, "campaigns": {"offers": 1}}
    assert told["kept"]["campaigns"] == {"ledger_entries": 2}
    assert told["topics_roll_off"]["purchases-v1"] == told["nothing_left_from"] == "2026-03-09"
    assert {"customers-v1", "scores-v1", "segmentation-state-v1"} <= set(told["tombstones"])
