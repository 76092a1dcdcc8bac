"""A customer is found by any beginnings of what it is called."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.identity.domain.customers import Said
from services.identity.domain.names import is_called, key_for, keys_of, names_of, words_of


def called(*names: str) -> tuple[str, ...]:
    return names_of({trait: Said(0, "e", name) for trait, name in zip(("name", "company", "nickname"), names, strict=False)})


def is_found(words: tuple[str, ...], text: str) -> bool:
    typed = words_of(text)
    return key_for(typed) in keys_of(words) and is_called(words, typed)


ANN = ["ann", "SMITH", "smi", "ann smith", "Smith, Ann", "smith ann", "ann smi", "smi ann", "ann s", "smith a"]


@pytest.mark.parametrize("typed", ANN)
def test_beginnings_in_any_order_find_a_name(typed: str) -> None:
    assert is_found(called("Ann Smith"), typed)


@pytest.mark.parametrize("typed", ["anneliese", "Annelie", "anneliese sm"])
def test_words_longer_than_what_is_indexed_of_them_are_found(typed: str) -> None:
    assert is_found(called("Anneliese Smith"), typed)


OTHER_SCRIPTS = [
    ("Zoë Müller", "zoe mull"), ("Zoe Muller", "ZOË"), ("王小明", "王小"), ("สมชาย ใจดี", "สมช"),
    ("Siam Paper & Print Co.", "print paper"), ("O'Neil", "neil"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "typed"), OTHER_SCRIPTS)
def test_accents_scripts_and_punctuation_do_not_hide_a_name(name: str, typed: str) -> None:
    assert is_found(called(name), typed)


@pytest.mark.parametrize("typed", ["bob", "ann jones", "smithson", "mith", "", " - "])
def test_others_are_not_found(typed: str) -> None:
    assert not is_found(called("Ann Smith"), typed)


def test_only_what_names_somebody_is_indexed() -> None:
    said = {"name": Said(0, "e", "Ann"), "city": Said(0, "e", "Bangkok"), "nickname": Said(0, "e", None)}
    assert names_of(said) == ("ann",)


@given(st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=5), st.data())
def test_whoever_types_two_words_of_a_name_finds_it(parts: list[str], data: st.DataObject) -> None:
    words = called(" ".join(parts))
    if words:
        some = data.draw(st.lists(st.sampled_from(words), min_size=1, max_size=2, unique=True))
        assert key_for(tuple(some)) in keys_of(words)
        assert is_called(words, tuple(some))
    assert words_of(" ".join(words)) == words
