"""Messages in groups that can go out side by side."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from services.notifications.domain.messages import Message


def slices(messages: Sequence[Message], size: int) -> list[list[Message]]:
    """Groups of at most `size`, in order, with each customer at most once in a group, so that caps can count what went before."""
    rounds: dict[int, list[Message]] = defaultdict(list)
    seen: dict[str, int] = defaultdict(int)
    for message in messages:
        rounds[seen[message.customer_id]].append(message)
        seen[message.customer_id] += 1
    return [one[start : start + size] for one in rounds.values() for start in range(0, len(one), size)]
