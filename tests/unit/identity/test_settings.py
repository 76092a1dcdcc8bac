"""An ingest edge that anybody could reach without a key does not start."""

from __future__ import annotations

from typing import Any

import pytest

from services.identity.app import build
from services.identity.settings import IdentitySettings
from shared.clock import WallClock
from shared.operator_error import OperatorError
from shared.streaming.memory import MemoryBus


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "dear.example"])
def test_without_write_keys_identity_refuses_to_listen_to_the_network(host: str) -> None:
    with pytest.raises(OperatorError, match="DEAR_INGEST_WRITE_KEYS"):
        build(MemoryBus(), IdentitySettings(host=host), WallClock())


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_on_this_machine_it_may(host: str) -> None:
    assert build(MemoryBus(), IdentitySettings(host=host), WallClock()).name == "identity"


def test_with_write_keys_it_may_anywhere() -> None:
    assert build(MemoryBus(), IdentitySettings(host="0.0.0.0", ingest_write_keys=("k",)), WallClock()).name == "identity"


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
