"""JSON Schemas of every event, checked in, so that a breaking change is seen before it is shipped: `python -m shared.contracts.schema`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shared.contracts.envelope import Event, EventData
from shared.contracts.topics import TOPICS

SCHEMAS = Path(__file__).parent / "schemas"
EXAMPLES = Path(__file__).parent / "examples"

_NARROWER_WHEN_RAISED = ("minimum", "exclusiveMinimum", "minLength", "minItems")
_NARROWER_WHEN_LOWERED = ("maximum", "exclusiveMaximum", "maxLength", "maxItems")


def every_event() -> tuple[type[EventData], ...]:
    """The data models of all topics, each once, in the order of the map."""
    return tuple(dict.fromkeys(model for topic in TOPICS for model in topic.carries))


def schema_of(model: type[EventData]) -> dict[str, Any]:
    """The JSON Schema of an event: its envelope with its data."""
    return Event[model].model_json_schema(by_alias=True)  # type: ignore[valid-type]


def schema_file(model: type[EventData]) -> Path:
    """Where an event's schema is checked in."""
    return SCHEMAS / f"{model.__name__}.schema.json"


def breaking_changes(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What makes events that were valid by `old` invalid, or partly unread, by `new`."""
    return list(_compare("", old, new, old, new))


def _compare(at: str, old: Any, new: Any, old_root: dict[str, Any], new_root: dict[str, Any]) -> Iterator[str]:
    old, new = _resolve(old, old_root), _resolve(new, new_root)
    if "anyOf" in old or "anyOf" in new:
        yield from _compare_alternatives(at, old, new, old_root, new_root)
        return
    if old.get("type") != new.get("type"):
        yield f"{at or '/'}: type {old.get('type')} became {new.get('type')}"
        return
    yield from _compare_limits(at, old, new)
    yield from _compare_properties(at, old, new, old_root, new_root)
    for part in ("items", "additionalProperties", "propertyNames"):
        if isinstance(old.get(part), dict) and isinstance(new.get(part), dict):
            yield from _compare(f"{at}/{part}", old[part], new[part], old_root, new_root)


def _compare_alternatives(at: str, old: Any, new: Any, old_root: dict[str, Any], new_root: dict[str, Any]) -> Iterator[str]:
    alternatives = new.get("anyOf", [new])
    for was in old.get("anyOf", [old]):
        if not any(not list(_compare(at, was, now, old_root, new_root)) for now in alternatives):
            yield f"{at or '/'}: {was.get('type', was)} is no longer accepted"


def _compare_limits(at: str, old: Any, new: Any) -> Iterator[str]:
    for name in _NARROWER_WHEN_RAISED:
        if new.get(name, float("-inf")) > old.get(name, float("-inf")):
            yield f"{at}: {name} rose to {new[name]}"
    for name in _NARROWER_WHEN_LOWERED:
        if new.get(name, float("inf")) < old.get(name, float("inf")):
            yield f"{at}: {name} fell to {new[name]}"
    if "pattern" in new and new["pattern"] != old.get("pattern"):
        yield f"{at}: pattern became {new['pattern']}"
    gone = set(map(str, _choices(old))) - set(map(str, _choices(new))) if _choices(new) else set()
    if gone or (_choices(new) and not _choices(old)):
        yield f"{at}: only {_choices(new)} is accepted now"


def _choices(schema: Any) -> list[Any]:
    return list(schema.get("enum", [])) + ([schema["const"]] if "const" in schema else [])


def _compare_properties(at: str, old: Any, new: Any, old_root: dict[str, Any], new_root: dict[str, Any]) -> Iterator[str]:
    for name in sorted(set(new.get("required", [])) - set(old.get("required", []))):
        yield f"{at}/{name}: became required"
    for name, was in old.get("properties", {}).items():
        if name not in new.get("properties", {}):
            yield f"{at}/{name}: is gone"
        else:
            yield from _compare(f"{at}/{name}", was, new["properties"][name], old_root, new_root)


def _resolve(schema: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rsplit("/", 1)[1]]
    return schema


def export() -> list[str]:
    """Write every schema; returns the breaking changes, in which case nothing is written."""
    schemas = {schema_file(model): schema_of(model) for model in every_event()}
    broken = [
        f"{path.stem}{change}"
        for path, schema in schemas.items()
        if path.exists()
        for change in breaking_changes(json.loads(path.read_text()), schema)
    ]
    if not broken:
        SCHEMAS.mkdir(exist_ok=True)
        for path, schema in schemas.items():
            path.write_text(json.dumps(schema, indent=2, sort_keys=True) + "\n")
    return broken


if __name__ == "__main__":
    if changes := export():
        sys.exit("These changes would break events already written; make a new version of the topic instead:\n" + "\n".join(changes))
