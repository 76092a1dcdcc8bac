"""Records into what the handlers need of them; what cannot be read becomes a reject."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from services.campaigns.domain.loyalty import Purchase
from shared.contracts.envelope import Event
from shared.contracts.fast import fast_decoder
from shared.contracts.purchases import PurchaseRecorded, PurchaseRefunded
from shared.streaming.errors import InvalidEvents, Reject
from shared.streaming.records import Batch, Record

PROFILE_ID_LENGTH = 32

_NAMES = {"id", "source", "type", "time"}
_BOUGHT = PurchaseRecorded.event_type
_REFUNDED = PurchaseRefunded.event_type
_bought = fast_decoder(Event[PurchaseRecorded], _NAMES | {"data.lines.amount_minor"})
_refunded = fast_decoder(Event[PurchaseRefunded], _NAMES | {"data.amount_minor", "data.purchase_id"})


class _Typed(msgspec.Struct, gc=False):
    type: str


_typed = msgspec.json.Decoder(_Typed)


@dataclass(frozen=True, slots=True)
class Told:
    """A readable record: its key, and the event, or nothing where the key's last word was taken back."""

    key: str
    event: Any


def read_all(batch: Batch, decoder: msgspec.json.Decoder[Any]) -> tuple[list[Told], list[Reject]]:
    """Every record of a topic that carries one type of event."""
    told: list[Told] = []
    rejects: list[Reject] = []
    for record in batch.records:
        try:
            told.append(Told(_key(record), decoder.decode(record.value) if record.value is not None else None))
        except ValueError as error:
            rejects.append(_reject(record, error))
    return told, rejects


def read_type(batch: Batch, event_type: str, decoder: msgspec.json.Decoder[Any]) -> tuple[list[Told], list[Reject]]:
    """The records of one type of event in a topic that carries several."""
    told: list[Told] = []
    rejects: list[Reject] = []
    for record in batch.records:
        try:
            value = record.value or b""
            if _typed.decode(value).type == event_type:
                told.append(Told(_key(record), decoder.decode(value)))
        except ValueError as error:
            rejects.append(_reject(record, error))
    return told, rejects


def read_purchases(records: Sequence[Record]) -> tuple[list[Purchase], list[Reject]]:
    """The purchases and refunds among customer events; interactions earn nothing."""
    purchases: list[Purchase] = []
    rejects: list[Reject] = []
    for record in records:
        try:
            purchase = _purchase(record)
        except ValueError as error:
            rejects.append(_reject(record, error))
            continue
        if purchase is not None:
            purchases.append(purchase)
    return purchases, rejects


def _purchase(record: Record) -> Purchase | None:
    value = record.value or b""
    # A guess that spares reading the type first; the type that is then read decides.
    if b'"dear.PurchaseRecorded"' in value:
        event = _bought.decode(value)
        if event.type == _BOUGHT:
            amount = sum([line.amount_minor for line in event.data.lines])
            return Purchase(event.source, event.id, _profile(record), amount, False, event.time)
    event_type = _typed.decode(value).type
    if event_type == _REFUNDED:
        event = _refunded.decode(value)
        data = event.data
        return Purchase(event.source, event.id, _profile(record), data.amount_minor, True, event.time, data.purchase_id)
    return None


def _key(record: Record) -> str:
    return (record.key or b"").decode()


def _profile(record: Record) -> str:
    profile = _key(record)
    if len(profile) != PROFILE_ID_LENGTH:
        raise ValueError(f"the key {profile!r} is no profile id")
    return profile


def _reject(record: Record, error: ValueError) -> Reject:
    return Reject(record.offset, "invalid", str(error))


def plain(struct: msgspec.Struct) -> dict[str, Any]:
    """A decoded part of an event as a dictionary, one level deep."""
    return {name: getattr(struct, name) for name in struct.__struct_fields__}


def park(rejects: Sequence[Reject]) -> None:
    """Raise InvalidEvents if there are any."""
    if rejects:
        raise InvalidEvents(tuple(rejects))
