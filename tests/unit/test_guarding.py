"""A service that anybody could reach without a key does not start."""

from __future__ import annotations

import importlib

import pytest

from shared.access.guarding import check_guarded
from shared.operator_error import OperatorError
from shared.settings import Settings

SERVICES = ("identity", "segmentation", "campaigns", "notifications")
PEPPER = "0123456789abcdef"


def settings_of(name: str, **given: object) -> Settings:
    made: Settings = importlib.import_module(f"services.{name}.app").SETTINGS(**given)
    return made


@pytest.mark.parametrize("name", SERVICES)
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "dear.example"])
def test_without_anything_to_check_keys_by_no_service_listens_to_the_network(name: str, host: str) -> None:
    with pytest.raises(OperatorError, match=r"DEAR_KEY_PEPPER.*DEAR_INGEST_WRITE_KEYS"):
        check_guarded(settings_of(name, host=host))


@pytest.mark.parametrize("name", SERVICES)
@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_on_this_machine_it_may(name: str, host: str) -> None:
    check_guarded(settings_of(name, host=host))


@pytest.mark.parametrize("given", [{"ingest_write_keys": ("k",)}, {"key_pepper": PEPPER}])
def test_with_a_pepper_or_write_keys_it_may_anywhere(given: dict[str, object]) -> None:
    check_guarded(settings_of("identity", host="0.0.0.0", **given))


def test_a_short_pepper_is_refused_and_an_empty_one_is_none() -> None:
    with pytest.raises(ValueError, match="openssl rand -hex 32"):
        Settings(key_pepper="short")
    assert Settings(key_pepper=" ").pepper is None
    assert Settings(key_pepper=PEPPER).pepper == PEPPER.encode()
    assert PEPPER not in repr(Settings(key_pepper=PEPPER))
