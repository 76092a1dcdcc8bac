"""Who is left alone, so that what the others were offered can be measured: a stable hash of the customer, for ever."""

from __future__ import annotations

import hashlib
from enum import StrEnum

GLOBAL_SHARE = 0.05
"""Held out from every program."""

_SALT = "dear-holdout-1"
"""Part of every assignment. Another salt would hold out other customers and end every measurement."""


class Holdout(StrEnum):
    """Which group keeps a customer from being offered something."""

    GLOBAL = "global_holdout"
    PROGRAM = "program_holdout"


def place(group: str, customer_id: str) -> float:
    """Where a customer stands in [0, 1) for a group: uniform over customers, the same for ever, and independent between groups."""
    digest = hashlib.sha256(f"{_SALT}\x1f{group}\x1f{customer_id}".encode()).digest()
    # 53 bits fit a float exactly, so the place is below 1 also for the largest hash.
    return (int.from_bytes(digest[:8], "big") >> 11) / (1 << 53)


def holdout(program: str, share: float, customer_id: str) -> Holdout | None:
    """The group that holds this customer out of a program, if any.

    Whoever is held out at one share is held out at every larger one, in all versions of the program.
    """
    if place("global", customer_id) < GLOBAL_SHARE:
        return Holdout.GLOBAL
    return Holdout.PROGRAM if place(f"program/{program}", customer_id) < share else None
