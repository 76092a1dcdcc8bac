"""By which words a customer's name is found, however much of it somebody typed."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping

from services.identity.domain.customers import CustomerState, Said

NAME_TRAITS = frozenset((
    "name", "full_name", "fullName", "first_name", "firstName", "last_name", "lastName", "nickname",
    "company", "company_name", "companyName",
))  # fmt: skip
PREFIX_MIN, PREFIX_MAX = 3, 8
"""Letters: of longer words the first of these are looked for, and the rest is compared."""
WORDS_MAX = 6
_SHORT_WORD = 4
_WORD = re.compile(r"[^\s\-.,;:'’\"()/&+_]+")
_ACCENTS = re.compile("[\u0300-\u036f]")


def words_of(text: str) -> tuple[str, ...]:
    """The words of a name, each once, without case and accents. Other scripts keep their marks: there they are letters."""
    plain = _ACCENTS.sub("", unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold()))
    return tuple(dict.fromkeys(_WORD.findall(unicodedata.normalize("NFC", plain))))


def names_of(traits: Mapping[str, Said]) -> tuple[str, ...]:
    """The words of all that a customer is called."""
    called = [said.value for name, said in sorted(traits.items()) if name in NAME_TRAITS]
    return tuple(dict.fromkeys(word for each in called if isinstance(each, str) for word in words_of(each)))[:WORDS_MAX]


def has_a_name(state: CustomerState) -> bool:
    """Was anything ever said of what the customer is called, be it that it is called nothing any more?"""
    return not NAME_TRAITS.isdisjoint(state.traits)


def keys_of(words: Iterable[str]) -> tuple[str, ...]:
    """What the index holds for these words: the beginnings of each, and the beginnings of each two together, which few share."""
    words = tuple(words)
    beginnings = [word[:size] for word in words for size in range(_shortest(word), min(len(word), PREFIX_MAX) + 1)]
    pairs = [_pair(one, other) for one in words for other in words if one != other]
    return tuple(dict.fromkeys((*beginnings, *pairs)))


def key_for(typed: tuple[str, ...]) -> str | None:
    """The one key that finds the fewest for what was typed, whose words may be half words."""
    longest = sorted(typed, key=len, reverse=True)[:2]
    if len(longest) == 2 and len(longest[1]) >= PREFIX_MIN:
        return _pair(*longest)
    return longest[0][:PREFIX_MAX] if longest else None


def is_called(words: Iterable[str], typed: tuple[str, ...]) -> bool:
    """Does every word that was typed begin one of the name's?"""
    words = tuple(words)
    return all(any(word.startswith(each) for word in words) for each in typed)


def _shortest(word: str) -> int:
    """Names in Chinese or Japanese are few letters long, and have no case."""
    few = len(word) <= _SHORT_WORD and word.upper() == word
    return 1 if few else min(len(word), PREFIX_MIN)


def _pair(one: str, other: str) -> str:
    return " ".join(sorted((one[:PREFIX_MIN], other[:PREFIX_MIN])))
