"""Corrections go to the profiles that said what is wrong, and by no split comes back what was corrected."""

from __future__ import annotations

from typing import Any

from services.identity.domain.corrections import shares
from services.identity.domain.customers import CustomerState, Said


def knows(profile: str, **what: Any) -> CustomerState:
    return CustomerState(profile, frozenset((profile,)), frozenset((f"user:{profile}",)), 0, **what)


SAID = Said(1, "form", "wrong")
STATES = {
    "home": knows("home", traits={"name": SAID}, wishes={"language": SAID}),
    "other": knows("other", traits={"name": SAID, "city": SAID}, details={("asset", "van", "label"): SAID}),
}


def test_a_correction_goes_to_all_who_said_something_of_it() -> None:
    assert shares({"traits": {"name": "Ann", "city": None}, "language": "th"}, "home", STATES) == {
        "home": {"traits": {"name": "Ann"}, "language": "th"},
        "other": {"traits": {"name": "Ann", "city": None}},
    }


def test_what_nobody_said_goes_to_the_profile_that_names_the_customer() -> None:
    assert shares({"traits": {"size": "L"}, "customer_type": "retailer"}, "home", STATES) == {
        "home": {"traits": {"size": "L"}, "customer_type": "retailer"}
    }


def test_a_reference_is_retired_where_it_is() -> None:
    assert shares({"retire_references": ["user:other", "user:nobody"]}, "home", STATES) == {
        "other": {"retired": ["user:other"]},
        "home": {"retired": ["user:nobody"]},
    }


def test_a_thing_is_corrected_where_it_is_owned() -> None:
    van, car = {"asset_id": "van", "label": "B 7"}, {"asset_id": "car", "label": "B 8"}
    boss = {"person_id": "p1", "name": "Somchai"}
    assert shares({"assets": [van, car], "decision_makers": [boss]}, "home", STATES) == {
        "other": {"assets": [van]},
        "home": {"assets": [car], "decision_makers": [boss]},
    }
