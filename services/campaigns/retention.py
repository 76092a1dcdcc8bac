"""The kinds of data that campaigns keeps, and how each is let go of. The points ledger is money, and stays."""

from __future__ import annotations

from collections.abc import Mapping

from services.campaigns.store import offers
from shared.clock import Clock
from shared.retained import Retained
from shared.retention import Rule


def rules(clock: Clock) -> Mapping[Retained, Rule]:
    """All of them; which are used the settings say."""
    return {Retained.OFFERS: Rule(offers.retire, clock)}
