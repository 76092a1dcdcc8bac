"""Identity's settings are understood or refused at the start."""

from __future__ import annotations

from typing import Any

import pytest

from services.identity.domain.trust import Limit
from services.identity.settings import IdentitySettings


def test_zones_and_secrets_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEAR_STORE_TIME_ZONES", '{"120": "Asia/Bangkok"}')
    monkeypatch.setenv("DEAR_SHOPIFY_WEBHOOK_SECRETS", "old, new,")
    settings = IdentitySettings()
    assert (settings.store_time_zones, settings.shopify_webhook_secrets) == ({"120": "Asia/Bangkok"}, ("old", "new"))


@pytest.mark.parametrize(
    "wrong", [{"home_time_zone": "Bangkok"}, {"store_time_zones": {"120": "Asia/Nowhere"}}, {"home_time_zone": "../etc"}]
)
def test_a_zone_that_nobody_knows_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no time zone"):
        IdentitySettings(**wrong)


def test_a_limit_is_given_by_kind_and_the_others_keep_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEAR_REFERENCE_LIMITS", '{"email": {"count": 2, "days": 30}}')
    monkeypatch.setenv("DEAR_BLOCKED_REFERENCES", "phone:+66 2 123, anonymous:kiosk-1")
    monkeypatch.setenv("DEAR_MERGE_REFERENCES", "loyalty_card")
    rules = IdentitySettings().rules()
    assert (rules.limits["email"], rules.limits["user"]) == (Limit(2, days=30), Limit(1))
    assert rules.blocked == {"phone:+662123", "anonymous:kiosk-1"}
    assert rules.merge_by == {"loyalty_card"}


@pytest.mark.parametrize(
    ("name", "value"),
    [("MERGE_REFERENCES", "fax"), ("REFERENCE_LIMITS", '{"fax": {"count": 1}}'), ("BLOCKED_REFERENCES", "2123456")],
)
def test_a_reference_of_no_known_kind_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"DEAR_{name}", value)
    with pytest.raises(ValueError, match="expected"):
        IdentitySettings()
