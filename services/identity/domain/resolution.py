"""Which profile an event's references mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from shared.contracts.envelope import derived_id

MERGES_OFF = "merges_off"
"""The rule by which a reference that belongs to another profile stays where it is."""


def new_profile_id(reference: str) -> str:
    """The id of the profile that begins with this reference; the same whoever meets it first."""
    return derived_id("profile", reference)


@dataclass(frozen=True, slots=True)
class Resolution:
    """The profile meant, the references that become its own, and those that stay with another."""

    profile: str
    added: tuple[str, ...]
    elsewhere: tuple[str, ...]


def resolve(references: tuple[str, ...], known: Mapping[str, str], begin: Callable[[str], str] = new_profile_id) -> Resolution:
    """The first reference that is known says who this is; where none is, a profile begins with the first."""
    profile = next((known[each] for each in references if each in known), None) or begin(references[0])
    return Resolution(
        profile=profile,
        added=tuple(each for each in references if each not in known),
        elsewhere=tuple(each for each in references if known.get(each, profile) != profile),
    )
