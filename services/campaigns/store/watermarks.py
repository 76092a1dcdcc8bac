"""How far the ledger has come: per partition of customer-events-v1 the origins it covers, and which logs it last saw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from mongoengine import DictField, Document, ListField, LongField, StringField

from shared.streaming.records import Position

Origins = dict[tuple[str, int], int]
"""The highest offset covered, by topic id and partition of where events entered the system."""


@dataclass(slots=True)
class Watermark:
    """One partition's progress in one log. Everything up to these origins is in the ledger."""

    topic_id: str | None = None
    origins: Origins = field(default_factory=dict)
    next_offset: int = 0
    """Everything of the log before this offset is in the ledger."""

    def cover(self, position: Position) -> None:
        """Everything up to the position is covered."""
        key = (position.topic_id, position.partition)
        self.origins[key] = max(self.origins.get(key, -1), position.offset)

    def positions(self) -> list[Position]:
        """The furthest position covered of each origin partition."""
        return [Position(topic_id, partition, offset) for (topic_id, partition), offset in self.origins.items()]


class WatermarkDocument(Document):
    """The progress of one partition."""

    meta: ClassVar = {"collection": "watermarks", "db_alias": "campaigns", "auto_create_index": False}

    id = StringField(primary_key=True)
    topic_id = StringField(required=True)
    origins = ListField(ListField())
    next_offset = LongField(default=0)


class LogsDocument(Document):
    """Which logs there were when pending offers were last published."""

    meta: ClassVar = {"collection": "logs", "db_alias": "campaigns", "auto_create_index": False}

    id = StringField(primary_key=True)
    topic_ids = DictField()


def load(partition: int) -> Watermark:
    """The partition's progress, or none."""
    found = WatermarkDocument._get_collection().find_one({"_id": str(partition)})
    if found is None:
        return Watermark()
    return Watermark(
        found["topic_id"], {(topic, origin): offset for topic, origin, offset in found["origins"]}, found.get("next_offset", 0)
    )


def save(partition: int, watermark: Watermark) -> None:
    """Keep the partition's progress."""
    origins = [[topic, origin, offset] for (topic, origin), offset in watermark.origins.items()]
    document = {"topic_id": watermark.topic_id, "origins": origins, "next_offset": watermark.next_offset}
    WatermarkDocument._get_collection().replace_one({"_id": str(partition)}, document, upsert=True)


def last_logs() -> Mapping[str, str]:
    """The topic ids that were kept last."""
    found: dict[str, Any] = LogsDocument._get_collection().find_one({"_id": "logs"}) or {}
    topic_ids: dict[str, str] = found.get("topic_ids", {})
    return topic_ids


def keep_logs(topic_ids: Mapping[str, str]) -> None:
    """Keep the topic ids of now."""
    LogsDocument._get_collection().replace_one({"_id": "logs"}, {"topic_ids": dict(topic_ids)}, upsert=True)
