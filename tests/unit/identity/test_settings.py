"""Identity's settings are understood or refused at the start."""

from __future__ import annotations

from typing import Any

import pytest

from services.identity.domain.trust import Limit
from services.identity.settings import IdentitySettings
from shared.runtime import read_settings


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


def test_countries_and_blocked_references_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEAR_HOME_REGION", "TH")
    monkeypatch.setenv("DEAR_STORE_REGIONS", '{"120": "US"}')
    monkeypatch.setenv("DEAR_BLOCKED_REFERENCES", "phone:02 123 4567, loyalty_card:9999")
    naming = IdentitySettings().naming
    assert (naming.home_region, naming.store_regions) == ("TH", {"120": "US"})
    assert naming.blocked == {"phone:+6621234567", "loyalty_card:9999"}


@pytest.mark.parametrize(
    "wrong", ["shop.example", "https://shop.example/", "https://shop.example/shop", "https://Shop.example", "null", "https://*.example"]
)
def test_a_page_is_named_as_browsers_name_it(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.setenv("DEAR_CORS_ORIGINS", "https://shop.example, http://localhost:3000,http://[::1]:3000")
    assert IdentitySettings().cors_origins == ("https://shop.example", "http://localhost:3000", "http://[::1]:3000")
    with pytest.raises(ValueError, match="no origin"):
        IdentitySettings(cors_origins=(wrong,))


@pytest.mark.parametrize("wrong", ["", "7", "crm/", "fax:", "user:a\nb"])
def test_a_tills_customers_are_of_a_kind_that_there_is(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.setenv("DEAR_POSLOG_CUSTOMER", "user:crm/")
    assert IdentitySettings().poslog_customer == "user:crm/"
    with pytest.raises(ValueError, match="begins no reference"):
        IdentitySettings(poslog_customer=wrong)


@pytest.mark.parametrize("wrong", [{"home_region": "Thailand"}, {"store_regions": {"120": "th"}}, {"blocked_references": ("nobody",)}])
def test_a_country_that_is_none_and_a_reference_that_is_none_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"no country|no reference"):
        IdentitySettings(**wrong)


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("DEAR_SERVICE_POINTS", "[{", "service_points"),
        ("DEAR_SERVICE_POINTS", '[{"id": "1", "name": "a", "latitude": 1, "longitude": 1, "time_zone": "UTC", "hours": {"mon": ["9-18"]}}]',
         "DEAR_SERVICE_POINTS.0.hours.mon.0: Value error, '9-18' are no hours; such as 09:00-18:00"),
        ("DEAR_BLOCKED_REFERENCES", "foo:1", "DEAR_BLOCKED_REFERENCES: 'foo:1' is no reference"),
        ("DEAR_PORT", "http", "DEAR_PORT: Input should be a valid integer"),
    ],
)  # fmt: skip
def test_a_wrong_setting_ends_the_process_with_one_line_that_names_it(
    setting: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(setting, value)
    with pytest.raises(SystemExit):
        read_settings(IdentitySettings, "identity")
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("dear identity: invalid settings: ")
    assert said in line


def test_a_limit_is_given_by_kind_and_the_others_keep_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEAR_REFERENCE_LIMITS", '{"email": {"count": 2, "days": 30}}')
    monkeypatch.setenv("DEAR_MERGE_REFERENCES", "loyalty_card")
    rules = IdentitySettings().rules
    assert (rules.limits["email"], rules.limits["user"]) == (Limit(2, days=30), Limit(1))
    assert rules.merge_by == {"loyalty_card"}


@pytest.mark.parametrize(
    ("name", "value"),
    [("MERGE_REFERENCES", "fax"), ("REFERENCE_LIMITS", '{"fax": {"count": 1}}'), ("BLOCKED_REFERENCES", "2123456")],
)
def test_a_reference_of_no_known_kind_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"DEAR_{name}", value)
    with pytest.raises(ValueError, match="expected"):
        IdentitySettings()
