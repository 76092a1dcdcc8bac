"""A service that counts purchases, writes them where the test can see it, and says when it starts and stops."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse

from shared.access.gate import needs
from shared.access.keyring import no_keys
from shared.access.scopes import Scope
from shared.clock import Clock
from shared.contracts.topics import INTERACTIONS, PURCHASES
from shared.service import Publisher, Service, Timer
from shared.settings import Settings
from shared.streaming.records import Batch, Message

SETTINGS = Settings


class Toy:
    """Keeps its diary in a file."""

    def __init__(self, publisher: Publisher, diary: Path) -> None:
        self._publisher, self._diary = publisher, diary
        self.api = APIRouter(dependencies=[needs(Scope.OPERATE)])
        self.api.post("/v1/purchases/{key}")(self.accept)
        self.api.get("/v1/broken")(self.break_down)
        self.api.get("/v1/endless", response_class=StreamingResponse)(self.go_on)
        self._hung_up = asyncio.Event()

    def _note(self, what: str) -> None:
        with self._diary.open("a") as diary:
            diary.write(what + "\n")

    async def accept(self, key: str, request: Request) -> dict[str, str]:
        await self._publisher.append(PURCHASES, Message(key.encode(), await request.body()))
        return {"accepted": key}

    async def break_down(self) -> None:
        raise ZeroDivisionError("somebody's telephone number")

    async def go_on(self) -> StreamingResponse:
        """Answers until the process leaves."""

        async def words() -> AsyncIterator[str]:
            yield "begun "
            await self._hung_up.wait()
            yield "ended"

        return StreamingResponse(words())

    def hang_up(self) -> None:
        self._hung_up.set()

    async def on_events(self, batch: Batch) -> None:
        for record in batch.records:
            self._note(f"handled {(record.key or b'').decode()}")

    async def on_tick(self) -> None:
        self._note("tick")

    async def start(self, topic_ids: Mapping[str, str]) -> None:
        self._note(f"start {len(topic_ids)}")

    async def stop(self) -> None:
        self._note("stop")


def build(publisher: Publisher, settings: Settings, clock: Clock) -> Service:
    """What the toy is made of."""
    toy = Toy(publisher, Path(os.environ["TOY_DIARY"]))
    listens = {PURCHASES: toy.on_events, INTERACTIONS: toy.on_events}
    return Service(
        "toy", listens, toy.api, timers=(Timer(0.5, toy.on_tick),), start=toy.start, learn_keys=no_keys, stop=toy.stop, hang_up=toy.hang_up
    )
