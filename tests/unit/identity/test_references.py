"""References have one spelling."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.identity.domain.references import REFERENCE_TYPES, normalise, spellings


@pytest.mark.parametrize(
    ("written", "normalised"),
    [
        ("email: Ann.Smith@Example.COM ", "email:ann.smith@example.com"),
        ("phone:+66 (0)81-234.5678", "phone:+660812345678"),
        ("loyalty_card: 42 17 ", "loyalty_card:4217"),
        ("loyalty_card:AB-42", "loyalty_card:AB-42"),
        ("user:Ann", "user:Ann"),
        ("user:é", "user:é"),
    ],
)
def test_a_reference_is_written_in_one_way(written: str, normalised: str) -> None:
    assert normalise(written) == normalised


@pytest.mark.parametrize("written", ["email:   ", "phone:()", "user:a\nb", "passport:1", "email", "user:" + "x" * 201])
def test_what_names_nobody_is_no_reference(written: str) -> None:
    assert normalise(written) is None


@given(st.sampled_from(REFERENCE_TYPES), st.text(max_size=250))
def test_a_normalised_reference_stays_as_it_is(kind: str, value: str) -> None:
    once = normalise(f"{kind}:{value}")
    if once is not None:
        assert normalise(once) == once


def test_a_search_without_a_type_means_any_type() -> None:
    assert "email:ann@example.com" in spellings(" Ann@example.com")
    assert spellings("email:Ann@example.com") == ("email:ann@example.com",)
