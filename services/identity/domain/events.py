"""From the bytes that a source sent to an event that identity can keep."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any, Generic

import msgspec

from services.identity.domain.faults import explain
from services.identity.domain.references import NamesNobody, Naming
from services.identity.domain.rejects import Refusal, Refused, RejectReason
from shared.contracts.customers import ConsentChanged, CustomerIdentified, MergeRequested, SplitRequested
from shared.contracts.envelope import EVENT_BYTES_MAX, Data, Event, EventData
from shared.contracts.fast import fast_decoder, fast_struct
from shared.contracts.interactions import InteractionRecorded
from shared.contracts.purchases import PurchaseRecorded, PurchaseRefunded
from shared.contracts.topics import CUSTOMER_UPDATES, INTERACTIONS, PURCHASES, Topic

EVENT_LIMIT_BYTES = EVENT_BYTES_MAX
SEPARATOR = "\x1f"
SOURCE_TOPICS = (PURCHASES, INTERACTIONS, CUSTOMER_UPDATES)
TOPIC_OF_TYPE = {data.event_type: topic for topic in SOURCE_TOPICS for data in topic.carries}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
REQUESTS = frozenset({MergeRequested.event_type, SplitRequested.event_type})
"""What only Dear's own API sends: who may ask for it is decided there."""
LINK = "link/"
"""How the ids of events begin that a way in made of names which came together: nobody stated them."""
FIRST_YEAR, LAST_YEAR = 1970, 2099
"""No shop has events of other years; those who count days from 1970 need not be able to."""
_LARGEST_STORED = 2**63


class SourceEnvelope(Event[Data], Generic[Data]):
    """What sources send."""

    sourcetime: str | None = None
    """An extension attribute of the ingest edge: the time as the source wrote it, where the edge corrected it."""


class _Head(msgspec.Struct):
    type: str


class SourceEvent(msgspec.Struct, frozen=True, gc=False):
    """One valid event: its name, whom it is about, what it says, and the bytes that are kept."""

    key: str
    """Source and id: its name for ever."""
    type: str
    at: datetime
    references: tuple[str, ...]
    """Normalised, as the event orders them; empty for an anonymous one."""
    data: Any
    value: bytes
    """The event as it is kept and passed on: normalised, without what only the way here added."""
    content_hash: bytes
    dropped: tuple[NamesNobody, ...] = ()
    """Why those references that name nobody were left out."""

    @property
    def topic(self) -> Topic:
        return TOPIC_OF_TYPE[self.type]

    @property
    def retired(self) -> tuple[str, ...]:
        """The references that a form says to be theirs no more."""
        return (self.data.retired or ()) if self.type == CustomerIdentified.event_type else ()

    @property
    def asks_about(self) -> tuple[str, ...]:
        """The profiles that a request to merge or split names."""
        if self.type == MergeRequested.event_type:
            return (self.data.customer_id, self.data.other_id)
        return (self.data.customer_id, *self.data.profiles) if self.type == SplitRequested.event_type else ()

    @property
    def at_us(self) -> int:
        """In microseconds since 1970."""
        return (self.at - EPOCH) // timedelta(microseconds=1)

    @property
    def id(self) -> str:
        return self.key.partition(SEPARATOR)[2]

    @property
    def source(self) -> str:
        return self.key.partition(SEPARATOR)[0]


_head = msgspec.json.Decoder(_Head)
_encoder = msgspec.json.Encoder(order="deterministic")
_MODELS: dict[str, type[EventData]] = {data.event_type: data for topic in SOURCE_TOPICS for data in topic.carries}
OFFERED_MODELS = tuple(model for name, model in _MODELS.items() if name not in REQUESTS)
"""What sources may send."""
_OFFERED = tuple(model.event_type for model in OFFERED_MODELS)
_DECODERS = {name: fast_decoder(SourceEnvelope[model]) for name, model in _MODELS.items()}  # type: ignore[valid-type]
_KEPT = {name: fast_struct(Event[model]) for name, model in _MODELS.items()}  # type: ignore[valid-type]
NAMING = Naming()
"""Of a shop that says nothing of its countries and numbers."""
_PRICED = (PurchaseRecorded.event_type, PurchaseRefunded.event_type)


def read_event(raw: bytes | None, currency: str, topic: Topic | None = None, naming: Naming = NAMING) -> SourceEvent | Refusal:
    """Read one event in CloudEvents' JSON; `topic` is where it was found, where that is known."""
    try:
        return _read(raw or b"", currency, topic, naming)
    except Refused as refused:
        return refused.refusal


def _read(raw: bytes, currency: str, topic: Topic | None, naming: Naming) -> SourceEvent:
    if len(raw) > EVENT_LIMIT_BYTES:
        raise Refused(RejectReason.OVERSIZED, f"the event has {len(raw)} bytes; at most {EVENT_LIMIT_BYTES} are taken")
    try:
        kind = _head.decode(raw).type
        event = _DECODERS[kind].decode(raw)
    except (ValueError, KeyError, RecursionError) as error:
        raise explain(raw, _MODELS, _OFFERED, str(error)) from error
    if topic is not None and TOPIC_OF_TYPE[kind] is not topic:
        raise Refused(RejectReason.WRONG_TOPIC, f"{kind} belongs to {TOPIC_OF_TYPE[kind].name}, not {topic.name}")
    if kind in _PRICED and event.data.currency != currency:
        raise Refused(RejectReason.FOREIGN_CURRENCY, f"data/currency: {event.data.currency} is not the reporting currency {currency}")
    return _kept(kind, event, naming)


