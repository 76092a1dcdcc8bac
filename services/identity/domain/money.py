"""Decimal amounts of the outside world as integer minor units, exactly or not at all."""

from __future__ import annotations

from decimal import Decimal, DecimalException, Inexact, localcontext

# ISO 4217: minor digits of the currencies that do not have two.
_NO_DIGITS = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"
_THREE_DIGITS = "BHD IQD JOD KWD LYD OMR TND"
_MINOR_DIGITS = dict.fromkeys(_NO_DIGITS.split(), 0) | dict.fromkeys(_THREE_DIGITS.split(), 3)
_LARGEST = 10**15
_DIGITS = 60


class NoAmount(ValueError):
    """Not an amount of that currency."""


def to_minor(amount: object, currency: str, times: int = 1) -> int:
    """`amount` (a decimal, an integer, or their text) times a quantity, in minor units. Raises NoAmount."""
    if isinstance(amount, bool) or not isinstance(amount, int | str | Decimal):
        raise NoAmount("a number is expected")
    try:
        with localcontext(prec=_DIGITS) as context:
            context.traps[Inexact] = True
            minor = Decimal(amount) * times * 10 ** _MINOR_DIGITS.get(currency, 2)
            if not minor.is_finite() or abs(minor) > _LARGEST:
                raise NoAmount("the amount is too large")
            return int(minor.to_integral_exact())
    except Inexact as error:
        raise NoAmount(f"{amount} times {times} is not a whole number of {currency} minor units") from error
    except DecimalException as error:
        raise NoAmount("a number is expected") from error


def spread(discount: int, amounts: list[int]) -> list[int]:
    """The amounts less a discount on all of them, in proportion and to the last minor unit; none goes below 0.

    What a whole-number share leaves over comes off the first amounts that can give it.
    """
    total = sum(amounts)
    discount = min(discount, total)
    left = [amount - discount * amount // total for amount in amounts] if total else amounts
    over = sum(left) - (total - discount)
    for index, amount in enumerate(left):
        taken = min(amount, over)
        left[index], over = amount - taken, over - taken
    return left
