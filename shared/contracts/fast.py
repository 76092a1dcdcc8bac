"""Fast decoders: msgspec structs derived from the pydantic models, which stay the only place where an event is described."""

from __future__ import annotations

import types
from collections.abc import Callable, Collection, Iterator
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

import msgspec
from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import AwareDatetime, BaseModel, StringConstraints
from pydantic.fields import FieldInfo

from shared.contracts.envelope import Contract

_NAMES = {Ge: ("ge", "ge"), Gt: ("gt", "gt"), Le: ("le", "le"), Lt: ("lt", "lt")}
_LENGTHS = {MinLen: "min_length", MaxLen: "max_length"}


def fast_decoder(model: type[Contract], only: Collection[str] = ()) -> msgspec.json.Decoder[Any]:
    """A JSON decoder for the model; `only` names the dotted paths to read (`data.lines.amount_minor`), nothing means all.

    Reads what the model reads and refuses what it refuses (msgspec.ValidationError, a ValueError), field by field.
    """
    return msgspec.json.Decoder(fast_struct(model, frozenset(only)))


@lru_cache(maxsize=256)
def fast_struct(model: type[Contract], only: frozenset[str] = frozenset(), checked: bool = True) -> type[msgspec.Struct]:
    """The struct that `fast_decoder` reads into, with the model's field names.

    With `checked` false, numbers are still held to their bounds, but not texts to their lengths and patterns: half the time, for readers of
    what another service of ours has checked.
    """
    wanted = _below(only)
    fields = [
        _field(name, field, wanted.get(name, frozenset()), checked, may_be_absent=name in model.came_later)
        for name, field in model.model_fields.items()
        if not only or name in wanted
    ]
    name = model.__name__.replace("[", "_").replace("]", "")
    return msgspec.defstruct(name, fields, frozen=True, gc=False, kw_only=True, omit_defaults=model.leaves_out_defaults)


def _below(only: frozenset[str]) -> dict[str, frozenset[str]]:
    heads: dict[str, set[str]] = {}
    for path in only:
        head, _, rest = path.partition(".")
        heads.setdefault(head, set()).update([rest] if rest else [])
    return {head: frozenset(rests) for head, rests in heads.items()}


def _field(name: str, field: FieldInfo, only: frozenset[str], checked: bool, may_be_absent: bool) -> tuple[str, Any, Any] | tuple[str, Any]:
    constrained: Any = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
    derived = _type(constrained, only, checked)
    if may_be_absent:
        return name, Union[derived, msgspec.UnsetType], msgspec.UNSET  # noqa: UP007 - built, not written
    if field.is_required():
        return name, derived
    if field.default_factory is not None:
        return name, derived, msgspec.field(default_factory=cast("Callable[[], Any]", field.default_factory))
    return name, derived, field.default


def _type(annotation: Any, only: frozenset[str], checked: bool) -> Any:
    """The msgspec type that accepts what pydantic accepts for an annotation."""
    if annotation is AwareDatetime:
        return Annotated[datetime, msgspec.Meta(tz=True)]
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *metadata = get_args(annotation)
        derived = _type(inner, only, checked)
        return derived if derived is str and not checked else _constrained(derived, metadata)
    if origin in (Union, types.UnionType):
        return Union[tuple(_type(part, only, checked) for part in get_args(annotation))]  # noqa: UP007 - built, not written
    if origin in (tuple, dict, list):
        return origin[tuple(part if part is Ellipsis else _type(part, only, checked) for part in get_args(annotation))]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return fast_struct(annotation, only, checked)
    if annotation in (str, int, float, bool, None, type(None)) or origin is Literal:
        return annotation
    raise TypeError(f"no fast decoder for {annotation!r}: teach shared.contracts.fast to read it")


def _constrained(derived: Any, metadata: list[Any]) -> Any:
    limits = dict(limit for item in metadata for limit in _limits(item))
    return Annotated[derived, msgspec.Meta(**limits)] if limits else derived


def _limits(item: Any) -> Iterator[tuple[str, Any]]:
    for kind, (attribute, name) in _NAMES.items():
        if isinstance(item, kind):
            yield name, getattr(item, attribute)
    for kind, name in _LENGTHS.items():
        if isinstance(item, kind):
            yield name, getattr(item, name)
    if isinstance(item, StringConstraints):
        yield from ((name, getattr(item, name)) for name in ("min_length", "max_length") if getattr(item, name) is not None)
    if isinstance(item, FieldInfo):
        for inner in item.metadata:
            yield from _limits(inner)
    pattern = getattr(item, "pattern", None)
    if pattern is not None:
        # Python's `$` also matches before a final newline; pydantic's does not.
        yield "pattern", pattern.removesuffix("$") + r"\Z"
