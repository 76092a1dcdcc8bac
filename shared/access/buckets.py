"""How often one key may ask: a bucket that fills steadily and is emptied by asking."""

from __future__ import annotations

import math

WINDOW_SECONDS = 10
"""A bucket holds what flows in within so long, so that a till may catch up after an outage."""


class Bucket:
    """Tokens for one key in one process. Time comes as seconds of any steady clock."""

    def __init__(self, rate: int, now: float) -> None:
        self.rate = rate
        self.size = rate * WINDOW_SECONDS
        self._tokens, self._at = float(self.size), now

    def take(self, now: float) -> float:
        """Take one token; the seconds to wait where there is none, and 0 where it was taken."""
        self._tokens = min(self.size, self._tokens + max(0.0, now - self._at) * self.rate)
        self._at = now
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self.rate

    def headers(self) -> list[tuple[bytes, bytes]]:
        """The fields of the IETF draft on rate limits: what there is, and how it fills."""
        full_in = math.ceil((self.size - self._tokens) / self.rate)
        return [
            (b"ratelimit-policy", b'"key";q=%d;w=%d' % (self.size, WINDOW_SECONDS)),
            (b"ratelimit", b'"key";r=%d;t=%d' % (self._tokens, full_in)),
        ]
