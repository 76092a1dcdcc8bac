"""Keys, buckets and the verdict on what is presented: no broker, no database, no clock but the test's."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.access.buckets import WINDOW_SECONDS, Bucket
from shared.access.keyring import ASK_AGAIN_SECONDS, Caller, Keyring, Refused, no_keys
from shared.access.keys import Key, Roster, digest_of, presented, read_presented, service_key
from shared.streaming.errors import Unavailable

PEPPER = b"a pepper of some length"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ID, SECRET = "0123456789abcdef", "ab" * 24


def key(**changes: object) -> Key:
    fields: dict[str, object] = {"id": ID, "digest": digest_of(PEPPER, ID, SECRET), "scopes": ("ingest",), "rate": 2}
    return Key(**{**fields, **changes})


class Bed:
    """A keyring with a clock that the test moves and an identity that may be away."""

    def __init__(self, *keys: Key, pepper: bytes | None = PEPPER) -> None:
        self.roster, self.at, self.asked, self.away = Roster(keys), 100.0, 0, False
        self.ring = Keyring(pepper, self.learn, lambda: NOW, lambda: self.at)

    async def learn(self) -> Roster:
        self.asked += 1
        if self.away:
            raise Unavailable("identity is away")
        return self.roster

    def known(self) -> Keyring:
        asyncio.run(self.ring.refresh())
        return self.ring


WHOLE = presented(ID, SECRET)


def test_a_key_is_known_by_its_secret() -> None:
    caller = Bed(key()).known().judge(WHOLE)
    assert isinstance(caller, Caller)
    assert (caller.who, caller.may("ingest"), caller.may("privacy"), caller.may("privacy", "ingest")) == (f"key:{ID}", True, False, True)


def test_what_is_kept_tells_nothing_of_the_secret_without_the_pepper() -> None:
    assert digest_of(PEPPER, ID, SECRET) != digest_of(b"another pepper", ID, SECRET)
    assert digest_of(PEPPER, ID, SECRET) != digest_of(PEPPER, "f" * 16, SECRET)
    assert SECRET.encode() not in digest_of(PEPPER, ID, SECRET)


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        ("", Refused.NO_KEY),
        ("k1", Refused.UNKNOWN_KEY),
        (WHOLE[:-1], Refused.UNKNOWN_KEY),
        (WHOLE[:-1] + "0", Refused.UNKNOWN_KEY),
        (presented("f" * 16, SECRET), Refused.UNKNOWN_KEY),
        (f"dear_svc-campaigns_{'0' * 64}", Refused.UNKNOWN_KEY),
        (service_key(b"another pepper", "campaigns"), Refused.UNKNOWN_KEY),
    ],
)
def test_another_secret_is_refused(sent: str, reason: Refused) -> None:
    assert Bed(key()).known().judge(sent) is reason


@given(st.text())
def test_nothing_that_is_sent_breaks_the_reading(text: str) -> None:
    assert read_presented(text) is None
    assert Bed(key()).ring.judge(text) in (Refused.NO_KEY, Refused.UNKNOWN_KEY)


def test_expiry_and_revocation_are_told_to_who_holds_the_secret() -> None:
    assert Bed(key(expires_at=NOW)).known().judge(WHOLE) is Refused.EXPIRED
    assert isinstance(Bed(key(expires_at=NOW + timedelta(seconds=1))).known().judge(WHOLE), Caller)
    assert Bed(key(revoked=True)).known().judge(WHOLE) is Refused.REVOKED
    assert Bed(key(revoked=True)).known().judge(WHOLE[:-1] + "0") is Refused.UNKNOWN_KEY


def test_a_service_is_known_by_the_pepper_before_any_key_is() -> None:
    caller = Bed().ring.judge(service_key(PEPPER, "campaigns"))
    assert isinstance(caller, Caller)
    assert (caller.who, caller.may("internal"), caller.bucket) == ("service:campaigns", True, None)


def test_without_a_pepper_no_key_is_good() -> None:
    assert Bed(key(), pepper=None).known().judge(WHOLE) is Refused.UNKNOWN_KEY


def test_a_revoked_key_does_not_make_the_ring_empty() -> None:
    """Revoking the last key must not open what the first one closed."""
    assert not Bed(key(revoked=True)).known().is_empty
    assert Bed().known().is_empty
    assert not Bed().ring.is_empty, "nobody said yet that there are none"


async def _refresh_for(bed: Bed, sent: str, times: int = 3) -> int:
    before = bed.asked
    for _ in range(times):
        await bed.ring.refresh_for(sent)
    return bed.asked - before


def test_a_new_key_is_asked_for_at_once_and_a_wrong_one_not_for_ever() -> None:
    bed = Bed()
    bed.known()
    bed.roster = Roster((key(),))
    assert asyncio.run(_refresh_for(bed, WHOLE)) == 0, "asked less than a second ago"
    bed.at += ASK_AGAIN_SECONDS
    assert asyncio.run(_refresh_for(bed, WHOLE)) == 1
    assert isinstance(bed.ring.judge(WHOLE), Caller)
    bed.at += ASK_AGAIN_SECONDS
    assert asyncio.run(_refresh_for(bed, WHOLE)) == 0, "it is known"
    assert asyncio.run(_refresh_for(bed, "no key at all")) == 0
    assert asyncio.run(_refresh_for(bed, presented("f" * 16, SECRET))) == 1, "many wrong ones are one question a second"


def test_what_was_known_holds_while_identity_is_away() -> None:
    bed = Bed(key())
    bed.known()
    bed.away, bed.at = True, bed.at + 3600
    with pytest.raises(Unavailable):
        asyncio.run(bed.ring.refresh())
    assert isinstance(bed.ring.judge(WHOLE), Caller)


def test_a_bucket_holds_a_window_and_fills_steadily() -> None:
    bucket = Bucket(2, 0.0)
    assert [bucket.take(0.0) for _ in range(2 * WINDOW_SECONDS)] == [0.0] * 2 * WINDOW_SECONDS
    assert bucket.take(0.0) == 0.5
    assert bucket.headers() == [(b"ratelimit-policy", b'"key";q=20;w=10'), (b"ratelimit", b'"key";r=0;t=10')]
    assert bucket.take(0.5) == 0.0
    assert bucket.take(0.5) == 0.5
    assert bucket.take(1_000_000.0) == 0.0
    assert bucket.headers()[1] == (b"ratelimit", b'"key";r=19;t=1')


@given(st.integers(1, 50), st.lists(st.floats(0, 2), max_size=300))
def test_no_more_is_let_through_than_flows_in(rate: int, pauses: list[float]) -> None:
    bucket, at, taken = Bucket(rate, 0.0), 0.0, 0
    for pause in pauses:
        at += pause
        taken += bucket.take(at) == 0.0
    assert taken <= rate * WINDOW_SECONDS + at * rate + 1e-6


def test_learning_the_keys_anew_does_not_fill_the_bucket() -> None:
    bed = Bed(key())
    bed.known()
    caller = bed.ring.judge(WHOLE)
    assert isinstance(caller, Caller)
    assert caller.bucket is not None
    caller.bucket.take(bed.at)
    bed.known()
    again = bed.ring.judge(WHOLE)
    assert isinstance(again, Caller)
    assert again.bucket is caller.bucket
    bed.ring.use(Roster((key(rate=3),)))
    faster = bed.ring.judge(WHOLE)
    assert isinstance(faster, Caller)
    assert faster.bucket is not None
    assert faster.bucket.rate == 3


def test_nobody_learns_from_no_keys() -> None:
    assert asyncio.run(no_keys()) == Roster()
