"""`dear topics`: the broker beside the map."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from shared.contracts.topics import TOPICS
from shared.kafka_admin import apply_topics, describe, end_offsets, wait_for_broker
from stack.broker_address import broker_address


def apply(data_dir: Path, kafka: str | None, as_json: bool) -> int:
    """Make the broker agree with the map; 1 where a topic cannot be made to."""
    bootstrap = broker_address(data_dir, kafka)
    wait_for_broker(bootstrap, timeout_seconds=5)
    verdicts = apply_topics(bootstrap)
    if as_json:
        sys.stdout.write(json.dumps([asdict(verdict) for verdict in verdicts]) + "\n")
    else:
        for verdict in verdicts:
            sys.stdout.write(f"{verdict.topic:24} {verdict.verdict:8} {verdict.detail}".rstrip() + "\n")
    return int(any(verdict.verdict == "differs" for verdict in verdicts))


def show(data_dir: Path, kafka: str | None, as_json: bool) -> int:
    """Print the map beside what the broker has; 1 where a topic is missing."""
    bootstrap = broker_address(data_dir, kafka)
    wait_for_broker(bootstrap, timeout_seconds=5)
    found = describe(bootstrap)
    written: dict[str, int] = {}
    for (name, _), end in end_offsets(bootstrap, [topic for topic in TOPICS if topic.name in found]).items():
        written[name] = written.get(name, 0) + end
    rows = [
        {"topic": topic.name, "key": topic.key, "producers": topic.producers, "consumers": topic.consumers, "settings": topic.settings()}
        | {"topic_id": None, "partitions": 0}
        | found.get(topic.name, {})
        | {"records_written": written.get(topic.name, 0)}
        for topic in TOPICS
    ]
    if as_json:
        sys.stdout.write(json.dumps(rows) + "\n")
    else:
        for row in rows:
            state = (
                f"{row['partitions']} partitions {row['records_written']:>10,} written"
                if row["topic_id"]
                else "missing: run `dear topics apply`"
            )
            sys.stdout.write(f"{row['topic']:24} {state}\n")
    return int(any(row["topic_id"] is None for row in rows))
