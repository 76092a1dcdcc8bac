"""Reads batches of customer-events-v1 into columns: the hot path, so it reads only what rows need."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np

from services.segmentation.domain.arrays import ids_from_hex
from services.segmentation.domain.events import DAY_MS, EventBatch, Kind, event_batch
from shared.contracts.envelope import Event, EventData
from shared.contracts.fast import fast_struct
from shared.contracts.interactions import InteractionRecorded
from shared.contracts.purchases import PurchaseRecorded, PurchaseRefunded
from shared.streaming.errors import Reject
from shared.streaming.records import ORIGIN_HEADER, Record

_LAST_DAY = 47_481
"""2099-12-31: what is later is a till with a broken clock."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_ORDINAL = _EPOCH.toordinal()
_MILLISECOND = timedelta(milliseconds=1)

_NEWLINE, _KEY_DIGITS = b"\n", 32
_KINDS = {"CouponRedeemed": Kind.COUPON_REDEMPTION, "ComplaintMade": Kind.COMPLAINT}


def _tagged(model: type[EventData], *only: str) -> type[msgspec.Struct]:
    """The contract's envelope, reduced to what is read, told apart by its type."""
    base = fast_struct(Event[model], frozenset(("time", *only)))  # type: ignore[valid-type]
    return msgspec.defstruct(model.__name__, [], bases=(base,), tag_field="type", tag=model.event_type, frozen=True, gc=False)


_Purchase = _tagged(PurchaseRecorded, "data.currency", "data.lines.amount_minor")
_Refund = _tagged(PurchaseRefunded, "data.currency", "data.amount_minor")
_Interaction = _tagged(InteractionRecorded, "data.kind")
_DECODER: msgspec.json.Decoder[Any] = msgspec.json.Decoder(_Purchase | _Refund | _Interaction)


class Origin(msgspec.Struct, frozen=True, gc=False):
    """Where an event entered: its log (`topic id/partition`) and its offset there."""

    log: bytes
    offset: int


@dataclass(slots=True)
class Decoded:
    """What a batch says: events to apply with their offsets, and what can never be applied."""

    events: EventBatch
    offsets: list[int]
    rejects: list[Reject] = field(default_factory=list)
    rejected_origins: list[Origin] = field(default_factory=list)


def origin_of(record: Record) -> Origin | None:
    """The origin in a record's headers, if it has one that can be read."""
    try:
        for name, value in record.headers:
            if name == ORIGIN_HEADER:
                log, offset, _ = value.rsplit(b"/", 2)
                return Origin(log, int(offset))
    except ValueError:
        pass
    return None


def decode(records: Sequence[tuple[Record, Origin]], currency: str) -> Decoded:
    """Read records into columns; one that cannot be applied becomes a Reject with its reason."""
    try:
        return Decoded(_decode_together([record for record, _ in records], currency), [record.offset for record, _ in records])
    except (ValueError, TypeError, RecursionError):
        # Something in there cannot be applied: one by one, it is found.
        return _decode_each(records, currency)


def _decode_together(records: Sequence[Record], currency: str) -> EventBatch:
    """All of them in one call of the decoder. Raises ValueError or TypeError where any is not as it should be."""
    if not records:
        return event_batch([])
    joined, keys = _NEWLINE.join([record.value for record in records]), [record.key for record in records]  # type: ignore[misc]
    # A line each, and none of them empty or of several events: then the events are the records', in their order.
    if joined.count(_NEWLINE) != len(records) - 1 or set(map(len, keys)) != {_KEY_DIGITS}:  # type: ignore[arg-type]
        raise ValueError("not one event a line, or a key that is no profile id")
    events = _DECODER.decode_lines(joined)
    if len(events) != len(records):
        raise ValueError("an event is empty")
    ids = ids_from_hex(b"".join(keys))  # type: ignore[arg-type]
    at_ms = np.rint(np.array([event.time.timestamp() for event in events]) * 1e6).astype(np.int64) // 1000
    if int(at_ms.min()) < 0 or int(at_ms.max()) >= (_LAST_DAY + 1) * DAY_MS:
        raise ValueError("a time out of range")
    kind, amount_minor, lines = (np.array(column, dtype=np.int64) for column in _columns(events, currency))
    return EventBatch(ids, kind, at_ms, amount_minor, lines)


