"""Whom references mean, and what it means that a name is taken."""

from __future__ import annotations

from dataclasses import dataclass

from services.identity.domain.duplicates import Arrival, Kept, classify
from services.identity.domain.resolution import new_profile_id, resolve


def test_a_new_reference_begins_a_profile_whose_id_anybody_can_derive() -> None:
    found = resolve(("loyalty_card:1", "email:a@b.c"), {})
    assert found.profile == new_profile_id("loyalty_card:1")
    assert found.added == ("loyalty_card:1", "email:a@b.c")


def test_the_first_known_reference_says_who_it_is() -> None:
    found = resolve(("loyalty_card:1", "email:a@b.c"), {"email:a@b.c": "p"})
    assert (found.profile, found.added, found.elsewhere) == ("p", ("loyalty_card:1",), ())


def test_a_reference_of_another_profile_stays_there() -> None:
    found = resolve(("loyalty_card:1", "email:a@b.c"), {"loyalty_card:1": "p", "email:a@b.c": "q"})
    assert (found.profile, found.added, found.elsewhere) == ("p", (), ("email:a@b.c",))


@dataclass(frozen=True)
class Event:
    key: str
    origin: str
    content_hash: bytes
    parked_at: str | None = None


def arrivals(events: list[Event], kept: dict[str, Kept]) -> list[Arrival]:
    return classify(events, kept, ["p"] * len(events))


def test_the_same_position_is_a_redelivery_the_same_content_a_repeat_anything_else_is_set_apart() -> None:
    kept = {"a": Kept("log/0/1", b"one", "p")}
    events = [Event("a", "log/0/1", b"one"), Event("a", "log/0/2", b"one"), Event("a", "log/0/3", b"two"), Event("b", "log/0/4", b"two")]
    assert arrivals(events, kept) == [Arrival.REDELIVERED, Arrival.REPEATED, Arrival.QUARANTINED, Arrival.FIRST]


def test_a_dead_letter_that_was_put_back_may_be_in_the_timeline_from_where_it_was_parked() -> None:
    kept = {"a": Kept("log/0/1", b"one", "p")}
    events = [Event("a", "log/0/9", b"one", "log/0/1"), Event("a", "log/0/9", b"one", "log/0/2")]
    assert arrivals(events, kept) == [Arrival.REDELIVERED, Arrival.REPEATED]


def test_within_one_batch_the_first_coming_counts() -> None:
    events = [Event("a", "log/0/1", b"one"), Event("a", "log/0/2", b"one"), Event("a", "log/0/3", b"two")]
    assert arrivals(events, {}) == [Arrival.FIRST, Arrival.REPEATED, Arrival.QUARANTINED]
