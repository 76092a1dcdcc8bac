"""What rows say of customers: who they are, what they allow and what proves it, what they own, and who decides."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, get_args

from shared.contracts.customers import (
    AssetKind,
    Channel,
    ConsentChanged,
    ConsentMethod,
    CustomerIdentified,
    CustomerType,
    LawfulBasis,
    LeadSource,
)
from shared.contracts.envelope import derived_id
from stack.importing.drafts import NAMING, Draft, Named, Unit, cells_of, first_named, named_by, row_unit, scalars
from stack.importing.fields import Given, Part
from stack.importing.mapping import AssetColumns, ConsentColumn, CustomersMapping, DecisionMakerColumns
from stack.importing.rows import Cells, Row
from stack.importing.verdicts import Bad, RowReason

Reader = Callable[[Cells, Given], object]


def customer_unit(row: Row, mapping: CustomersMapping) -> Unit:
    """What one row says of one customer."""
    return row_unit(row, lambda: _read(row, mapping))


def _read(row: Row, mapping: CustomersMapping) -> tuple[list[Draft], Named]:
    cells = cells_of(row, mapping)
    named = named_by(cells, mapping.references)
    references = list(named)
    if not references:
        columns = ", ".join(given.column for given in mapping.references.values() if given.column)
        raise Bad(RowReason.MISSING_REFERENCE, f"nothing names the customer: one of {columns} is needed")
    registered, at = _times(cells, mapping)
    data, dated = _data(cells, mapping, references)
    key = cells.key(mapping.id) if mapping.id else references[0]
    drafts = [_statement(key, CustomerIdentified.event_type, at, data)]
    if registered is not None and registered < at:
        # First seen then: who has been a customer for years is not welcomed as a new one.
        drafts.insert(0, _statement(key, CustomerIdentified.event_type, registered, {"references": references}))
    someone = next((each for each in references if isinstance(NAMING.read(each), str)), references[0])
    drafts += [_statement(key, ConsentChanged.event_type, since, {"reference": someone, "consents": [said]}) for since, said in dated]
    return drafts, named


def _times(cells: Cells, mapping: CustomersMapping) -> tuple[datetime | None, datetime]:
    """Since when they are customers, and when the row was true. Raises Bad."""
    zone = mapping.file.time_zone
    registered = cells.time(mapping.registered, zone) if mapping.registered and cells.text(mapping.registered) else None
    at = cells.time(mapping.time, zone) if mapping.time and (cells.text(mapping.time) or registered is None) else registered
    if at is None:
        raise Bad(RowReason.MISSING_VALUE, "a time is needed: when was this so?", mapping.registered.column if mapping.registered else None)
    return registered, at


def _data(cells: Cells, mapping: CustomersMapping, references: list[str]) -> tuple[dict[str, Any], list[tuple[datetime, Any]]]:
    """The data, and the consents that were stated at a time of their own.

    What a mapping does not name is not in the data at all, so a mapping that grows leaves the ids of its other rows as they were.
    """
    data: dict[str, Any] = {"references": references, "traits": scalars(cells, mapping.traits, mapping.other_traits, mapping)}
    data |= _fields(cells, mapping, _WISHES)
    data["consents"], dated = [], []
    for consent in mapping.consents:
        said = _consent(cells, consent)
        if said is not None and consent.at is not None and cells.text(consent.at) is not None:
            dated.append((cells.time(consent.at, mapping.file.time_zone), said))
        elif said is not None:
            data["consents"].append(said)
    data |= _told("assets", (_asset(inside, each) for each in mapping.assets for inside in cells.within_column(each.within)))
    people = ((inside, each) for each in mapping.decision_makers for inside in cells.within_column(each.within))
    data |= _told("decision_makers", (_person(inside, each) for inside, each in people))
    return data, dated


def _told(name: str, said: Iterable[dict[str, Any] | None]) -> dict[str, Any]:
    told = [each for each in said if each is not None]
    return {name: told} if told else {}


def _statement(key: str, kind: str, at: datetime, data: Mapping[str, Any]) -> Draft:
    """Its id follows from all that it says: a row that changed since the last import is a new statement, not a contradiction."""
    said = json.dumps(data, sort_keys=True, ensure_ascii=False)
    return Draft(f"{_short(key)}/{derived_id(key, kind, at.isoformat(), said)}", kind, at, data)


def _short(key: str) -> str:
    """References are personal, and ids are shown everywhere."""
    return hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()[:16]


def _one_of(words: object) -> Reader:
    return lambda cells, given: cells.choice(given, get_args(words))


_WISHES: Mapping[str, Reader] = {
    "preferred_channel": _one_of(Channel),
    "language": Cells.text,
    "time_zone": Cells.text,
    "customer_type": _one_of(CustomerType),
    "lead_source": _one_of(LeadSource),
}
_PROOF: Mapping[str, Reader] = {
    "lawful_basis": _one_of(LawfulBasis),
    "text_version": Cells.text,
    "text_sha256": Cells.text,
    "method": _one_of(ConsentMethod),
    "place": Cells.text,
    "evidence": Cells.text,
}
_ASSET: Mapping[str, Reader] = {
    "kind": _one_of(AssetKind),
    "label": Cells.text,
    "since": Cells.day,
    "service_every_days": Cells.whole,
    "service_every_km": Cells.whole,
    "serviced_on": Cells.day,
    "serviced_at_km": Cells.whole,
    "odometer_km": Cells.whole,
    "read_on": Cells.day,
    "warranty_ends_on": Cells.day,
    "renews_on": Cells.day,
    "is_gone": Cells.flag,
}
_DECISION_MAKER: Mapping[str, Reader] = {"name": Cells.text, "role": Cells.text, "channel": _one_of(Channel), "has_left": Cells.flag}


def _fields(cells: Cells, part: Part, readers: Mapping[str, Reader]) -> dict[str, Any]:
    """What the row says of these fields."""
    said = {name: read(cells, given) for name, read in readers.items() if (given := getattr(part, name)) is not None}
    return {name: value for name, value in said.items() if value is not None}


def _consent(cells: Cells, consent: ConsentColumn) -> dict[str, Any] | None:
    granted = cells.flag(consent.given)
    if granted is None:
        return None
    return {"purpose": consent.purpose, "channel": consent.channel, "granted": granted, **_fields(cells, consent, _PROOF)}


def _asset(cells: Cells, asset: AssetColumns) -> dict[str, Any] | None:
    return _named(cells, asset, "asset_id", _fields(cells, asset, _ASSET))


def _person(cells: Cells, person: DecisionMakerColumns) -> dict[str, Any] | None:
    said = _fields(cells, person, _DECISION_MAKER)
    if (reached := next(iter(first_named(cells, person.references)), None)) is not None:
        said["reference"] = reached
    return _named(cells, person, "person_id", said)


def _named(cells: Cells, part: Part, key: str, said: dict[str, Any]) -> dict[str, Any] | None:
    """A thing or a person by its id; None where the row has none. Raises Bad where the row tells of one and not which."""
    given: Given = getattr(part, key)
    name = cells.text(given)
    columns = [each for each in _columns(part, key) if cells.says(each)]
    if name is None and columns:
        raise Bad(RowReason.MISSING_VALUE, f"{columns[0].column!r} says something of it, so its {key} is needed", cells.place(given))
    stands_here = cells.says(given) or bool(columns) or not list(_columns(part, ""))
    return {key: name, **said} if name is not None and stands_here else None


def _columns(part: Part, besides: str) -> Sequence[Given]:
    """The fields of a part that come from columns."""
    fields = [getattr(part, name) for name in type(part).model_fields if name != besides]
    fields += getattr(part, "references", {}).values()
    return [field for field in fields if isinstance(field, Given) and field.column is not None]
