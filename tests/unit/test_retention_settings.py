"""One setting says for all services how long what is kept; each takes the kinds that it has."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from shared.retained import Retained
from shared.runtime import EXIT_SETTINGS, read_settings

SERVICES = ("identity", "segmentation", "campaigns", "notifications")
EVERYTHING = "{" + ", ".join(f'"{kind}": 1000' for kind in Retained) + "}"


def settings_of(service: str) -> Any:
    return importlib.import_module(f"services.{service}.app").SETTINGS


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEAR_MASTER_KEY", "a master key of the tests")


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_understands_all_kinds(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEAR_RETENTION_DAYS", EVERYTHING)
    assert read_settings(settings_of(service), service).retention_days == dict.fromkeys(Retained, 1000)
    for nothing in ("", "{}"):
        monkeypatch.setenv("DEAR_RETENTION_DAYS", nothing)
        assert read_settings(settings_of(service), service).retention_days == {}


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize(
    ("said", "told"),
    [
        ('{"purchases": 5}', [*Retained]),
        ('{"audit": 0}', ["DEAR_RETENTION_DAYS.audit", "greater than or equal to 1"]),
        ("interactions=730", ["interactions=730", "is no JSON", '{"interactions": 730}']),
    ],
)
def test_what_is_no_rule_ends_the_start_and_says_what_is_expected(
    service: str, said: str, told: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DEAR_RETENTION_DAYS", said)
    with pytest.raises(SystemExit) as left:
        read_settings(settings_of(service), service)
    assert left.value.code == EXIT_SETTINGS
    line = capsys.readouterr().err
    assert [each for each in told if each not in line] == []


def test_nobody_can_be_erased_without_a_master_key(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("DEAR_MASTER_KEY")
    monkeypatch.setenv("DEAR_RETENTION_DAYS", '{"inactive_customers": 1000}')
    with pytest.raises(SystemExit):
        read_settings(settings_of("identity"), "identity")
    assert "DEAR_MASTER_KEY" in capsys.readouterr().err
