"""Why an event that could not be read could not be read: the slow and exact way, for the few that need it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from pydantic import ValidationError

from services.identity.domain.rejects import Refused, RejectReason
from shared.contracts.envelope import Event, EventData

_REFERENCES = (("data", "reference"), ("data", "references"))


def explain(raw: bytes, models: Mapping[str, type[EventData]], offered: Iterable[str], fault: str) -> Refused:
    """The reason for which `raw` is no event; `fault` is what the fast decoder said, `offered` are the types that sources may send."""
    try:
        read = msgspec.json.decode(raw)
    except (ValueError, RecursionError) as error:
        return Refused(RejectReason.MALFORMED_JSON, f"not JSON: {error}" if raw else "empty")
    if not isinstance(read, dict):
        return Refused(RejectReason.MALFORMED_JSON, "one JSON object per event is expected")
    model = models.get(str(read.get("type")))
    if model is None:
        return Refused(RejectReason.UNKNOWN_TYPE, f"type: {read.get('type')!r:.80} is none of {', '.join(offered)}")
    return _invalid(raw, model, fault)


def _invalid(raw: bytes, model: type[EventData], fault: str) -> Refused:
    try:
        Event[model].model_validate_json(raw)  # type: ignore[valid-type]
    except ValidationError as invalid:
        return min((_named(error) for error in invalid.errors(include_url=False, include_input=False)), key=_weight)
    return Refused(RejectReason.INVALID, fault)


def _named(error: Any) -> Refused:
    path = tuple(part for part in error["loc"] if part != "function-after")
    where = "/".join(str(part) for part in path)
    detail = f"{where}: {error['msg']}"
    if path[:2] in _REFERENCES and (error["type"] == "missing" or (path == _REFERENCES[1] and error["type"] == "too_short")):
        return Refused(RejectReason.MISSING_REFERENCE, f"{where}: say whom it is about, or null for an anonymous sale")
    if str(path[-1:]).find("amount_minor") >= 0 and error["type"] == "greater_than_equal":
        return Refused(RejectReason.NEGATIVE_AMOUNT, f"{detail}; money given back is a {_REFUND}")
    return Refused(RejectReason.INVALID, detail)


def _weight(refused: Refused) -> int:
    """Where several things are wrong, the one that says most is named."""
    order = (RejectReason.MISSING_REFERENCE, RejectReason.NEGATIVE_AMOUNT, RejectReason.INVALID)
    return order.index(refused.refusal.reason)


_REFUND = "dear.PurchaseRefunded"
