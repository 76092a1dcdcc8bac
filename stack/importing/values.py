"""From what stands in a cell to a text, a time, an amount, a number, or yes and no; exactly, or with a reason why not."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from services.identity.domain.money import NoAmount, to_minor
from stack.importing.mapping import FileLayout
from stack.importing.numerals import other_readings
from stack.importing.verdicts import Bad, RowReason

NOON = time(12)
"""When a day without a time was: the same day in UTC almost wherever it is written."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EPOCHS = {"epoch": 1, "epoch_ms": 1000}
"""Time formats that count from 1970."""
YES = frozenset(["1", "true", "t", "yes", "y", "on", "x", "granted", "opt-in", "opted-in", "optin", "subscribed"])
NO = frozenset(["0", "false", "f", "no", "n", "off", "refused", "withdrawn", "opt-out", "opted-out", "optout", "unsubscribed"])
WHOLE = "JPY"
"""A currency without minor units: amounts in it are whole."""
_AS_UNDERSCORES = str.maketrans(" -", "__")
SHOWN = 40
EXAMPLE = Decimal("1234.50")


def shown(value: object) -> str:
    """A value as a message may show it."""
    text = str(value)
    return repr(text if len(text) <= SHOWN else text[:SHOWN] + "…")


def as_text(value: object, layout: FileLayout) -> str | None:
    """A text without the blanks around it; None where nothing stands there. Raises Bad."""
    match value:
        case None:
            return None
        case str():
            text = value.strip()
            return None if not text or text in layout.blank else text
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float() | Decimal():
            return as_text(_plain(value), layout)
        case datetime() | date():
            return value.isoformat()
    raise Bad(RowReason.NOT_A_TEXT, f"a text or a number is expected, not a {type(value).__name__}")


def _plain(number: float | Decimal) -> str | None:
    """Without an exponent, and whole numbers without a fraction: spreadsheets keep card numbers as 42.0. No number (NaN) is blank."""
    exact = Decimal(repr(number)) if isinstance(number, float) else number
    if exact.is_nan():
        return None
    if not exact.is_finite() or abs(exact.adjusted()) > SHOWN:
        return str(exact)
    return str(int(exact)) if exact == exact.to_integral_value() else format(exact, "f")


def as_time(value: object, layout: FileLayout, zone: str | None) -> datetime:
    """A moment in UTC; `zone` is of times that do not say theirs. Raises Bad."""
    try:
        at = _read_time(value, layout)
        if at.tzinfo is None:
            if zone is None:
                raise Bad(RowReason.NO_TIME_ZONE, f"{shown(value)} has no time zone: set file.time_zone in the mapping")
            at = at.replace(tzinfo=ZoneInfo(zone))
        at = at.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        if isinstance(error, Bad):
            raise
        raise Bad(RowReason.NOT_A_TIME, f"{shown(value)}: {_expected_time(layout)}") from error
    _not_too_early(at.date(), layout)
    return at


def _expected_time(layout: FileLayout) -> str:
    if layout.time_format:
        return f"a time as in file.time_format, {layout.time_format!r}, is expected"
    return "a time such as 2026-03-01T09:30:00+07:00 is expected; file.time_format in the mapping says how others are written"


def _read_time(value: object, layout: FileLayout) -> datetime:
    match value:
        case datetime():
            return value
        case date():
            return datetime.combine(value, NOON)
        case _ if layout.time_format in EPOCHS:
            return _since_epoch(as_decimal(value, layout) / EPOCHS[layout.time_format])
        case str() if layout.time_format:
            read = datetime.strptime(value, layout.time_format)  # noqa: DTZ007 - the zone is added by the caller
            has_time = any(part in layout.time_format for part in ("%H", "%I", "%c", "%X"))
            return read if has_time else read.replace(hour=NOON.hour)
        case str() if len(value) <= len("2026-03-01"):
            return datetime.combine(date.fromisoformat(value), NOON)
        case str():
            return datetime.fromisoformat(value)
    raise ValueError("not a time")


def _since_epoch(seconds: Decimal) -> datetime:
    if not seconds.is_finite() or abs(seconds) > 10**11:
        raise ValueError("not a time")
    return EPOCH + timedelta(microseconds=int(seconds * 10**6))


