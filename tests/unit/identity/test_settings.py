"""An ingest edge that anybody could reach without a key does not start."""

from __future__ import annotations

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
