"""Reads batches of customer-events-v1 into columns: the hot path, so it reads only what rows need."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any

import msgspec
import numpy as np

from services.segmentation.domain.arrays import Ids, Integers, ids_from_hex
from services.segmentation.domain.bonds import BOND_OF_KIND
from services.segmentation.domain.events import DAY_MS, Categories, EventBatch, Kind, event_batch
from services.segmentation.domain.names import EMAIL_SENT, NEED, REFUNDS, STATES_NEEDS, UNTRACKED, code_of
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
_MOST_NAMES = 4096
_OTHERS = "(other)"


def _tagged(model: type[EventData], *only: str) -> Any:
    """The contract's envelope, reduced to what is read, told apart by its type; identity has checked how its texts are spelt."""
    base = fast_struct(Event[model], frozenset(("time", *only)), checked=False)  # type: ignore[valid-type]
    return msgspec.defstruct(model.__name__, [], bases=(base,), tag_field="type", tag=model.event_type, frozen=True, gc=False)


_LINE = tuple(f"data.lines.{name}" for name in ("amount_minor", "quantity", "department", "category", "unit_cost_minor"))
_Purchase = _tagged(PurchaseRecorded, "data.currency", *_LINE)
_PurchaseOfSkus = _tagged(PurchaseRecorded, "data.currency", "data.lines.sku", *_LINE)
_Refund = _tagged(PurchaseRefunded, "data.currency", "data.amount_minor")
_Interaction = _tagged(InteractionRecorded, "data.kind", "data.properties")
_DECODER: msgspec.json.Decoder[Any] = msgspec.json.Decoder(_Purchase | _Refund | _Interaction)
_DECODER_OF_SKUS: msgspec.json.Decoder[Any] = msgspec.json.Decoder(_PurchaseOfSkus | _Refund | _Interaction)


class Codes(dict[str | None, int]):
    """The code of each name that was met, and back; nothing has the code 0. Beyond some thousands, names share one."""

    def __init__(self) -> None:
        super().__init__({None: 0})
        self.texts: dict[int, str] = {}

    def __missing__(self, name: str) -> int:
        text = name if len(self.texts) < _MOST_NAMES else _OTHERS
        code = self[name] = code_of(text)
        self.texts[code] = text
        return code


class Product(msgspec.Struct, frozen=True, gc=False):
    """What a product list says of one product."""

    unit_cost_minor: int | None = None
    category: str | None = None


@dataclass(slots=True)
class Reading:
    """What events are read by."""

    currency: str
    by_category: bool = False
    """Needs are told apart by category; otherwise by department, and by category only where a line has none."""
    products: dict[str, Product] = field(default_factory=dict)
    """By sku; what a line says of itself comes first."""
    codes: Codes = field(default_factory=Codes)

    @property
    def decoder(self) -> msgspec.json.Decoder[Any]:
        """Reads skus only where there is a product list."""
        return _DECODER_OF_SKUS if self.products else _DECODER


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


def decode(records: Sequence[Record], reading: Reading) -> Decoded:
    """Read records into columns; one that cannot be applied becomes a Reject with its reason."""
    try:
        return Decoded(_decode_together(records, reading), [record.offset for record in records])
    except (ValueError, TypeError, RecursionError):
        # Something in there cannot be applied: one by one, it is found.
        return _decode_each(records, reading)


def _decode_together(records: Sequence[Record], reading: Reading) -> EventBatch:
    """All of them in one call of the decoder. Raises ValueError or TypeError where any is not as it should be."""
    if not records:
        return event_batch([])
    joined, keys = _NEWLINE.join([record.value for record in records]), [record.key for record in records]  # type: ignore[misc]
    # A line each, and none of them empty or of several events: then the events are the records', in their order.
    if joined.count(_NEWLINE) != len(records) - 1 or set(map(len, keys)) != {_KEY_DIGITS}:  # type: ignore[arg-type]
        raise ValueError("not one event a line, or a key that is no profile id")
    events = reading.decoder.decode_lines(joined)
    if len(events) != len(records):
        raise ValueError("an event is empty")
    ids = ids_from_hex(b"".join(keys))  # type: ignore[arg-type]
    at_ms = np.rint(np.array([event.time.timestamp() for event in events]) * 1e6).astype(np.int64) // 1000
    if int(at_ms.min()) < 0 or int(at_ms.max()) >= (_LAST_DAY + 1) * DAY_MS:
        raise ValueError("a time out of range")
    for said in {event.data.currency for event in events if type(event) is not _Interaction}:
        _check_currency(said, reading.currency)
    return _batch_of(ids, at_ms, events, reading)


def _decode_each(records: Iterable[Record], reading: Reading) -> Decoded:
    ids: list[bytes] = []
    at_ms: list[int] = []
    events: list[Any] = []
    decoded = Decoded(event_batch([]), [])
    for record in records:
        try:
            profile, at, event = _read(record, reading)
        except (ValueError, RecursionError) as error:
            decoded.rejects.append(_reject(record, error))
            origin = origin_of(record)
            decoded.rejected_origins += [] if origin is None else [origin]
        else:
            ids.append(profile)
            at_ms.append(at)
            events.append(event)
            decoded.offsets.append(record.offset)
    if events:
        decoded.events = _batch_of(ids_from_hex(b"".join(ids)), np.array(at_ms, dtype=np.int64), events, reading)
    return decoded


