"""Segment's dialect: its messages as CloudEvents of ours."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, get_args

from services.identity.domain import segment_orders as orders
from services.identity.domain.events import LINK
from services.identity.domain.reading import Json, a_moment, a_text, an_object, invalid, reference, scalars, write_json
from services.identity.domain.references import Naming, is_address
from services.identity.domain.rejects import Refused, RejectReason
from services.identity.domain.segment_orders import Order
from shared.contracts.customers import Channel, CustomerIdentified, CustomerType, LeadSource
from shared.contracts.envelope import derived_id
from shared.contracts.interactions import InteractionRecorded

SOURCE = "segment"
FIRST_NAMES = {
    "Viewed Product": "ProductViewed",
    "Viewed Product Category": "ProductListViewed",
    "Added Product": "ProductAdded",
    "Removed Product": "ProductRemoved",
}
"""What the first version of the e-commerce specification called what the second calls otherwise."""
_OF_THE_WAY = ("sentAt", "receivedAt", "writeKey", "context")
_REFERENCE_TRAITS = ("loyalty_card", "email", "phone", "line")
_WISHES = ("language", "time_zone")
_CHOICES: Mapping[str, Sequence[str]] = {
    "preferred_channel": get_args(Channel),
    "customer_type": get_args(CustomerType),
    "lead_source": get_args(LeadSource),
}
"""Traits that Dear understands where they say one of its words; a shop's own words for them stay traits."""
_LISTS = {"assets": "asset_id", "decision_makers": "person_id"}
"""The same of lists of objects, which are ours where each has such an id."""
_TITLE_CASE = re.compile(r"[A-Z][A-Za-z0-9]*(?: [A-Z0-9][A-Za-z0-9]*)+")
_GENERATED = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)
_WHO = "give a userId or an anonymousId"
_WHENEVER = ""
"""Stands for the time of what is the same whenever it is said."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """How a message came, and how it is read here."""

    received_at: datetime
    sent_at: object
    """By the sender's clock."""
    currency: str
    """Of those that name none."""
    naming: Naming
    new_id: Callable[[], str]
    """Names what nothing else tells apart."""


@dataclass(frozen=True, slots=True)
class Link:
    """References that one message names together. On one day the same ones have the same name, and so are one event."""

    name: str
    references: tuple[str, ...]
    at: datetime

    def event(self) -> bytes:
        """As an event that says nothing else."""
        return _event(self.name, CustomerIdentified.event_type, self.at, _WHENEVER, {"references": self.references})


@dataclass(frozen=True, slots=True)
class Told:
    """What a message says: an event, others that follow from it, and who is one person by it."""

    events: list[bytes]
    link: Link | None = None


@dataclass(frozen=True, slots=True)
class _Said:
    event_type: str
    data: dict[str, Any]
    names: Sequence[str] = ()
    """What it calls somebody, where the data has room for one of them."""
    name: str | None = None
    """Where it is what it tells of that gives the event its name, and not the message."""
    firm: dict[str, Any] | None = None
    """What it says of the firm besides."""


def translate(message: Json, kind: str, receipt: Receipt, order: Order | None = None) -> Told:
    """A Segment message as events in CloudEvents' JSON, to be validated like any other. Raises Refused and UnknownOrder.

    `order`: the one that it gives back, where it is known.
    """
    said = _DIALECT[kind](message, receipt, order)
    at, written = _times(message, receipt)
    name = _name(message, kind, receipt)
    told = _event(said.name or name, said.event_type, at, _WHENEVER if said.name else written, said.data)
    if said.firm is not None:
        return Told([told, _event(derived_id(name, "firm"), said.event_type, at, written, said.firm)])
    if len(said.names) < 2:
        return Told([told])
    store = said.data.get("store") or said.data.get("properties", {}).get("store")
    return Told([told], _link(said.names, store, receipt.naming, at))


def _event(name: str, event_type: str, at: datetime, written: str, data: dict[str, Any]) -> bytes:
    frame = {"specversion": "1.0", "id": name, "source": SOURCE, "type": event_type, "time": at.isoformat(), "sourcetime": written}
    return write_json({**frame, "data": data})


