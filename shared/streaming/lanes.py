"""What requests send to one partition: whatever comes while a batch is under way goes together in the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from shared.streaming.errors import NotSent, Unavailable
from shared.streaming.records import Message

Send = Callable[[Sequence[Message]], Awaitable[list[NotSent | None]]]
"""Sends messages in order; what became of each."""


@dataclass(slots=True)
class _Parcel:
    """The messages of one caller, and what will have become of them."""

    messages: Sequence[Message]
    outcomes: asyncio.Future[list[NotSent | None]]


class Lane:
    """One partition's. A caller waits for at most one batch of others before his own, and never for other partitions."""

    def __init__(self, send: Send, linger_seconds: float) -> None:
        self._send, self._linger_seconds = send, linger_seconds
        self._waiting: list[_Parcel] = []
        self._running: asyncio.Task[None] | None = None

    def put(self, messages: Sequence[Message]) -> asyncio.Future[list[NotSent | None]]:
        """Have them sent. A caller who stops waiting takes nothing back."""
        loop = asyncio.get_running_loop()
        parcel = _Parcel(messages, loop.create_future())
        self._waiting.append(parcel)
        if self._running is None:
            self._running = loop.create_task(self._run())
        return parcel.outcomes

    async def _run(self) -> None:
        under_way: list[_Parcel] = []
        try:
            await asyncio.sleep(self._linger_seconds)
            while self._waiting:
                under_way, self._waiting = self._waiting, []
                away = _hand_out(under_way, await self._send([message for parcel in under_way for message in parcel.messages]))
                if away is not None:
                    # They would wait as long again, and be told the same.
                    self._give_up(away)
        finally:
            # Nobody waits for ever, whatever ended this.
            self._waiting = [*under_way, *self._waiting]
            self._give_up(Unavailable("it was not sent"))
            self._running = None

    def _give_up(self, why: Unavailable) -> None:
        parcels, self._waiting = self._waiting, []
        for parcel in parcels:
            _tell(parcel, [why] * len(parcel.messages))


def _hand_out(parcels: Sequence[_Parcel], outcomes: list[NotSent | None]) -> Unavailable | None:
    """Tell each caller what became of his own; returns why nothing went any more, where that was so."""
    begin = 0
    for parcel in parcels:
        end = begin + len(parcel.messages)
        _tell(parcel, outcomes[begin:end])
        begin = end
    last = outcomes[-1]
    return last if isinstance(last, Unavailable) else None


def _tell(parcel: _Parcel, outcomes: list[NotSent | None]) -> None:
    if not parcel.outcomes.done():
        parcel.outcomes.set_result(outcomes)
