"""Amounts are read as they are written or not at all: no setting turns ten into a thousand."""

import re
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stack.importing.mapping import FileLayout
from stack.importing.numerals import WAYS, Numerals, Undecided, readings, way_of
from stack.importing.values import as_decimal, as_minor, as_quantity
from stack.importing.verdicts import Bad

ONE_SIGN_AND_THREE_DIGITS = re.compile(r"[+-]?[1-9][0-9]{0,2}[.,][0-9]{3}")
"""The only texts that are two numbers: a thousand times apart."""
numbers = st.decimals(-(10**12), 10**12, places=2) | st.integers(0, 6).flatmap(lambda places: st.decimals(-(10**9), 10**9, places=places))
written = st.builds(lambda way, number: way.written(number), st.sampled_from(WAYS), numbers)
any_text = st.text("0123456789.,' -+", max_size=14)


@pytest.mark.parametrize("way", WAYS, ids=str)
@given(number=numbers)
def test_what_is_written_in_a_way_is_read_in_it_as_the_same_number(way, number):
    assert way.read(way.written(number)) == number


@given(written | any_text)
@example("1,234")
@example("1.234")
@example("0.123")
@example("1,234.567")
@example("1.234.567")
@example("1234.567")
def test_every_way_that_reads_a_text_reads_the_same_number_unless_three_digits_stand_behind_its_only_sign(text):
    meant = set(readings(text))
    if ONE_SIGN_AND_THREE_DIGITS.fullmatch(text):
        least, most = sorted(meant, key=abs)
        assert most == 1000 * least
    else:
        assert len(meant) <= 1


@given(st.lists(numbers, min_size=1, max_size=8), st.sampled_from(WAYS))
def test_the_way_that_is_found_in_a_column_reads_every_number_as_it_was_meant(column, way):
    found = way_of({way.written(number): "here" for number in column})
    if isinstance(found, Undecided):
        assert "no other cell says which" in found.detail
        assert any(ONE_SIGN_AND_THREE_DIGITS.fullmatch(way.written(number)) for number in column)
    else:
        assert [found.read(way.written(number)) for number in column] == column


@given(st.lists(written | any_text, max_size=8))
def test_no_way_is_found_that_another_one_contradicts(cells):
    found = way_of(dict.fromkeys(cells, "here"))
    numbers = [cell for cell in cells if readings(cell)]
    if isinstance(found, Numerals):
        others = [way for way in WAYS if all(way.read(cell) is not None for cell in numbers)]
        assert found in others
        assert all(way.read(cell) == found.read(cell) for way in others for cell in numbers)


@pytest.mark.parametrize(
    ("cells", "found"),
    [
        (["12", "13"], Numerals()),
        (["12.50", "abc", "$10"], Numerals()),
        (["1,234,567"], Numerals(".", ",")),
        (["1.234", "2,5"], Numerals(",", ".")),
        (["1 234,50", "9"], Numerals(",", " ")),
        (["1\u00a0234,50", "1\u202f234,50"], Numerals(",", " ")),
        (["1'234.50", "1\u2019234.50"], Numerals(".", "'")),
    ],
)
def test_the_plainest_way_that_explains_every_cell_is_found(cells, found):
    assert way_of(dict.fromkeys(cells, "here")) == found


def test_cells_that_contradict_each_other_are_shown_and_nothing_is_chosen():
    found = way_of({"10.00": "row 1", "11.00": "row 2", "10,00": "row 3", "10.005": "row 4"})
    assert found == Undecided("numbers are written in more than one way: '10.00' (row 1), '10,00' (row 3), '10.005' (row 4)")


def test_a_column_that_may_mean_two_things_is_asked_about():
    found = way_of({"5": "row 1", "1.234": "row 2"})
    assert isinstance(found, Undecided)
    assert '\'1.234\' (row 2) is 1.234 (file.decimal = ".") or 1234 (file.decimal = "," and file.thousands = ".")' in found.detail


def refusal(read, *arguments):
    with pytest.raises(Bad) as caught:
        read(*arguments)
    return caught.value.fault.detail


@pytest.mark.parametrize(
    ("decimal", "thousands", "cell", "says"),
    [
        (",", ".", "10.00", 'with file.decimal = "." and file.thousands = "" it is 10.00'),
        (",", ".", "0.500", 'with file.decimal = "." and file.thousands = "" it is 0.500'),
        (",", ".", "1.2.3", "a number such as 1.234,50 is expected"),
        (",", ".", "1,234.567", 'with file.decimal = "." and file.thousands = "," it is 1234.567'),
        (".", "", "1,234.50", 'says they are written; with file.thousands = "," it is 1234.50'),
        (".", "", "12,50", 'says they are written; with file.decimal = "," it is 12.50'),
        (".", "", "1.234,50", 'with file.decimal = "," and file.thousands = "." it is 1234.50'),
        (".", "", "1,234", 'with file.thousands = "," it is 1234, with file.decimal = "," it is 1.234'),
        (".", ",", "1,23", 'with file.decimal = "," and file.thousands = "" it is 1.23'),
        (".", "", "$10", "a number such as 1234.50 is expected, without a currency"),
        (".", "", "1e3", "a number such as"),
        (".", "", "NaN", "a number such as"),
        (".", "", "1_000", "a number such as"),
        (".", "", "\u0e51\u0e52", "a number such as"),
    ],
)
def test_what_is_not_written_as_the_mapping_says_is_refused_with_the_setting_that_would_read_it(decimal, thousands, cell, says):
    layout = FileLayout(decimal=decimal, thousands=thousands)
    assert says in refusal(as_minor, cell, layout, "USD")
    assert says in refusal(as_quantity, cell, layout, False)


@pytest.mark.parametrize(("cell", "cents"), [("1.234,50", 123450), ("1234,50", 123450), ("-12", -1200), (",5", 50), ("1.000.000", 10**8)])
def test_groups_may_be_left_out(cell, cents):
    assert as_minor(cell, FileLayout(decimal=",", thousands="."), "USD") == cents


def test_whole_cents_have_no_decimals():
    cents = FileLayout(minor_units=True)
    assert as_minor("1250", cents, "USD") == as_minor("1250.0", cents, "USD") == as_minor(Decimal("1250.00"), cents, "USD") == 1250
    assert "with file.minor_units = false it is 12.50" in refusal(as_minor, "12.50", cents, "USD")
    assert "with file.minor_units = false it is 10.00" in refusal(as_minor, "10.00", cents, "USD")


def test_numbers_that_are_no_texts_need_no_setting():
    german = FileLayout(decimal=",", thousands=".")
    assert as_decimal(19.99, german) == Decimal("19.99")
    assert as_decimal(Decimal("1.234"), german) == Decimal("1.234")