def _link(references: Sequence[str], store: object, naming: Naming, at: datetime) -> Link | None:
    """Where two of them are names: what is blocked, or no address or number, links nobody."""
    read = (naming.read(each, store) for each in references)
    spelt = tuple(dict.fromkeys(each for each in read if isinstance(each, str)))
    return Link(LINK + derived_id(SOURCE, at.date(), *spelt), spelt, at) if len(spelt) > 1 else None


def _name(message: Json, kind: str, receipt: Receipt) -> str:
    """The message's own name; else what it says and when; where it says no time either, two that are equal are two."""
    if message.get("messageId"):
        return a_text(message["messageId"], "messageId")
    if _written_time(message) is None:
        return receipt.new_id()
    content = {name: value for name, value in message.items() if name not in _OF_THE_WAY}
    return derived_id(SOURCE, write_json({**content, "type": kind}))


def happened_at(message: Json, receipt: Receipt) -> datetime:
    """When it happened, by our clock. Raises Refused."""
    return _times(message, receipt)[0]


def _written_time(message: Json) -> object:
    return message.get("originalTimestamp") or message.get("timestamp") or None


def _times(message: Json, receipt: Receipt) -> tuple[datetime, str]:
    """`receivedAt - (sentAt - originalTimestamp)`, and the time as the source wrote it, which a retry does not change."""
    written = _written_time(message)
    if written is None:
        return receipt.received_at, _WHENEVER
    original = a_moment(written, "timestamp")
    sent = message.get("sentAt") or receipt.sent_at
    if sent is None:
        return original, str(written)
    try:
        return receipt.received_at - (a_moment(sent, "sentAt") - original), str(written)
    except OverflowError as error:
        raise invalid("timestamp", "outside the years 1 to 9999") from error


def _identified(message: Json, receipt: Receipt, order: Order | None) -> _Said:
    traits = an_object(message.get("traits"), "traits")
    # Last: a device knows least who uses it.
    named = (reference("user", message.get("userId")), *_references_in(traits), reference("anonymous", message.get("anonymousId")))
    references = list(filter(None, named))
    if not references:
        raise Refused(RejectReason.MISSING_REFERENCE, "give a userId, an anonymousId, or a trait email, phone, line or loyalty_card")
    ours = _in_our_words(traits)
    rest = scalars(traits, leave_out=(*_REFERENCE_TRAITS, *ours, "consents"))
    data = {"references": references, "traits": rest, "consents": traits.get("consents") or [], **ours}
    return _Said(CustomerIdentified.event_type, data)


def _in_our_words(traits: Json) -> dict[str, Any]:
    """The traits that Dear knows by name."""
    wishes = {name: traits[name] for name in _WISHES if traits.get(name) is not None}
    choices = {name: traits[name] for name, words in _CHOICES.items() if isinstance(traits.get(name), str) and traits[name] in words}
    lists = {name: traits[name] for name, key in _LISTS.items() if _all_have(key, traits.get(name))}
    return {**wishes, **choices, **lists}


def _all_have(key: str, found: object) -> bool:
    return isinstance(found, list) and bool(found) and all(isinstance(each, dict) and each.get(key) for each in found)


def _grouped(message: Json, receipt: Receipt, order: Order | None) -> _Said:
    """The firm that somebody belongs to is a customer of its own, and what is known of the person; who the person is does not change."""
    traits = an_object(message.get("traits"), "traits")
    group = a_text(message.get("groupId"), "groupId")
    rest = {f"company_{name}": value for name, value in traits.items() if name not in ("name", "id")}
    called = {"company": traits["name"]} if traits.get("name") else {}
    # What a call beside them happens to know of their addresses is no statement on where they are reached.
    who = _who(message)
    references = [each for each in who if not is_address(each)] or who
    data = {"references": references, "traits": scalars({**rest, "company_id": group, **called})}
    return _Said(CustomerIdentified.event_type, data, firm=_firm(message, group, traits))


