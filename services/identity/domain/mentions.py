"""Whom a text is about that nobody could read: for what was parked, and so belongs to no profile."""

from __future__ import annotations

from collections.abc import Iterable

from services.identity.domain.graves import Digest
from services.identity.domain.references import Naming, without_country_code

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


def owner_of(key: bytes | None, naming: Naming, digest: Digest | None) -> str | None:
    """Whose key a record is sealed under that says by its own key whom it is about; None where that is no reference."""
    reference = naming.read((key or b"").decode(errors="replace"))
    return key_of(reference, digest) if isinstance(reference, str) and digest is not None else None


def key_of(reference: str, digest: Digest) -> str:
    """The key of somebody who is known by a reference only, and may be no profile yet."""
    return key_named(digest(reference))


def key_named(reference_digest: str) -> str:
    """The same by the keyed hash, which is all that is left of an erased reference."""
    return f"reference:{reference_digest}"
