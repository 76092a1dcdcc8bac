"""The kinds of data that a retention rule may be about. One setting names them for all services; each takes those that it keeps."""

from __future__ import annotations

from enum import StrEnum


class Retained(StrEnum):
    """What may be let go once it was kept for long enough. What is not here is kept for ever, and docs/operations.md says why."""

    AUDIT = "audit"
    """Who read or changed what, in every service."""
    INTERACTIONS = "interactions"
    """What events of interactions-v1 say, in identity's timeline."""
    UPDATES = "updates"
    """What events of customer-updates-v1 say there; what follows from them stays."""
    OUTCOMES = "outcomes"
    """The bytes of what identity quarantined or parked."""
    PRIVACY_REQUESTS = "privacy_requests"
    """Requests that are done, with their proofs."""
    INACTIVE_CUSTOMERS = "inactive_customers"
    """Customers of whom nothing was heard: they are erased."""
    MESSAGES = "messages"
    """What messages said, and what readers did with them."""
    OFFERS = "offers"
    """What offers said, and the scores that were known when they were decided."""
    SCORE_HISTORY = "score_history"
    """How customers' scores were."""