def as_day(value: object, layout: FileLayout) -> date:
    """A day as it is written, whatever the zone. Raises Bad."""
    try:
        day = _read_time(value, layout.model_copy(update={"time_format": layout.day_format}) if layout.day_format else layout).date()
    except (ValueError, OverflowError) as error:
        said = f"file.day_format, {layout.day_format!r}," if layout.day_format else f"file.time_format, {layout.time_format!r},"
        hint = f"a day as in {said} is expected" if layout.day_format or layout.time_format else "a day such as 2026-03-01 is expected"
        more = "" if layout.day_format else "; file.day_format in the mapping says how others are written"
        raise Bad(RowReason.NOT_A_TIME, f"{shown(value)}: {hint}{more}") from error
    return _not_too_early(day, layout)


def _not_too_early(day: date, layout: FileLayout) -> date:
    if day < layout.earliest:
        raise Bad(RowReason.TOO_EARLY, f"{day} is before {layout.earliest}: a placeholder? file.earliest in the mapping allows it")
    return day


def as_minor(value: object, layout: FileLayout, currency: str, times: int = 1) -> int:
    """An amount, or a price times a quantity, in minor units. Raises Bad."""
    number = as_decimal(value, layout)
    if layout.minor_units and isinstance(value, str) and _has_decimals(value, layout):
        raise Bad(RowReason.NOT_AN_AMOUNT, f"{shown(value)} is not in whole minor units: with file.minor_units = false it is {number:f}")
    try:
        return to_minor(number, WHOLE if layout.minor_units else currency, times)
    except NoAmount as error:
        raise Bad(RowReason.NOT_AN_AMOUNT, f"{shown(value)}: {error}") from error


def _has_decimals(text: str, layout: FileLayout) -> bool:
    """A single zero is none: so programs write whole numbers that some rows lack."""
    _, sign, fraction = text.partition(layout.decimal)
    return bool(sign) and fraction != "0"


def as_decimal(value: object, layout: FileLayout) -> Decimal:
    """The number that is written, exactly. Raises Bad."""
    match value:
        case bool():
            pass
        case int() | Decimal():
            return Decimal(value)
        case float():
            return Decimal(repr(value))
        case str():
            number = layout.numerals.read(value)
            if number is not None:
                return number
            if otherwise := other_readings(value, layout.numerals):
                raise Bad(RowReason.NOT_AN_AMOUNT, f"{shown(value)} is no number as the mapping says they are written; {otherwise}")
    example = layout.numerals.written(EXAMPLE)
    raise Bad(RowReason.NOT_AN_AMOUNT, f"{shown(value)}: a number such as {example} is expected, without a currency or blanks")


def as_quantity(value: object, layout: FileLayout, weighed_as_one: bool) -> int:
    """How many; what was weighed counts as one piece where the mapping says so. Raises Bad."""
    number = _number(value, layout, "a number of pieces")
    if number == number.to_integral_value():
        return int(number)
    if weighed_as_one:
        return 1 if number > 0 else -1
    raise Bad(RowReason.NOT_A_QUANTITY, f"{shown(value)} is no whole number: weighed_as_one in the mapping counts it as one piece")


def as_whole(value: object, layout: FileLayout) -> int:
    """A whole number. Raises Bad."""
    number = _number(value, layout, "a whole number")
    if number != number.to_integral_value() or (isinstance(value, str) and _has_decimals(value, layout)):
        otherwise = other_readings(value, layout.numerals) if isinstance(value, str) else ""
        raise Bad(RowReason.NOT_A_QUANTITY, f"{shown(value)} is not written as a whole number{otherwise and '; '}{otherwise}")
    return int(number)


def _number(value: object, layout: FileLayout, name: str) -> Decimal:
    try:
        number = as_decimal(value, layout)
    except Bad as bad:
        raise Bad(RowReason.NOT_A_QUANTITY, bad.fault.detail) from bad
    if not number.is_finite() or abs(number) > 10**9:
        raise Bad(RowReason.NOT_A_QUANTITY, f"{shown(value)}: {name} is expected")
    return number


def as_flag(value: object, layout: FileLayout) -> bool:
    """Yes or no. Raises Bad."""
    word = (as_text(value, layout) or "").lower()
    if word in YES or word in NO:
        return word in YES
    raise Bad(RowReason.NOT_YES_OR_NO, f"{shown(value)}: yes or no is expected, as true/false, 1/0, yes/no or granted/withdrawn")


def as_choice(value: object, layout: FileLayout, words: Sequence[str]) -> str:
    """One of these words, however it is capitalised, and with blanks or hyphens for underscores. Raises Bad."""
    word = (as_text(value, layout) or "").lower()
    found = next((each for each in (word, word.translate(_AS_UNDERSCORES)) if each in words), None)
    if found is None:
        raise Bad(RowReason.NOT_A_CHOICE, f"{shown(value)}: one of {', '.join(words)} is expected")
    return found
