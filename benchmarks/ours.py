"""Dear's own consumers for the comparison: the stream loop with a handler that only decodes, and the whole segmentation worker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from fastapi import APIRouter

from shared.contracts.envelope import Event
from shared.contracts.fast import fast_decoder
from shared.contracts.purchases import PurchaseRecorded
from shared.contracts.topics import CUSTOMER_EVENTS
from shared.runtime import Process
from shared.service import Service
from shared.settings import Settings
from shared.streaming.records import Batch, Handler

if TYPE_CHECKING:
    from benchmarks.peers import Stopwatch

Build = Callable[[Any, Any, Any], Service]


def run(name: str, watch: Stopwatch) -> None:
    """Run one of our workers until the watch has seen everything."""
    if name == "faust-batched":
        _work("bench-batched", Settings, lambda *_: _decoding_service(watch))
        return
    from services.segmentation import app

    _work("segmentation", app.SETTINGS, lambda *parts: _counted(app.build(*parts), watch))


def _work(name: str, settings: type[Settings], build: Build) -> None:
    module = cast(ModuleType, SimpleNamespace(build=build, SETTINGS=settings))
    asyncio.run(Process(module, name, "worker", settings()).run())


def _decoding_service(watch: Stopwatch) -> Service:
    from benchmarks.peers import NEEDED

    decode = fast_decoder(Event[PurchaseRecorded], NEEDED).decode

    async def on_purchases(batch: Batch) -> None:
        for record in batch.records:
            if record.value is not None:
                decode(record.value)
        watch.saw(len(batch.records))

    return Service("bench-batched", {CUSTOMER_EVENTS: on_purchases}, APIRouter())


def _counted(service: Service, watch: Stopwatch) -> Service:
    """The service with its purchases counted when the handler returns, which is when they are scored and durable."""
    handle = service.listens[CUSTOMER_EVENTS]

    async def counting(batch: Batch) -> None:
        await handle(batch)
        watch.saw(len(batch.records))

    listens: dict[Any, Handler] = {**service.listens, CUSTOMER_EVENTS: counting}
    return replace(service, listens=listens)
