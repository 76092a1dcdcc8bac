"""A refit on a real broker and a real database: fitted in its own process, kept, published, taken up, and nobody's doing."""

from __future__ import annotations

import asyncio
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from services.segmentation.markets import Markets
from services.segmentation.modelling import refit_in_process
from services.segmentation.models_in_use import FITTED
from services.segmentation.refit import take_published
from services.segmentation.shipped import load_shipped_models
from shared.contracts.envelope import Event, derived_id, envelope
from shared.contracts.purchases import PurchaseLine, PurchaseRecorded
from shared.contracts.scores import ScoringModelPublished, SegmentEntered
from shared.contracts.topics import CUSTOMER_EVENTS, SCORING_MODELS, SEGMENT_CHANGES
from shared.streaming.partitions import partition_for
from shared.streaming.reader import read_partition
from shared.streaming.records import Message, Position, Record, origin_header
from stack.datasets import load_cdnow
from tests.segmentation.test_whole import START, a_shop, fresh, play

__all__ = ["fresh"]
CUSTOMERS_TOLD = 1500
GENRES = ("opera", "organ", "punk", "metal", "swing", "bebop", "polka", "waltz")
"""Of which each customer likes two."""


def cd_shop() -> list[Message]:
    """CDNOW's first customers, moved to begin at START."""
    offsets = {partition: count() for partition in range(8)}
    rows = [row for row in load_cdnow() if row.customer_id <= CUSTOMERS_TOLD]
    first = min(row.day for row in rows)
    messages = []
    for n, row in enumerate(sorted(rows, key=lambda row: row.day)):
        key = derived_id("profile", f"user:{row.customer_id}").encode()
        at = partition_for(key)
        origin = Position("origin-id", at, next(offsets[at]))
        genre = GENRES[row.customer_id % 4 * 2 + n % 2]
        lines = (PurchaseLine(sku="cd", quantity=1, amount_minor=row.amount_minor, department=genre),)
        data = PurchaseRecorded(reference=f"user:{row.customer_id}", store="web", currency="USD", lines=lines)
        event = envelope(data, id=str(n), source="cdnow", time=START + (row.day - first))
        messages.append(Message(key, event.model_dump_json().encode(), (origin_header(origin, 0),)))
    return messages


async def everything(broker: str, topic: Any) -> list[Record]:
    return [record for number in range(8) async for records in read_partition(broker, topic, number, 0) for record in records]


def test_a_fit_to_our_own_customers_replaces_ranks_and_starts_nothing(
    broker: str, database: str, tmp_path: Path, fresh: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", broker)
    monkeypatch.setenv("MONGODB_URI", database)

    async def story() -> None:
        told = cd_shop()
        async with a_shop(broker, database, tmp_path) as shop:
            await shop.publisher.publish(CUSTOMER_EVENTS, told[:600])
            early = await shop.wait_for("/v1/scores?limit=1", lambda answer: answer["customers"])
            assert early["customers"][0]["model"] == "rank-sum"
            await shop.publisher.publish(CUSTOMER_EVENTS, told[600:])
            await shop.wait_for("/v1/totals", lambda answer: answer["purchases"] == len(told))
            fits = await shop.wait_for("/v1/models", lambda answer: answer["models"])
            assert fits["models"][0]["accepted"], fits
            assert fits["settings"] == {"scoring_model": "groceries", "defection_horizon_days": 90, "needs_by": "department"}
            await shop.wait_for("/v1/scores?limit=1", lambda answer: answer["customers"][0]["model"].startswith("fitted-"))
            assert (await shop.get("/v1/totals"))["purchases"] == len(told)
            needs = await shop.wait_for("/v1/needs", lambda answer: sum(each["customers"] for each in answer["segments"]) == CUSTOMERS_TOLD)
            liked = {frozenset(each["categories"][:2]) for each in needs["segments"]}
            assert {frozenset(GENRES[at : at + 2]) for at in range(0, 8, 2)} <= liked
            best = (await shop.get("/v1/scores?limit=1"))["customers"][0]
            named = {each["segment"]: each["name"] for each in needs["segments"]}
            assert best["need_segment"] in best["segments"]
            assert {name.lower() for name in named[best["need_segment"]].split(", ")} & set(best["needs"])
        async with a_shop(broker, database, tmp_path) as shop:
            await shop.wait_for("/v1/scores?limit=1", lambda answer: answer["customers"][0]["model"].startswith("fitted-"))
        records = await everything(broker, SCORING_MODELS)
        published = [
            Event[ScoringModelPublished].model_validate_json(each.value or b"").data for each in records if each.key == FITTED.encode()
        ]
        assert [each.version for each in published] == sorted({each.version for each in published})
        assert {"auc", "brier", "in_use_auc", "in_use_brier"} <= set(published[-1].back_test)
        another = Markets()
        another.hear(records)
        assert another.is_whole_with(())
        changes = [record.value or b"" for record in await everything(broker, SEGMENT_CHANGES)]
        causes = {Event[SegmentEntered].model_validate_json(each).data.cause for each in changes if b"SegmentEntered" in each}
        assert {"event", "model"} <= causes
        models = load_shipped_models("groceries")
        take_published(records, models)
        assert models.needs is not None
        assert models.needs.version == needs["model"]["version"]
        entered = [Event[SegmentEntered].model_validate_json(each).data for each in changes if b"SegmentEntered" in each]
        assert {each.cause for each in entered if each.segment.startswith("need_")} <= {"model", "time"}

    play(story)


def test_a_refit_without_customers_says_so_and_changes_nothing(
    broker: str, database: str, fresh: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", broker)
    monkeypatch.setenv("MONGODB_URI", database)
    code, said = asyncio.run(refit_in_process(START.isoformat()))
    assert code == 1
    assert said.startswith("no refit: 0 customers")
