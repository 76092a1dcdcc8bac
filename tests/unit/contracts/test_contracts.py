"""The contracts: examples stay readable, a breaking change is seen, and the fast decoders read what the models read."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from shared.contracts.customers import CustomerIdentified
from shared.contracts.envelope import EVENT_BYTES_MAX, Event, EventData
from shared.contracts.fast import fast_decoder
from shared.contracts.purchases import PurchaseRecorded
from shared.contracts.schema import EXAMPLES, breaking_changes, every_event, schema_file, schema_of
from shared.contracts.topics import TOPICS

EVENTS = pytest.mark.parametrize("model", every_event(), ids=lambda model: model.__name__)


def example(model: type[EventData]) -> dict[str, Any]:
    return json.loads((EXAMPLES / f"{model.__name__}.json").read_text())


@EVENTS
def test_every_event_has_a_readable_example_of_its_type(model: type[EventData]) -> None:
    event = Event[model].model_validate_json(json.dumps(example(model)))
    assert event.type == model.event_type
    jsonschema.validate(example(model), schema_of(model))


@EVENTS
def test_the_checked_in_schema_is_the_models(model: type[EventData]) -> None:
    kept = json.loads(schema_file(model).read_text())
    assert breaking_changes(kept, schema_of(model)) == [], "make a new version of the topic instead"
    assert kept == schema_of(model), "run: python -m shared.contracts.schema"


def test_every_event_name_is_said_once() -> None:
    names = [model.event_type for model in every_event()]
    assert len(names) == len(set(names))
    assert len({topic.name for topic in TOPICS}) == len(TOPICS)


@pytest.mark.parametrize(
    ("path", "change", "expected"),
    [
        (["properties", "store"], "remove", "/data/store: is gone"),
        (["required"], ["reference", "store", "currency", "lines", "till"], "/data/till: became required"),
        (["properties", "store"], {"type": "integer"}, "/data/store: type string became integer"),
        (["properties", "store", "maxLength"], 10, "/data/store: maxLength fell to 10"),
        (["properties", "currency", "pattern"], "^USD$", "/data/currency: pattern became ^USD$"),
        (["properties", "reference"], {"type": "string"}, "/data/reference: null is no longer accepted"),
        (["properties", "store", "enum"], ["1"], "/data/store: only ['1'] is accepted now"),
    ],
)
def test_a_breaking_change_is_named(path: list[str], change: Any, expected: str) -> None:
    old = schema_of(PurchaseRecorded)
    new = copy.deepcopy(old)
    place = new["$defs"]["PurchaseRecorded"]
    for part in path[:-1]:
        place = place[part]
    if change == "remove":
        del place[path[-1]]
    else:
        place[path[-1]] = change
    assert any(expected in found for found in breaking_changes(old, new)), breaking_changes(old, new)


def test_a_new_optional_field_breaks_nothing() -> None:
    old = schema_of(PurchaseRecorded)
    new = copy.deepcopy(old)
    new["$defs"]["PurchaseRecorded"]["properties"]["till"] = {"type": "string"}
    assert breaking_changes(old, new) == []


def test_the_limit_of_lines_is_said_together_with_the_limit_that_comes_first() -> None:
    """A source that read only of 2,000 lines would build receipts that identity refuses."""
    lines = schema_of(PurchaseRecorded)["$defs"]["PurchaseRecorded"]["properties"]["lines"]
    assert lines["maxItems"] == 2000
    for said in (lines["description"], (Path(__file__).parents[3] / "docs" / "integrate.md").read_text()):
        assert f"{EVENT_BYTES_MAX:,} bytes" in said
    longest = example(PurchaseRecorded)
    longest["data"]["lines"] = [{"sku": "1029743", "quantity": 1, "amount_minor": 299}] * 580
    assert len(json.dumps(longest)) <= EVENT_BYTES_MAX


def as_plain(value: Any) -> Any:
    """A decoded event as plain values, whichever decoder made it. A field that came later is empty where it is absent."""
    if value is msgspec.UNSET:
        return []
    if isinstance(value, BaseModel):
        return {name: as_plain(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, msgspec.Struct):
        return {name: as_plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, (list, tuple)):
        return [as_plain(part) for part in value]
    if isinstance(value, dict):
        return {key: as_plain(part) for key, part in value.items()}
    return value


def read(decode: Any, text: str) -> Any:
    try:
        return as_plain(decode(text))
    except ValueError:
        return "refused"


@EVENTS
def test_the_fast_decoder_reads_the_example_as_the_model_does(model: type[EventData]) -> None:
    text = json.dumps(example(model))
    assert read(fast_decoder(Event[model]).decode, text) == read(Event[model].model_validate_json, text) != "refused"


ODD_TEXTS = [
    *["", "x" * 300, "USD", "usd", "USD\n", "email:a@b", "email:", "sms", "1.0", "5f2c1d7e9a3b4c6d8e0f1a2b3c4d5e6f"],
    *[
        "2020-01-01T00:00:00",
        "2020-01-01T00:00:00Z",
        "2020-01-01T00:00:00.5+07:00",
        "2020-02-30T00:00:00Z",
        "2020-01-01T00:00Z",
        "1577836800",
    ],
]
ODD_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(ODD_TEXTS),
    st.text(max_size=5),
    st.just([]),
    st.just({}),
)


def paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return ([at] if at else []) + [path for key, part in inner for path in paths(part, (*at, key))]


@EVENTS
@given(data=st.data())
def test_the_fast_decoder_refuses_what_the_model_refuses(model: type[EventData], data: st.DataObject) -> None:
    event = example(model)
    path = data.draw(st.sampled_from(paths(event)))
    place = event
    for part in path[:-1]:
        place = place[part]
    if data.draw(st.booleans()):
        place[path[-1]] = data.draw(ODD_VALUES)
    elif isinstance(place, dict):
        del place[path[-1]]
    text = json.dumps(event)
    assert read(fast_decoder(Event[model]).decode, text) == read(Event[model].model_validate_json, text)


@pytest.mark.parametrize("retired", [None, [], ["email:ada@exmaple.com"]])
def test_a_field_that_came_later_is_written_by_nobody_where_it_is_empty(retired: list[str] | None) -> None:
    """Else the same form, sent again after the update, would be another one."""
    event = example(CustomerIdentified)
    event["data"].pop("retired")
    before = msgspec.json.encode(fast_decoder(Event[CustomerIdentified]).decode(json.dumps(event)), order="sorted")
    assert b"retired" not in before
    if retired is not None:
        event["data"]["retired"] = retired
    written = Event[CustomerIdentified].model_validate_json(json.dumps(event)).model_dump(mode="json")
    assert written["data"].get("retired", []) == (retired or [])
    assert ("retired" in written["data"]) == bool(retired)


def test_a_partial_decoder_reads_only_the_named_fields() -> None:
    decoder = fast_decoder(Event[PurchaseRecorded], only=["time", "data.lines.amount_minor"])
    event = decoder.decode(json.dumps(example(PurchaseRecorded)))
    assert [line.amount_minor for line in event.data.lines] == [198, 249]
    assert not hasattr(event, "id")
    assert not hasattr(event.data, "store")