def _kept(kind: str, event: Any, naming: Naming) -> SourceEvent:
    at = _possible(event.time)
    _check_name(event)
    data, references, dropped = _with_references(kind, event.data, naming)
    if kind == CustomerIdentified.event_type:
        _check_days(data.assets, at)
    kept = _KEPT[kind](specversion=event.specversion, id=event.id, source=event.source, type=kind, time=at, data=data)
    value = _encoder.encode(kept)
    return SourceEvent(
        key=event.source + SEPARATOR + event.id,
        type=kind,
        at=at,
        references=references,
        data=data,
        value=value,
        content_hash=_hash(kept, value, event.sourcetime),
        dropped=dropped,
    )


def _hash(kept: Any, value: bytes, source_time: str | None) -> bytes:
    """Of what the source wrote: where the edge corrected the time, the source's own spelling stands for it."""
    written = value if source_time is None else _encoder.encode(msgspec.structs.replace(kept, time=EPOCH)) + source_time.encode()
    return hashlib.blake2b(written, digest_size=16).digest()


def _possible(at: datetime) -> datetime:
    """The time in UTC."""
    try:
        at = at if at.tzinfo is UTC else at.astimezone(UTC)
    except OverflowError as error:
        raise _out_of_range(at) from error
    if not FIRST_YEAR <= at.year <= LAST_YEAR:
        raise _out_of_range(at)
    return at


def _out_of_range(at: datetime) -> Refused:
    return Refused(RejectReason.TIME_OUT_OF_RANGE, f"time: {at.isoformat()} is not in the years {FIRST_YEAR} to {LAST_YEAR} (UTC)")


def _check_name(event: Any) -> None:
    for name in (event.source, event.id):
        if not name.isprintable():
            raise Refused(RejectReason.INVALID, "source, id: control characters are not taken in a name")


def _with_references(kind: str, data: Any, naming: Naming) -> tuple[Any, tuple[str, ...], tuple[NamesNobody, ...]]:
    """The data with its references in their one spelling, these references, and why others are left out.

    Money and deeds count without a name, as an anonymous sale does; a statement about nobody is refused.
    """
    if kind == CustomerIdentified.event_type:
        _check_integers(data.traits, "traits")
        return _with_several(data, naming)
    if kind in REQUESTS:
        return data, (), ()
    if kind == InteractionRecorded.event_type:
        _check_integers(data.properties, "properties")
    if data.reference is None:
        return data, (), ()
    store = data.store if kind in _PRICED else data.properties.get("store") if kind == InteractionRecorded.event_type else None
    reference = naming.read(data.reference, store)
    if isinstance(reference, NamesNobody):
        if kind == ConsentChanged.event_type:
            raise _nobody("data/reference", reference)
        return msgspec.structs.replace(data, reference=None), (), (reference,)
    return (data if reference == data.reference else msgspec.structs.replace(data, reference=reference)), (reference,), ()


def _with_several(data: Any, naming: Naming) -> tuple[Any, tuple[str, ...], tuple[NamesNobody, ...]]:
    store = data.traits.get("store")
    found = [naming.read(each, store) for each in data.references]
    gone = [naming.spell(each, store) for each in data.retired or ()]
    references = _names(found)
    if not references:
        raise _nobody("data/references", *(each for each in found if isinstance(each, NamesNobody)))
    if references != data.references:
        data = msgspec.structs.replace(data, references=references)
    if data.retired is not msgspec.UNSET:
        # An empty list says what no list says, and is the same event.
        data = msgspec.structs.replace(data, retired=_names(gone) or msgspec.UNSET)
    return data, references, tuple(each for each in (*found, *gone) if isinstance(each, NamesNobody))


def _names(found: Iterable[str | NamesNobody]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(each for each in found if isinstance(each, str)))


def _nobody(path: str, *rules: NamesNobody) -> Refused:
    why = ", ".join(dict.fromkeys(each.value for each in rules))
    return Refused(RejectReason.NAMES_NOBODY, f"{path}: names nobody ({why}); say whom it is about")


def _check_days(assets: Any, at: datetime) -> None:
    for asset in assets:
        for name in ("since", "serviced_on", "warranty_ends_on", "renews_on", "read_on"):
            day = getattr(asset, name)
            try:
                _ = day is None or date.fromisoformat(day)
            except ValueError as error:
                raise Refused(RejectReason.INVALID, f"data/assets: {name} is no day of the calendar") from error
        # East of Greenwich it may be tomorrow already.
        if asset.read_on is not None and date.fromisoformat(asset.read_on) > at.date() + timedelta(days=1):
            raise Refused(RejectReason.INVALID, "data/assets: read_on is later than the event")


def _check_integers(values: dict[str, object], name: str) -> None:
    for key, value in values.items():
        if isinstance(value, int) and not -_LARGEST_STORED <= value < _LARGEST_STORED:
            raise Refused(RejectReason.INVALID, f"data/{name}/{key}: the number does not fit into 64 bits")


def details(event: SourceEvent) -> Iterator[tuple[str, str, str, object]]:
    """What an event says of people and things of the customer, as (kind, its id, field, value); what it does not say is left out."""
    if event.type == CustomerIdentified.event_type:
        for kind, key, said in (("decision_maker", "person_id", event.data.decision_makers), ("asset", "asset_id", event.data.assets)):
            for each in said:
                fields = msgspec.structs.asdict(each)
                name = fields.pop(key)
                yield from ((kind, name, field, value) for field, value in fields.items() if value is not None)


def statements(event: SourceEvent) -> Iterator[Any]:
    """The consents that an event states, each with the fields of ConsentStatement."""
    if event.type in (CustomerIdentified.event_type, ConsentChanged.event_type):
        yield from event.data.consents
