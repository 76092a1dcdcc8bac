"""Named errors of the stream.

StreamError
├── InvalidEvents   some events can never be applied: park them; all others of the batch were applied
├── Unavailable     a broker, database or peer is away: retry without end, never park
├── MessageTooLarge a message is larger than its topic takes: never retried for ever, the event that causes it is poison
└── Stuck           going on would lose or flood: the process leaves at once, and a new one starts from what was committed
"""

from __future__ import annotations

from dataclasses import dataclass


class StreamError(Exception):
    """What a handler may raise on purpose."""


@dataclass(frozen=True, slots=True)
class Reject:
    """One event to park: its offset in the batch's partition, a short reason that is counted, and a detail that is read."""

    offset: int
    reason: str
    detail: str


class InvalidEvents(StreamError):
    """These events of the batch can never be applied; all the others were."""

    def __init__(self, rejects: tuple[Reject, ...]) -> None:
        super().__init__(f"{len(rejects)} invalid event(s): {rejects[0].reason}: {rejects[0].detail}")
        self.rejects = rejects


class Unavailable(StreamError):
    """Something the handler needs is away for now."""


class MessageTooLarge(StreamError):
    """A message that the broker will never take. Sending it again is no way on."""


NotSent = Unavailable | MessageTooLarge
"""Why a message was not acknowledged."""


class Stuck(StreamError):
    """Nothing that this process can do next is right; only a new start helps."""
