"""What of a correction is to be said of which profile of a customer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from services.identity.domain.customers import LEAD_SOURCE, WISHES, CustomerState

_THINGS = {"assets": ("asset", "asset_id"), "decision_makers": ("decision_maker", "person_id")}


def shares(changes: Mapping[str, Any], home: str, states: Mapping[str, CustomerState]) -> dict[str, dict[str, Any]]:
    """The corrections that each profile gets, in the fields of CustomerIdentified.

    Each goes to all profiles of which something was said about it, so that the wrong value comes back by no split; what nobody said
    anything of goes to the profile that names the customer.
    """
    found: dict[str, dict[str, Any]] = {}

    def said_of(profiles: Iterable[str]) -> list[dict[str, Any]]:
        return [found.setdefault(profile, {}) for profile in (sorted(profiles) or [home])]

    for name, value in changes.get("traits", {}).items():
        for share in said_of(profile for profile, state in states.items() if name in state.traits):
            share.setdefault("traits", {})[name] = value
    for name in (*WISHES, LEAD_SOURCE):
        if changes.get(name) is not None:
            for share in said_of(profile for profile, state in states.items() if name in state.wishes):
                share[name] = changes[name]
    for field, (kind, key) in _THINGS.items():
        for thing in changes.get(field, ()):
            for share in said_of(profile for profile, state in states.items() if _has(state, kind, thing[key])):
                share.setdefault(field, []).append(thing)
    for reference in changes.get("retire_references", ()):
        for share in said_of(profile for profile, state in states.items() if reference in state.references):
            share.setdefault("retired", []).append(reference)
    return found


def _has(state: CustomerState, kind: str, name: str) -> bool:
    return any(detail[:2] == (kind, name) for detail in state.details)
