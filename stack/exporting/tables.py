"""The tables of an export: which columns they have, and how a service's row becomes one of theirs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal

from stack.arrow import pyarrow

Service = Literal["identity", "segmentation", "campaigns"]
Row = Mapping[str, Any]

TEXT, WHOLE, SHARE, MOMENT, DAY, JSON, TEXTS = "text", "whole", "share", "moment", "day", "json", "texts"
"""Whole numbers have 64 bits, amounts are minor units, moments are UTC microseconds, and JSON is text."""
_LINES = {"sku": TEXT, "quantity": WHOLE, "amount_minor": WHOLE, "department": TEXT, "category": TEXT, "unit_cost_minor": WHOLE}
_STATED = {"purpose": TEXT, "channel": TEXT, "granted": "flag"}

Columns = Mapping[str, str | Mapping[str, str]]
"""Name -> type; a mapping stands for a list of such."""


@dataclass(frozen=True, slots=True)
class ExportTable:
    """One table. `key` names a row for ever: load an increment by replacing rows of the same key."""

    name: str
    service: Service
    path: str
    key: tuple[str, ...]
    columns: Columns
    read: Callable[[Row], Row]
    """From what the service answers to the columns, by name."""
    grows: bool
    """It has increments; the others are as they are now, and come whole."""

    def schema(self) -> Any:
        """Its Arrow schema."""
        arrow = pyarrow()
        fields = self.columns.items()
        return arrow.schema([arrow.field(name, _arrow_type(arrow, kind), nullable=name not in self.key) for name, kind in fields])

    def row(self, answered: Row) -> dict[str, Any]:
        """A row as Arrow takes it."""
        read = self.read(answered)
        return {name: _value(kind, read.get(name)) for name, kind in self.columns.items()}


def _arrow_type(arrow: Any, kind: str | Mapping[str, str]) -> Any:
    if not isinstance(kind, str):
        return arrow.list_(arrow.struct([arrow.field(name, _arrow_type(arrow, each)) for name, each in kind.items()]))
    return {
        TEXT: arrow.string(), WHOLE: arrow.int64(), SHARE: arrow.float64(), MOMENT: arrow.timestamp("us", "UTC"), DAY: arrow.date32(),
        JSON: arrow.string(), TEXTS: arrow.list_(arrow.string()), "flag": arrow.bool_(),
    }[kind]  # fmt: skip


def _value(kind: str | Mapping[str, str], value: Any) -> Any:
    if value is None:
        return None
    if not isinstance(kind, str):
        return [{name: _value(each, one.get(name)) for name, each in kind.items()} for one in value]
    match kind:
        case "moment":
            return datetime.fromisoformat(value)
        case "day":
            return date.fromisoformat(value)
        case "json":
            return json.dumps(value, ensure_ascii=False, sort_keys=True)
    return value


def _event(answered: Row) -> Row:
    event, data = answered["event"], answered["event"]["data"]
    lines = data.get("lines")
    total = sum(line["amount_minor"] for line in lines) if lines is not None else data.get("amount_minor")
    names = ("source", "id", "type", "time")
    return {**data, **{name: event[name] for name in names}, "profile_id": answered["profile_id"], "amount_minor": total}


def _as_is(answered: Row) -> Row:
    return answered


_WISHES = {"preferred_channel": TEXT, "language": TEXT, "time_zone": TEXT, "customer_type": TEXT}

TABLES: tuple[ExportTable, ...] = (
    ExportTable(
        "customers", "identity", "/v1/export/customers", ("customer_id",),
        {"customer_id": TEXT, "version": WHOLE, "members": TEXTS, "references": TEXTS, "traits": JSON,
         "consents": {**_STATED, "at": MOMENT}, **_WISHES, "first_seen_at": MOMENT,
         "lead_source": TEXT, "decision_makers": JSON, "assets": JSON},
        _as_is, grows=False,
    ),
    ExportTable(
        "events", "identity", "/v1/export/events", ("source", "id"),
        {"source": TEXT, "id": TEXT, "type": TEXT, "time": MOMENT, "profile_id": TEXT, "reference": TEXT,
         "store": TEXT, "currency": TEXT, "amount_minor": WHOLE, "lines": _LINES, "purchase_id": TEXT,
         "kind": TEXT, "properties": JSON, "references": TEXTS, "traits": JSON, "consents": _STATED, **_WISHES},
        _event, grows=True,
    ),
    ExportTable(
        "scores", "segmentation", "/v1/export/scores", ("customer_id",),
        {"customer_id": TEXT, "as_of": MOMENT, "segments": TEXTS, "recency_days": WHOLE, "frequency": WHOLE, "monetary_minor": WHOLE,
         "rfm_cell": TEXT, "value_class": TEXT, "buys_again": SHARE, "risk": SHARE, "risk_band": TEXT, "expected_value_minor": WHOLE,
         "value_at_risk_minor": WHOLE, "realised_minor": WHOLE, "realised_margin_minor": WHOLE, "expected_margin_minor": WHOLE,
         "reasons": TEXTS, "model": TEXT, "next_purchase_on": DAY,
         "need_segment": TEXT, "needs": TEXTS, "stated_needs": TEXTS, "bonds": TEXTS,
         "purchases": WHOLE, "bought_minor": WHOLE, "refunded_minor": WHOLE},
        _as_is, grows=False,
    ),
    ExportTable(
        "offers", "campaigns", "/v1/export/offers", ("id",),
        {"id": TEXT, "program": TEXT, "program_version": WHOLE, "customer_id": TEXT, "cause_id": TEXT, "status": TEXT, "reason": TEXT,
         "template": TEXT, "purpose": TEXT, "content": JSON, "decided_at": MOMENT, "expires_at": MOMENT, "channel": TEXT,
         "settled_at": MOMENT, "score": JSON},
        _as_is, grows=True,
    ),
    ExportTable(
        "ledger", "campaigns", "/v1/export/ledger", ("id",),
        {"id": TEXT, "profile_id": TEXT, "kind": TEXT, "points": WHOLE, "amount_minor": WHOLE, "program": TEXT, "program_version": WHOLE,
         "cause_source": TEXT, "cause_id": TEXT, "occurred_at": MOMENT, "posted_at": MOMENT},
        _as_is, grows=True,
    ),
)  # fmt: skip
NAMES = tuple(table.name for table in TABLES)
