"""The kinds of data that identity keeps, and how each is let go of."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from services.identity import inactive
from services.identity.store import retention
from shared.clock import Clock
from shared.contracts.topics import CUSTOMER_UPDATES, INTERACTIONS
from shared.retained import Retained
from shared.retention import Rule


def rules(clock: Clock, wall: Clock) -> Mapping[Retained, Rule]:
    """All of them; which are used the settings say."""
    return {
        Retained.INTERACTIONS: Rule(partial(retention.empty_events, Retained.INTERACTIONS, INTERACTIONS.name), clock),
        Retained.UPDATES: Rule(partial(retention.empty_events, Retained.UPDATES, CUSTOMER_UPDATES.name), clock),
        Retained.OUTCOMES: Rule(retention.empty_outcomes, clock),
        Retained.PRIVACY_REQUESTS: Rule(retention.delete_requests, wall),
        Retained.INACTIVE_CUSTOMERS: Rule(partial(inactive.ask_for_erasures, clock, wall), clock),
    }
