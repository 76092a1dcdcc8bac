"""Consents in force as bits of a row."""

from __future__ import annotations

from collections.abc import Iterable
from typing import get_args

from shared.contracts.customers import Channel, Consent, Purpose

CONSENTS = tuple(f"{purpose}/{channel}" for purpose in get_args(Purpose) for channel in get_args(Channel))
"""By bit: append, never reorder."""


def consent_bit(name: str) -> int:
    """The bit of a purpose and channel."""
    return 1 << CONSENTS.index(name)


def consent_bits(consents: Iterable[Consent]) -> int:
    """What is granted."""
    return sum({consent_bit(f"{each.purpose}/{each.channel}") for each in consents if each.granted})
