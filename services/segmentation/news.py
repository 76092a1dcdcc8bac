"""What segmentation tells others: scores, and who entered or left a segment. Derived ids make a repeat the same event."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np

from services.segmentation.causes import Change
from services.segmentation.domain.arrays import hex_from_ids
from services.segmentation.domain.scoring import ScoreBatch
from services.segmentation.domain.segments import Judgement, Segments
from services.segmentation.domain.state import CustomerState
from services.segmentation.domain.told import told
from services.segmentation.owned import Owned
from shared.contracts.envelope import derived_id
from shared.contracts.scores import ScoresComputed, SegmentEntered, SegmentLeft
from shared.streaming.records import Message

SOURCE = "dear/segmentation"


def score_messages(state: CustomerState, scores: ScoreBatch, model: str, as_of: datetime) -> list[Message]:
    """For scores-v1: one message a row, keyed by customer."""
    at = rfc_3339(as_of)
    messages = []
    for customer, values in zip(hex_from_ids(state.ids[scores.rows]), told(state, scores, model), strict=True):
        data = {"customer_id": customer, "as_of": at, "scores": values}
        messages.append(_message(customer, ScoresComputed.event_type, derived_id("scores", customer, at), at, data))
    return messages


def change_messages(owned: Owned, judge: Judgement) -> list[Message]:
    """For segment-changes-v1: one message for each segment entered or left since the news were last told, oldest change first."""
    state = owned.state
    rows = np.fromiter(owned.news, dtype=np.int64, count=len(owned.news))
    rows = rows[np.argsort(state.change_number[rows])]
    scores: list[dict[str, Any]] = [{}] * len(rows)
    for seen in owned.everyone(rows):
        values = told(seen.state, seen.view(judge.ask).scores, judge.ask.model.name)
        for place, each in zip(np.arange(len(rows))[seen.places].tolist(), values, strict=True):
            scores[place] = each
    changes = zip(
        (owned.news[row] for row in rows.tolist()),
        hex_from_ids(state.ids[rows]),
        state.membership[rows].tolist(),
        state.change_number[rows].tolist(),
        scores,
        strict=True,
    )
    return [message for change, *row in changes for message in _changes_of(change, judge.segments, *row)]


def _changes_of(  # noqa: PLR0917 - the columns of one row
    change: Change, segments: Segments, customer: str, now: int, number: int, scores: dict[str, Any]
) -> Iterator[Message]:
    caused_at, bits = _moment(change.caused_ms), segments.bits
    encoded = msgspec.Raw(msgspec.json.encode(scores))
    for event_type, names in (
        (SegmentEntered.event_type, segments.names_of(now & ~change.previous)),
        (SegmentLeft.event_type, segments.names_of(change.previous & ~now)),
    ):
        for name in names:
            data = {
                "customer_id": customer,
                "segment": name,
                "change_number": number,
                "caused_at": caused_at,
                "cause": change.cause_of(bits[name]),
                "scores": encoded,
            }
            yield _message(customer, event_type, derived_id("segment", customer, name, number), caused_at, data)


@lru_cache(maxsize=1 << 12)
def _moment(at_ms: int) -> str:
    return rfc_3339(datetime.fromtimestamp(at_ms / 1000, UTC))


def rfc_3339(at: datetime) -> str:
    """A moment as the contracts want it."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _message(key: str, event_type: str, event_id: str, time: str, data: dict[str, Any]) -> Message:
    event = {"specversion": "1.0", "id": event_id, "source": SOURCE, "type": event_type, "time": time, "data": data}
    return Message(key.encode(), msgspec.json.encode(event))
