"""Does a text that nobody could read mention somebody? For what was parked or quarantined, and so belongs to no profile."""

from __future__ import annotations

from collections.abc import Iterable

from services.identity.domain.references import without_country_code

TELLING_LENGTH = 6
"""A value that is shorter, such as a card's number 42, stands in every other text: then only its whole reference tells."""


def needles_of(references: Iterable[str]) -> tuple[bytes, ...]:
    """What to look for."""
    return tuple({needle.lower().encode() for reference in references for needle in _spellings(reference)})


def _spellings(reference: str) -> tuple[str, ...]:
    value = without_country_code(reference)
    return (value,) if len(value) >= TELLING_LENGTH else (reference,)


def mentions(text: bytes, needles: Iterable[bytes]) -> bool:
    """Is one of them in it, in large letters or small?"""
    lowered = text.decode(errors="replace").lower().encode()
    return any(needle in lowered for needle in needles)
