"""Reading the JSON of other systems: every value is what its field says, or refused with its path."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

import msgspec

from services.identity.domain.money import NoAmount, to_minor
from services.identity.domain.rejects import Refused, RejectReason

Json = Mapping[str, Any]

LARGEST_QUANTITY = 10**9

_ZonedTime: Any = Annotated[datetime, msgspec.Meta(tz=True)]
_encoder = msgspec.json.Encoder(order="deterministic", decimal_format="number")
_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(float_hook=Decimal)


def read_json(raw: bytes) -> Any:
    """JSON whose decimals keep every digit. Raises Refused."""
    try:
        return _decoder.decode(raw)
    except (ValueError, RecursionError) as error:
        raise Refused(RejectReason.MALFORMED_JSON, f"not JSON: {error}" if raw else "empty") from error


def write_json(value: object) -> bytes:
    """The same bytes for the same value. Raises Refused for what no event can say, such as half a character."""
    try:
        return _encoder.encode(value)
    except (ValueError, RecursionError, OverflowError) as error:
        raise Refused(RejectReason.INVALID, f"cannot be kept: {error}") from error


def invalid(path: str, expected: str) -> Refused:
    """The refusal of one value."""
    return Refused(RejectReason.INVALID, f"{path}: {expected}")


def an_object(value: object, path: str) -> Json:
    """An object; an absent one is empty."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise invalid(path, "an object is expected")
    return value


def a_list(value: object, path: str) -> list[Any]:
    """A list; an absent one is empty, and one object stands for a list of it, as in documents that were XML once."""
    if value is None:
        return []
    if isinstance(value, dict):
        return [value]
    if not isinstance(value, list):
        raise invalid(path, "a list is expected")
    return value


def a_text(value: object, path: str) -> str:
    """A text that is not empty, or a number as text."""
    found = text_or_none(value, path)
    if found is None:
        raise invalid(path, "a text is expected")
    return found


def text_or_none(value: object, path: str) -> str | None:
    """A text, a number as text, or nothing where it is absent or empty."""
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise invalid(path, "a text is expected")
    return str(value)


def a_flag(value: object, path: str) -> bool:
    """True or false, also as a text; absent means false."""
    if value is None or isinstance(value, bool):
        return bool(value)
    if isinstance(value, str) and value.strip().lower() in ("true", "false", "1", "0", ""):
        return value.strip().lower() in ("true", "1")
    raise invalid(path, "true or false is expected")


def a_moment(value: object, path: str) -> datetime:
    """A time with its zone, in UTC."""
    try:
        at: datetime = msgspec.convert(value, _ZonedTime)
        return at.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise invalid(path, "an RFC 3339 time with a zone is expected") from error


def a_quantity(value: object, path: str) -> int:
    """A whole number from 0. Compared before it is made an integer: 1e999999999 is a short text and a long number."""
    number = a_number(value, path)
    if not 0 <= number <= LARGEST_QUANTITY or number != number.to_integral_value():
        raise invalid(path, f"a whole number from 0 to {LARGEST_QUANTITY} is expected")
    return int(number)


def a_number(value: object, path: str) -> Decimal:
    """A finite number, also as a text."""
    if not isinstance(value, bool) and isinstance(value, int | str | Decimal):
        try:
            number = Decimal(value)
        except ArithmeticError:
            number = Decimal("NaN")
        if number.is_finite():
            return number
    raise invalid(path, "a number is expected")


def minor_units(value: object, path: str, currency: str, times: int = 1) -> int:
    """An amount of a currency, times a quantity, in its minor units: exactly or refused."""
    try:
        return to_minor(value, currency, times)
    except NoAmount as error:
        raise invalid(path, str(error)) from error


def reference(kind: str, value: object) -> str | None:
    """How a source names someone, where it does."""
    return None if value is None or value == "" or isinstance(value, dict | list | bool) else f"{kind}:{value}"


def scalars(found: Json, leave_out: tuple[str, ...] = ()) -> dict[str, Any]:
    """Decimals become their text, nested values their JSON: nothing is lost, and no float is kept."""
    return {name: _scalar(value) for name, value in found.items() if name not in leave_out}


def _scalar(value: object) -> object:
    if isinstance(value, Decimal):
        return str(value)
    return write_json(value).decode() if isinstance(value, dict | list) else value