def _batch_of(ids: Ids, at_ms: Integers, events: Sequence[Any], reading: Reading) -> EventBatch:
    """Columns of valid events."""
    kinds = set(map(type, events))
    if _Refund not in kinds and _Interaction not in kinds:
        every = np.arange(len(events))
        amount, lines, costs, categories = _purchases(every, [event.data for event in events], reading)
        zeros = np.zeros(len(events), dtype=np.int64)
        return EventBatch(ids, zeros, at_ms, amount, lines, costs=costs, categories=categories, texts=reading.codes.texts)
    return _mixed(ids, at_ms, events, reading)


def _mixed(ids: Ids, at_ms: Integers, events: Sequence[Any], reading: Reading) -> EventBatch:
    kind, amount, lines, name, bonds = np.zeros((5, len(events)), dtype=np.int64)
    for place, event in enumerate(events):
        if type(event) is _Refund:
            kind[place], amount[place], name[place] = Kind.REFUND, event.data.amount_minor, reading.codes[REFUNDS]
        elif type(event) is _Interaction:
            said = event.data
            kind[place], bonds[place] = _KINDS.get(said.kind, Kind.INTERACTION), BOND_OF_KIND.get(said.kind, 0)
            name[place] = reading.codes[_name_of(said)]
    bought = np.flatnonzero(kind == Kind.PURCHASE)
    costs = categories = None
    if len(bought):
        data = [events[place].data for place in bought.tolist()]
        amount[bought], lines[bought], known, categories = _purchases(bought, data, reading)
        if known is not None:
            costs = np.zeros((len(events), 4), dtype=np.int64)
            costs[bought] = known
    return EventBatch(ids, kind, at_ms, amount, lines, name, bonds, costs, categories, reading.codes.texts)


def _name_of(said: Any) -> str:
    """What an interaction is counted as."""
    if said.kind == EMAIL_SENT and said.properties.get("tracked") is False:
        return f"{EMAIL_SENT}{UNTRACKED}"
    need = said.properties.get("need") if said.kind in STATES_NEEDS else None
    return f"{NEED}{need}" if isinstance(need, str) else str(said.kind)


def _purchases(
    places: Integers, purchases: Sequence[Any], reading: Reading
) -> tuple[Integers, Integers, Integers | None, Categories | None]:
    """Amount and number of lines of each, what is known of costs, and the categories of the lines, whose events have these places."""
    each = [purchase.lines for purchase in purchases]
    lines = [line[0] for line in each] if max(map(len, each)) == 1 else list(chain.from_iterable(each))
    counts = np.fromiter(map(len, each), np.int64, len(each))
    starts = np.cumsum(counts) - counts
    amounts = np.array([line.amount_minor for line in lines], dtype=np.int64)
    amount = amounts if len(lines) == len(each) else np.add.reduceat(amounts, starts)
    listed = [reading.products.get(line.sku, _NOTHING_KNOWN) for line in lines] if reading.products else None
    costs = _costs(lines, amounts, listed)
    return amount, counts, None if costs is None else np.add.reduceat(costs, starts), _categories(places, counts, lines, listed, reading)


_NOTHING_KNOWN = Product()


def _costs(lines: Sequence[Any], amounts: Integers, listed: Sequence[Product] | None) -> Integers | None:
    """Shape (lines, 4): revenue and cost of lines that say their cost, and of those whose cost the product list says."""
    said = [line.unit_cost_minor for line in lines]
    known = [product.unit_cost_minor for product in listed] if listed else []
    if said.count(None) == len(said) and known.count(None) == len(known):
        return None
    costs = np.zeros((len(lines), 4), dtype=np.int64)
    for place, (line, own) in enumerate(zip(lines, said, strict=True)):
        cost = own if own is not None else known[place] if known else None
        if cost is not None:
            at = 0 if own is not None else 2
            costs[place, at], costs[place, at + 1] = amounts[place], cost * line.quantity
    return costs


def _categories(
    places: Integers, counts: Integers, lines: Sequence[Any], listed: Sequence[Product] | None, reading: Reading
) -> Categories | None:
    if reading.by_category:
        names = [line.category or line.department for line in lines]
    else:
        names = [line.department or line.category for line in lines]
    if listed:
        names = [name or product.category for name, product in zip(names, listed, strict=True)]
    codes = np.fromiter(map(reading.codes.__getitem__, names), np.int64, len(names))
    named = np.flatnonzero(codes)
    if not len(named):
        return None
    events = places if len(lines) == len(counts) else np.repeat(places, counts)
    return Categories(events[named], codes[named])


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


def _read(record: Record, reading: Reading) -> tuple[bytes, int, Any]:
    """The key, the time in milliseconds and the event. Raises ValueError."""
    key, value = record.key, record.value
    if key is None or value is None or len(key) != _KEY_DIGITS:
        raise _Refused("invalid-key", "the key must be a profile id of 32 hexadecimal digits, the value an event")
    event = reading.decoder.decode(value)
    if type(event) is not _Interaction:
        _check_currency(event.data.currency, reading.currency)
    bytes.fromhex(key.decode("ascii"))
    return key, _milliseconds(event.time), event


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
