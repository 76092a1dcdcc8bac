"""How a file writes numbers: its decimal sign, and what stands between groups of three digits."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache

_ALIKE = {" ": " \u00a0\u202f", "'": "'\u2019"}
"""Signs that stand for each other: the blanks and the apostrophe of a typesetter."""


@dataclass(frozen=True, slots=True)
class Numerals:
    """One way of writing numbers."""

    decimal: str = "."
    thousands: str = ""

    def read(self, text: str) -> Decimal | None:
        """The number, exactly; None where it is not written in this way.

        Groups have three digits, the first begins with no zero, and none follows the decimal sign. So whatever has not exactly three
        digits behind its only sign is the same number in every way that reads it at all; 1,234 and 1.234 are two, a thousand times apart.
        """
        found = _pattern(self.decimal, self.thousands).fullmatch(text)
        if found is None:
            return None
        digits = "".join(filter(str.isdigit, found["whole"]))
        return Decimal(f"{found['sign']}{digits}.{found['fraction'] or ''}")

    def written(self, number: Decimal) -> str:
        """The number in this way."""
        return f"{number:,f}".translate({ord(","): self.thousands, ord("."): self.decimal})

    def settings(self, before: Numerals | None = None) -> str:
        """What a mapping says for it; with `before`, what to change in a mapping that says that."""
        said = {"decimal": self.decimal} | ({"thousands": self.thousands} if before or self.thousands else {})
        return " and ".join(f'file.{name} = "{sign}"' for name, sign in said.items() if before is None or sign != getattr(before, name))

    def changes(self, before: Numerals) -> int:
        """In how many signs they differ."""
        return (self.decimal != before.decimal) + (self.thousands != before.thousands)


WAYS = tuple(
    Numerals(decimal, thousands) for decimal, signs in ((".", ("", ",", " ", "'")), (",", ("", ".", " ", "'"))) for thousands in signs
)
"""Every way that a mapping can name, the plainer ones first."""


@lru_cache
def _pattern(decimal: str, thousands: str) -> re.Pattern[str]:
    grouped = rf"|[1-9][0-9]{{0,2}}(?:[{_ALIKE.get(thousands, re.escape(thousands))}][0-9]{{3}})+" if thousands else ""
    point = re.escape(decimal)
    return re.compile(rf"(?P<sign>[+-]?)(?P<whole>[0-9]+{grouped}|(?={point}))(?:{point}(?P<fraction>[0-9]+))?")


def readings(text: str, ways: Iterable[Numerals] = WAYS) -> dict[Decimal, Numerals]:
    """Each number that the text is in one of these ways, with the first way in which it is that."""
    found: dict[Decimal, Numerals] = {}
    for way in ways:
        number = way.read(text)
        if number is not None:
            found.setdefault(number, way)
    return found


def other_readings(text: str, tried: Numerals) -> str:
    """What the text is where a mapping says otherwise, and what it then says; empty where it is no other number."""
    meant = readings(text, sorted((way for way in WAYS if way != tried), key=lambda way: way.changes(tried)))
    if (number := tried.read(text)) is not None:
        meant.pop(number, None)
    return ", ".join(f"with {way.settings(tried)} it is {number:f}" for number, way in meant.items())


@dataclass(frozen=True, slots=True)
class Undecided:
    """Why no way of writing was chosen."""

    detail: str


def way_of(cells: Mapping[str, str]) -> Numerals | Undecided:
    """The way in which all these cells are written, the plainest where that makes no difference to any of them.

    `cells` are texts, each with the place to name it by. Those that are no number in any way say nothing: their rows are refused.
    """
    numbers = {text: ways for text in cells if (ways := tuple(way for way in WAYS if way.read(text) is not None))}
    possible = [way for way in WAYS if all(way in ways for ways in numbers.values())]
    if not possible:
        examples = {ways: f"{text!r} ({cells[text]})" for text, ways in reversed(numbers.items())}
        return Undecided(f"numbers are written in more than one way: {', '.join(reversed(examples.values()))}")
    for text in numbers:
        if len(meant := readings(text, possible)) > 1:
            either = " or ".join(f"{number:f} ({way.settings()})" for number, way in meant.items())
            return Undecided(f"{text!r} ({cells[text]}) is {either}, and no other cell says which")
    return possible[0]
