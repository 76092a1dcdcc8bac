"""Two keys of a name may be active, so that one can be put in the other's place."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from services.identity.domain.keys import KeyRecord, TooManyActive, revoked, with_key

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def key(id: str, at: datetime = NOW) -> KeyRecord:
    return KeyRecord(id, b"", ("ingest",), 1, at, "service:operator", expires_at=at + timedelta(days=1))


BOTH = (key("a"), key("b"))


def test_a_third_active_key_is_refused_with_the_ids_of_the_two() -> None:
    with pytest.raises(TooManyActive) as refused:
        with_key(BOTH, key("c"))
    assert refused.value.ids == ("a", "b")


def test_an_expired_or_revoked_key_makes_room_and_stays_in_the_list() -> None:
    ended = revoked(BOTH, "a", NOW)
    assert [each.id for each in with_key(ended, key("c"))] == ["a", "b", "c"]
    assert [each.id for each in with_key(BOTH, key("c", NOW + timedelta(days=1)))] == ["a", "b", "c"]


def test_revoking_again_keeps_the_first_time_and_touches_no_other() -> None:
    once = revoked(BOTH, "a", NOW)
    assert revoked(once, "a", NOW + timedelta(hours=1)) == once == (replace(BOTH[0], revoked_at=NOW), BOTH[1])
    assert not once[0].is_active(NOW)
    assert once[1].is_active(NOW)
