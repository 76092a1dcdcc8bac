"""The CloudEvents 1.0 envelope that every event travels in."""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from typing import Annotated, ClassVar, Generic, Literal, TypeVar

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

EVENT_BYTES_MAX = 32 * 1024
"""What a whole event may have as JSON, whatever the limits of its parts would allow."""


class Contract(BaseModel):
    """What every model that crosses a service boundary has in common: frozen, strict, and closed to unknown fields of ours."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, ser_json_timedelta="iso8601")

    leaves_out_defaults: ClassVar[bool] = False
    """Fast encoders leave out what has its default: a model that grew writes what it wrote before, so that a repeat keeps its hash."""
    came_later: ClassVar[frozenset[str]] = frozenset()
    """The same of single fields, of a model that always wrote its others: where they are absent, fast decoders say `msgspec.UNSET`."""


_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:?\d\d)")


def _rfc_3339(value: object) -> object:
    """Refuse what pydantic would read and RFC 3339 does not know, such as seconds since the epoch in a string."""
    if not isinstance(value, datetime) and not (isinstance(value, str) and _RFC_3339.fullmatch(value)):
        raise ValueError("must be an RFC 3339 time with a zone, such as 2026-03-01T09:30:00+07:00")
    return value


Time = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_rfc_3339)]
"""A moment, with its zone."""


class EventData(Contract):
    """The `data` of an event; `event_type` is what the envelope's `type` says."""

    event_type: ClassVar[str]


Data = TypeVar("Data", bound=EventData)

Name = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
Reference = Annotated[str, StringConstraints(pattern=r"^(loyalty_card|email|phone|line|user|anonymous):.{1,200}$")]
ProfileId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
Minor = Annotated[int, Field(ge=0, le=10**15)]
"""An amount in minor units (cents, satang) of the currency beside it."""


class Event(Contract, Generic[Data]):
    """One event: `source` + `id` names it for ever."""

    specversion: Literal["1.0"] = "1.0"
    id: Name
    source: Name
    type: Name
    time: Time
    data: Data


def envelope(data: Data, *, id: str, source: str, time: datetime) -> Event[Data]:
    """Put `data` into its envelope, with the type that the data names."""
    return Event(id=id, source=source, type=data.event_type, time=time, data=data)


def derived_id(*cause: object) -> str:
    """A 32-digit hexadecimal id that is the same whenever the cause is the same, so a repeat is the same event."""
    text = "\x1f".join(str(part) for part in cause)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
