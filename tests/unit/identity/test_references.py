"""References have one spelling, and what names nobody says why."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.identity.domain.references import REFERENCE_TYPES, NamesNobody, Naming, naming

ANYWHERE = Naming()
THAI = naming("TH", {"120": "US"}, ("phone:02-123-4567", "loyalty_card:9999"))


@pytest.mark.parametrize(
    ("written", "spelt"),
    [
        ("email: Ann.Smith@Example.COM ", "email:ann.smith@example.com"),
        ("email:Ann+shop@example.com", "email:ann+shop@example.com"),
        ("email:ann@BÜCHER.example", "email:ann@bücher.example"),
        ("email:ann@xn--bcher-kva.example", "email:ann@bücher.example"),
        ("phone:+66 (0)81-234.5678", "phone:+66812345678"),
        ("phone:081-234.5678", "phone:0812345678"),
        ("phone:+39 06 1234567", "phone:+39061234567"),
        ("phone:+66 2 765 4321 ext. 5", "phone:+6627654321;ext=5"),
        ("loyalty_card: 42 17 ", "loyalty_card:4217"),
        ("loyalty_card:๔๒ １７", "loyalty_card:4217"),
        ("loyalty_card:AB-42", "loyalty_card:AB-42"),
        ("user:Ann", "user:Ann"),
        ("user:é", "user:é"),
        ("user:shopify/7817", "user:shopify/7817"),
        ("line:U4af4980629", "line:U4af4980629"),
    ],
)
def test_a_reference_is_written_in_one_way(written: str, spelt: str) -> None:
    assert ANYWHERE.read(written) == spelt


@pytest.mark.parametrize("written", ["081 234 5678", "+66812345678", "๐๘๑-๒๓๔-๕๖๗๘", "001 66 81 234 5678", "tel:+66-81-234-5678"])
def test_a_number_of_the_home_country_has_one_spelling_however_it_is_dialled(written: str) -> None:
    assert THAI.read(f"phone:{written}") == "phone:+66812345678"


def test_a_store_abroad_has_its_own_country() -> None:
    assert THAI.read("phone:(212) 555-0100", "120") == "phone:+12125550100"
    assert THAI.read("phone:081 234 5678", "7") == "phone:+66812345678"


MALFORMED = [
    "email:ann",
    "email:a b@example.com",
    "email:@example.com",
    "phone:()1",
    "phone:12",
    "user:a\nb",
    "passport:1",
    "user:" + "x" * 201,
]
PLACEHOLDERS = [
    "email:   ",
    "loyalty_card:0000 000",
    "user:NULL",
    "user:None",
    "anonymous:anonymous",
    "line:n/a",
    "phone:undefined",
    "line:--",
]


@pytest.mark.parametrize(
    ("written", "why"),
    [
        *((each, NamesNobody.MALFORMED) for each in MALFORMED),
        *((each, NamesNobody.PLACEHOLDER) for each in PLACEHOLDERS),
        ("anonymous:00000000-0000-0000-0000-000000000000", NamesNobody.PLACEHOLDER),
        ("phone:+66 2 123 4567", NamesNobody.BLOCKED),
        ("loyalty_card:99 99", NamesNobody.BLOCKED),
    ],
)
def test_what_names_nobody_says_why(written: str, why: NamesNobody) -> None:
    assert THAI.read(written) is why


@pytest.mark.parametrize(
    "written", ["user:nullmann", "email:null@example.com", "loyalty_card:1000", "loyalty_card:0a", "user:ไม่มี", "loyalty_card:0001"]
)
def test_what_only_looks_like_nothing_is_somebody(written: str) -> None:
    assert THAI.read(written) == written


def test_what_is_to_be_blocked_must_be_a_reference() -> None:
    with pytest.raises(ValueError, match="phone:12"):
        naming("TH", {}, ("phone:12",))


NUMBERS = st.text("+0123456789 ()-./;ext=x", max_size=30)
ADDRESSES = st.builds("{}@{}.{}".format, st.text(max_size=20), st.text(max_size=20), st.sampled_from(["com", "example", "รับ", "ß"]))


@given(st.sampled_from(REFERENCE_TYPES), st.text(max_size=250) | NUMBERS | ADDRESSES, st.sampled_from([None, "TH", "US", "IT", "AR"]))
def test_a_reference_in_its_one_spelling_stays_as_it_is(kind: str, value: str, region: str | None) -> None:
    rules = Naming(region)
    once = rules.read(f"{kind}:{value}")
    if isinstance(once, str):
        assert rules.read(once) == once


@given(st.text())
def test_no_text_at_all_breaks_the_search_box(text: str) -> None:
    assert all(THAI.read(each) == each for each in THAI.spellings(text))


def test_a_search_without_a_type_means_any_type_that_it_can_be() -> None:
    assert "email:ann@example.com" in ANYWHERE.spellings(" Ann@example.com")
    assert ANYWHERE.spellings("email:Ann@example.com") == ("email:ann@example.com",)
    assert not any(each.startswith(("email:", "phone:")) for each in THAI.spellings("Ann"))
