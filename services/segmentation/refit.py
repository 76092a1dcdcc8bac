"""Fits the models to all customers, tests them, publishes what is worth it: `python -m services.segmentation.refit`.

A process of its own beside the workers: it reads the changelog as a recovery does, and whatever becomes of it, the stream goes on.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any

import msgspec

from services.segmentation.domain.fitting import Candidate, candidate
from services.segmentation.domain.state import CustomerState
from services.segmentation.domain.state.joining import customers_of
from services.segmentation.markets import Markets
from services.segmentation.models_in_use import FITTED, NEEDS_KEY, Models, parameters_of
from services.segmentation.news import SOURCE
from services.segmentation.recovery import Recovery
from services.segmentation.refit_needs import publish_needs_that_were_kept, refit_needs
from services.segmentation.settings import SegmentationSettings
from services.segmentation.shipped import load_shipped_models
from services.segmentation.store import models as store
from shared.contracts.envelope import Event, derived_id, envelope
from shared.contracts.scores import NeedModelPublished, ScoringModelPublished
from shared.contracts.topics import PARTITION_COUNT, SCORING_MODELS, SEGMENTATION_STATE, Topic
from shared.mongo import connect, disconnect, in_store
from shared.streaming.errors import Unavailable
from shared.streaming.partitions import partition_for
from shared.streaming.publisher import KafkaPublisher
from shared.streaming.reader import read_partition
from shared.streaming.records import Message, Record

log = logging.getLogger(__name__)

EPOCH = date(1970, 1, 1)
LOWEST_PRIORITY = 19
PARTITION = partition_for(FITTED.encode())
"""Of scoring-models-v1: where the fits are, and what is known of the market."""

Read = Callable[[int, int], AsyncIterator[Sequence[Record]]]
"""(partition, first offset) -> record batches up to the present end."""
Append = Callable[[Topic, Message], Awaitable[None]]
"""Publishes one message; returns when the broker has it."""


@dataclass(frozen=True, slots=True)
class Sources:
    """What a refit reads."""

    read_changelog: Read
    read_models: Read


async def read_rows(read_changelog: Read) -> CustomerState:
    """All customers' rows, from those of all partitions. Raises ValueError where a partition's rows are not whole: it is being rebuilt."""
    every = CustomerState()
    for partition in range(PARTITION_COUNT):
        recovery, found = Recovery(), False
        async for records in read_changelog(partition, 0):
            found = found or bool(records)
            recovery.read(records)
        recovered = recovery.result()
        if recovered is not None and not recovered.meta.catching_up:
            every.take_over(recovered.state)
        elif found:
            raise ValueError(f"partition {partition} is being rebuilt")
    return customers_of(every)


async def read_published(read_models: Read, models: Models, markets: Markets | None = None) -> None:
    """Take the newest fit there is, and what is known of the market."""
    async for records in read_models(PARTITION, 0):
        take_published(records, models)
        if markets is not None:
            markets.hear(records)


def take_published(records: Sequence[Record], models: Models) -> None:
    """Take what these records of scoring-models-v1 publish."""
    for record in records:
        if record.value is None:
            continue
        try:
            if record.key == FITTED.encode():
                models.take(Event[ScoringModelPublished].model_validate_json(record.value).data)
            elif record.key == NEEDS_KEY:
                models.take_needs(Event[NeedModelPublished].model_validate_json(record.value).data)
        except (ValueError, KeyError) as error:
            log.error("a published model cannot be read, and is not used: %s", error)


async def fit(
    models: Models, state: CustomerState, settings: SegmentationSettings, now: datetime
) -> tuple[Candidate, ScoringModelPublished]:
    """Fit a scoring model and test it. Raises ValueError where there is too little to fit to."""
    today = (now.date() - EPOCH).days
    known = await in_store(store.newest, 1)
    version = max(known[0]["_id"] if known else 0, models.version) + 1
    found = candidate(f"{FITTED}-{version}", state, today, settings.defection_horizon_days, models.fitted or models.shipped)
    bought = state.first_day[: state.count][state.purchase_count[: state.count] > 0]
    published = ScoringModelPublished(
        model=FITTED,
        version=version,
        parameters=parameters_of(found.model),
        fitted_at=now,
        data_from=_date(int(bought.min())),
        data_until=_date(min(int(state.last_day[: state.count].max()), today)),
        customers=found.customers,
        back_test=_figures(found),
    )
    return found, published


async def keep_and_publish(found: Candidate, published: ScoringModelPublished, append: Append) -> bool:
    """Keep it; where it was accepted, let every worker know. False where another refit was faster.

    Whoever dies in between has kept what was to be said: the next refit, or the next owner of the fits, says it.
    """
    event = envelope(published, id=derived_id("model", found.model.name), source=SOURCE, time=published.fitted_at).model_dump_json()
    document = {
        "_id": published.version,
        "name": found.model.name,
        "fitted_at": published.fitted_at,
        "data_from": published.data_from,
        "data_until": published.data_until,
        "customers": found.customers,
        "parameters": {name.replace(".", "_"): value for name, value in published.parameters.items()},
        "back_test": asdict(found.back_test),
        "back_test_of_current": asdict(found.back_test_of_current),
        "accepted": found.accepted,
        "why": found.why,
        "event": event,
    }
    if not await in_store(store.keep, document):
        return False
    if found.accepted:
        await append(SCORING_MODELS, Message(FITTED.encode(), event.encode()))
    return True


async def publish_what_was_kept(kept: store.Kept, known: Models, append: Append) -> bool:
    """Let every worker know of the newest accepted fit and need model where they are newer than what was published.

    A repeat is the same event. False where there was nothing to say.
    """
    needs = await publish_needs_that_were_kept(kept, known, append)
    if kept.accepted_version <= known.version:
        return needs
    log.info("fit %d was accepted and not published: it is published now", kept.accepted_version)
    await append(SCORING_MODELS, Message(FITTED.encode(), kept.event))
    return True


async def refit(settings: SegmentationSettings, now: datetime) -> dict[str, Any]:
    """One refit, with the broker and the database of the settings; the answer says what became of it. Raises Unavailable and ValueError.

    Where there is too little to fit scores to, needs are fitted all the same.
    """
    servers = settings.kafka_bootstrap_servers
    sources = Sources(partial(read_partition, servers, SEGMENTATION_STATE), partial(read_partition, servers, SCORING_MODELS))
    connect(store.ALIAS, settings.mongodb_uri)
    publisher = KafkaPublisher(servers)
    try:
        await publisher.start()
        models = load_shipped_models(settings.scoring_model)
        await read_published(sources.read_models, models)
        if await publish_what_was_kept(await in_store(store.look_back), models, publisher.append):
            await read_published(sources.read_models, models)
        state = await read_rows(sources.read_changelog)
        needs = await refit_needs(models, state, now, publisher.append)
        try:
            found, published = await fit(models, state, settings, now)
        except ValueError as too_little:
            raise ValueError(f"{too_little}; needs: {needs['why']}") from too_little
        first = await keep_and_publish(found, published, publisher.append)
    finally:
        await publisher.stop()
        disconnect(store.ALIAS)
    return {
        "model": found.model.name,
        "accepted": found.accepted and first,
        "why": found.why if first else "another refit was faster",
        "customers": found.customers,
        **{name: published.parameters[name] for name in ("r", "alpha", "a", "b", "p", "q", "v")},
        **published.back_test,
        "needs": needs,
    }


def main() -> None:
    """Fit once and say what became of it, as one line of JSON. Exit code 1: not now."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--now", type=datetime.fromisoformat, default=None, help="The present, where it is not the wall clock's.")
    now = parser.parse_args().now or datetime.now(UTC)
    os.nice(LOWEST_PRIORITY)
    try:
        found = asyncio.run(refit(SegmentationSettings(), now))
    except (Unavailable, ValueError) as problem:
        sys.exit(f"no refit: {problem}")
    sys.stdout.write(msgspec.json.encode(found).decode() + "\n")


def _date(day: int) -> str:
    return (EPOCH + timedelta(days=day)).isoformat()


def _figures(found: Candidate) -> dict[str, float]:
    names = ("auc", "brier", "calibration", "total_error")
    ours = {name: getattr(found.back_test, name) for name in names}
    return ours | {f"in_use_{name}": getattr(found.back_test_of_current, name) for name in names}


if __name__ == "__main__":
    main()
