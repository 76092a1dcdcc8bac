"""Identity's settings are understood or refused at the start."""

from __future__ import annotations

from typing import Any

import pytest

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