def _firm(message: Json, group: str, traits: Json) -> dict[str, Any]:
    """What a group call says of the firm. Its address and number name it to nobody: in a small firm they are the owner's."""
    ours = _in_our_words(traits)
    member = _member(message)
    return {
        "references": [f"user:group/{group}"],
        "traits": scalars(traits, leave_out=tuple(ours)),
        **ours,
        "decision_makers": [*ours.get("decision_makers", ()), *([member] if member else [])],
    }


def _member(message: Json) -> dict[str, Any] | None:
    """The person as one who decides at the firm, where the message names them for good."""
    user = reference("user", message.get("userId"))
    if user is None:
        return None
    known = an_object(an_object(message.get("context"), "context").get("traits"), "context/traits")
    said = {"name": known.get("name"), "role": known.get("title")}
    told = {name: text for name, text in said.items() if isinstance(text, str) and text}
    return {"person_id": user.partition(":")[2], "reference": user, **told}


def _aliased(message: Json, receipt: Receipt, order: Order | None) -> _Said:
    """Two names for one person. Whether that merges two customers is not decided here."""
    previous = message.get("previousId")
    kind = "anonymous" if isinstance(previous, str) and _GENERATED.fullmatch(previous) else "user"
    now, before = reference("user", message.get("userId")), reference(kind, previous) or reference("anonymous", message.get("anonymousId"))
    if now is None or before is None:
        raise Refused(RejectReason.MISSING_REFERENCE, "give a userId and a previousId")
    return _Said(CustomerIdentified.event_type, {"references": [now, before]})


def _references_in(traits: Json) -> list[str | None]:
    return [reference(kind, traits.get(kind)) for kind in _REFERENCE_TRAITS]


def _known_by(message: Json) -> list[str]:
    """Everything that the message calls the person, whom its sender knows best first. Properties are of what happened: their e-mail
    address may be a friend's who was invited."""
    context = an_object(message.get("context"), "context")
    inside = _references_in(an_object(context.get("traits"), "context/traits"))
    return list(filter(None, (reference("user", message.get("userId")), *inside, reference("anonymous", message.get("anonymousId")))))


def _who(message: Json) -> list[str]:
    found = _known_by(message)
    if not found:
        raise Refused(RejectReason.MISSING_REFERENCE, _WHO)
    return found


def _tracked(message: Json, receipt: Receipt, order: Order | None) -> _Said:
    name = message.get("event")
    if not isinstance(name, str) or not name:
        raise invalid("event", "the name of what happened is expected")
    properties = an_object(message.get("properties"), "properties")
    names = _who(message)
    if name in orders.COMPLETED:
        deal = orders.bought(properties, receipt.currency)
    elif name in (orders.REFUNDED, orders.CANCELLED):
        deal = orders.given_back(name, properties, receipt.currency, order)
    else:
        return _interaction(names, _kind(name), properties)
    return _Said(deal.event_type, {"reference": names[0], **deal.data}, names, deal.name)


def _interaction(names: Sequence[str], kind: str, properties: Json) -> _Said:
    return _Said(InteractionRecorded.event_type, {"reference": names[0], "kind": kind, "properties": scalars(properties)}, names)


def _kind(name: str) -> str:
    """`Product Viewed` is our `ProductViewed`; a name that is not written so stays as it is."""
    return FIRST_NAMES.get(name) or (name.replace(" ", "") if _TITLE_CASE.fullmatch(name) else name)


def _viewed(kind: str) -> Callable[[Json, Receipt, Order | None], _Said]:
    def viewed(message: Json, receipt: Receipt, order: Order | None) -> _Said:
        properties = an_object(message.get("properties"), "properties")
        named = {name: message[name] for name in ("name", "category") if message.get(name) is not None}
        return _interaction(_who(message), kind, {**properties, **named})

    return viewed


_DIALECT: dict[str, Callable[[Json, Receipt, Order | None], _Said]] = {
    "track": _tracked,
    "identify": _identified,
    "page": _viewed("PageViewed"),
    "screen": _viewed("ScreenViewed"),
    "group": _grouped,
    "alias": _aliased,
}
MESSAGE_TYPES = tuple(_DIALECT)