def _columns(events: Sequence[Any], currency: str) -> Iterable[Sequence[int]]:
    """Kind, amount and number of lines of each event. Raises ValueError."""
    if set(map(type, events)) != {_Purchase}:
        return zip(*[_READ[type(event)](event.data, currency) for event in events], strict=True)
    purchases = [event.data for event in events]
    for said in {purchase.currency for purchase in purchases}:
        _check_currency(said, currency)
    lines = [purchase.lines for purchase in purchases]
    counts = list(map(len, lines))
    if max(counts) == 1:
        return [Kind.PURCHASE] * len(events), [line[0].amount_minor for line in lines], counts
    return [Kind.PURCHASE] * len(events), [sum([line.amount_minor for line in each]) for each in lines], counts


def _decode_each(records: Iterable[tuple[Record, Origin]], currency: str) -> Decoded:
    rows: list[tuple[bytes, int, int, int, int]] = []
    decoded = Decoded(event_batch([]), [])
    for record, origin in records:
        try:
            rows.append(_row(record, currency))
        except (ValueError, RecursionError) as error:
            decoded.rejects.append(_reject(record, error))
            decoded.rejected_origins.append(origin)
        else:
            decoded.offsets.append(record.offset)
    decoded.events = event_batch(rows)
    return decoded


class _Refused(ValueError):
    """An event that decodes and still cannot be applied."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def _reject(record: Record, error: Exception) -> Reject:
    if isinstance(error, _Refused):
        reason = error.reason
    elif isinstance(error, msgspec.ValidationError):
        reason = "unknown-type" if "`$.type`" in str(error) else "invalid-event"
    else:
        reason = "invalid-json"
    return Reject(record.offset, reason, str(error))


def _row(record: Record, currency: str) -> tuple[bytes, int, int, int, int]:
    key, value = record.key, record.value
    if key is None or value is None or len(key) != _KEY_DIGITS:
        raise _Refused("invalid-key", "the key must be a profile id of 32 hexadecimal digits, the value an event")
    event = _DECODER.decode(value)
    kind, amount, lines = _READ[type(event)](event.data, currency)
    return bytes.fromhex(key.decode("ascii")), kind, _milliseconds(event.time), amount, lines


def _read_purchase(data: Any, currency: str) -> tuple[int, int, int]:
    _check_currency(data.currency, currency)
    lines = data.lines
    if len(lines) == 1:
        return Kind.PURCHASE, lines[0].amount_minor, 1
    return Kind.PURCHASE, sum([line.amount_minor for line in lines]), len(lines)


def _read_refund(data: Any, currency: str) -> tuple[int, int, int]:
    _check_currency(data.currency, currency)
    return Kind.REFUND, data.amount_minor, 0


def _read_interaction(data: Any, _: str) -> tuple[int, int, int]:
    return _KINDS.get(data.kind, Kind.INTERACTION), 0, 0


_READ: dict[type, Callable[[Any, str], tuple[int, int, int]]] = {
    _Purchase: _read_purchase,
    _Refund: _read_refund,
    _Interaction: _read_interaction,
}


def _check_currency(said: str, reporting: str) -> None:
    if said != reporting:
        raise _Refused("foreign-currency", f"amounts in {said}; this deployment reports in {reporting}")


def _milliseconds(time: datetime) -> int:
    if time.tzinfo is UTC:
        day = time.toordinal() - _EPOCH_ORDINAL
        at = day * DAY_MS + ((time.hour * 60 + time.minute) * 60 + time.second) * 1000 + time.microsecond // 1000
    else:
        at = (time - _EPOCH) // _MILLISECOND
        day = at // DAY_MS
    if not 0 <= day <= _LAST_DAY:
        raise _Refused("time-out-of-range", f"{time.isoformat()} is not between 1970 and 2099")
    return at
