"""How a source names someone, written in one way only; and what looks like a name and names nobody."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import lru_cache

import phonenumbers
from email_validator import EmailNotValidError, validate_email

_ADDRESSES = ("email:", "phone:", "line:")
REFERENCE_TYPES = ("loyalty_card", "user", "email", "phone", "line", "anonymous")
"""Strongest first: the order in which one event's references are asked who this is."""

_LONGEST_VALUE = 200
_REMEMBERED = 20_000
"""E-mail addresses and phone numbers whose spelling a process keeps: reading one anew takes as long as the rest of its event."""
_LOOSE_IN_NUMBERS = str.maketrans("", "", " \t\u00a0-.()/")
_DIGITS_MIN, _DIGITS_MAX = 4, 15
_NOTHING = "0-_+.:/ "
"""What a value consists of that has nothing in it."""
_PLACEHOLDERS = frozenset((
    "null", "(null)", "<null>", "nil", "none", "undefined", "nan", "n/a", "n.a.", "na", "-1", "true", "false", "empty", "blank", "{}", "[]",
    "[object object]", "not set", "not provided", "anonymous", "anon", "guest", "unknown", "nobody", "no name", "walkin", "walk-in",
))  # fmt: skip


class NamesNobody(Enum):
    """Why a reference is none."""

    MALFORMED = "malformed"
    """Of no type that there is, with control characters, too long, or no e-mail address or phone number at all."""
    PLACEHOLDER = "placeholder"
    """What programs and cashiers write where they know nothing: zeros, `null`, `anonymous`."""
    BLOCKED = "blocked"
    """One that the settings name, such as the shop's own number."""


@dataclass(frozen=True, slots=True)
class Naming:
    """How references are read here: the countries whose phone numbers are written without a code, and what is blocked."""

    home_region: str | None = None
    """ISO 3166 code; without one, a number without a country code keeps its digits."""
    store_regions: Mapping[str, str] = field(default_factory=dict)
    blocked: frozenset[str] = frozenset()
    """In their one spelling."""

    def read(self, reference: str, store: object = None) -> str | NamesNobody:
        """The reference in its one spelling, or why it names nobody; `store` is where it was written down."""
        spelt = self.spell(reference, store)
        return NamesNobody.BLOCKED if spelt in self.blocked else spelt

    def spell(self, reference: str, store: object = None) -> str | NamesNobody:
        """The same also where it is blocked: it may have been somebody's before it was."""
        kind, _, written = reference.partition(":")
        if kind not in _SPELL:
            return NamesNobody.MALFORMED
        value = written.strip()
        # What a till or shop writes for nobody says no more with the name of its system before it.
        if _is_placeholder(value) or (kind == "user" and _is_placeholder(value.rpartition("/")[2])):
            return NamesNobody.PLACEHOLDER
        value = _phone(value, self._region_of(store)) if kind == "phone" else _SPELL[kind](value)
        if not 0 < len(value) <= _LONGEST_VALUE or not value.isprintable():
            return NamesNobody.MALFORMED
        return f"{kind}:{value}"

    def spellings(self, text: str) -> tuple[str, ...]:
        """Every reference that somebody who types `text` into a search box may mean."""
        kind, _, _ = text.partition(":")
        asked = (text,) if kind in REFERENCE_TYPES else tuple(f"{each}:{text}" for each in REFERENCE_TYPES)
        return tuple(reference for reference in map(self.read, asked) if isinstance(reference, str))

    def _region_of(self, store: object) -> str | None:
        return self.store_regions.get(store, self.home_region) if isinstance(store, str) else self.home_region


def naming(home_region: str | None, store_regions: Mapping[str, str], blocked: Iterable[str]) -> Naming:
    """The rules of one shop. Raises ValueError for a blocked reference that could name nobody anyway."""
    rules = Naming(home_region, store_regions)
    spelt = set()
    for each in blocked:
        reference = rules.read(each)
        if not isinstance(reference, str):
            raise ValueError(f"{each!r} is no reference; one such as phone:+6621234567 is expected")
        spelt.add(reference)
    return replace(rules, blocked=frozenset(spelt))


def is_region(code: str) -> bool:
    """Is it a country whose phone numbers are known?"""
    return code in phonenumbers.SUPPORTED_REGIONS


def is_address(reference: str) -> bool:
    """Can somebody be written to or called by it? Other references are numbers that only their source understands."""
    return reference.startswith(_ADDRESSES)


def without_country_code(reference: str) -> str:
    """The value of a reference, a phone number as far as everybody writes it: with a country's code, a zero, or neither before it."""
    kind, _, value = reference.partition(":")
    if kind != "phone" or not value.startswith("+"):
        return value
    try:
        return phonenumbers.national_significant_number(phonenumbers.parse(value))
    except phonenumbers.NumberParseException:
        return value


def _is_placeholder(value: str) -> bool:
    return not value.strip(_NOTHING) or value.lower() in _PLACEHOLDERS


def _text(value: str) -> str:
    return value if value.isascii() else unicodedata.normalize("NFC", value)


def _card(value: str) -> str:
    """Cards are typed in: digits of other scripts and wide letters are the same card."""
    if not value.isascii():
        folded = unicodedata.normalize("NFKC", value)
        value = "".join(str(unicodedata.decimal(each)) if each.isdecimal() else each for each in folded)
    return "".join(value.split())


@lru_cache(_REMEMBERED)
def _email(value: str) -> str:
    """In lower case, the domain as people write it, whichever way it came; empty where it is no address. The domain is not looked up."""
    try:
        found = validate_email(value, check_deliverability=False, test_environment=True)
    except (EmailNotValidError, UnicodeError):
        return ""
    # Lower case may compose otherwise than what it was made of.
    return unicodedata.normalize("NFC", found.normalized.lower())


@lru_cache(_REMEMBERED)
def _phone(value: str, region: str | None) -> str:
    """E.164 with an extension where there is one, for colleagues share a number; empty where it is no number."""
    try:
        number = phonenumbers.parse(value, region)
    except phonenumbers.NumberParseException as error:
        no_region = error.error_type == phonenumbers.NumberParseException.INVALID_COUNTRY_CODE and region is None
        return _local_digits(value) if no_region else ""
    if not phonenumbers.is_possible_number(number):
        return ""
    spelt = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    return f"{spelt};ext={number.extension}" if number.extension else spelt


def _local_digits(value: str) -> str:
    digits = _card(value).translate(_LOOSE_IN_NUMBERS)
    return digits if digits.isascii() and digits.isdigit() and _DIGITS_MIN <= len(digits) <= _DIGITS_MAX else ""


_SPELL: dict[str, Callable[[str], str]] = {
    **dict.fromkeys(REFERENCE_TYPES, _text),
    "loyalty_card": _card,
    "email": _email,
    "phone": _local_digits,
}
