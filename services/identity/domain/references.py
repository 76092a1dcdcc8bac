"""How a source names someone, written in one way only."""

from __future__ import annotations

import unicodedata

REFERENCE_TYPES = ("loyalty_card", "user", "email", "phone", "line", "anonymous")
"""Strongest first: the order in which one event's references are asked who this is."""

_LOOSE_IN_NUMBERS = str.maketrans("", "", " \t\u00a0-.()/")
_LONGEST_VALUE = 200


def normalise(reference: str) -> str | None:
    """The reference in its one spelling, or None where nothing is left to name somebody by."""
    kind, _, value = reference.partition(":")
    value = _normalise_value(kind, value)
    if kind not in REFERENCE_TYPES or not 0 < len(value) <= _LONGEST_VALUE or not value.isprintable():
        return None
    return f"{kind}:{value}"


def _normalise_value(kind: str, value: str) -> str:
    value = (value if value.isascii() else unicodedata.normalize("NFC", value)).strip()
    if kind == "email":
        return unicodedata.normalize("NFC", value.lower())
    if kind == "phone":
        return value.translate(_LOOSE_IN_NUMBERS)
    return "".join(value.split()) if kind == "loyalty_card" else value


def spellings(text: str) -> tuple[str, ...]:
    """Every reference that somebody who types `text` into a search box may mean."""
    kind, _, _ = text.partition(":")
    asked = (text,) if kind in REFERENCE_TYPES else tuple(f"{each}:{text}" for each in REFERENCE_TYPES)
    return tuple(reference for reference in map(normalise, asked) if reference is not None)
